"""The questions of gpu_sha.md section 9 answered from a check's results; prediction and measurement side by side."""

from __future__ import annotations

from typing import Any

ENOUGH = 0.9
"""Share of the counted rate below which item 4 of the checklist asks for a profile."""


def answers(found: dict[str, Any]) -> dict[str, object]:
    """Return {question: answer} for what was measured; a section that failed leaves its questions out."""
    result: dict[str, object] = {}
    if "operations_per_clock" in found.get("pipes", {}):
        probes = found["pipes"]["operations_per_clock"]
        both, mix = probes["shf_imad"]["measured"], probes["sha_mix"]["measured"]
        result["1 do the two pipes overlap"] = f"SHF + IMAD {both} per clock (yes: 125, no: 64), mix {mix} of 102"
        result["1 is the high half of a product half rate"] = f"{probes['imad_hi']['measured']} per clock, 32 expected"
    rows = found.get("rates", {}).get("rows", [])
    if rows:
        clocks = sorted(row["clock_hz"] / 1e9 for row in rows)
        result["2 clock under load, GHz"] = f"{clocks[0]:.3f} to {clocks[-1]:.3f}; the model takes 1.98 for an H100 SXM"
    if "wrong" in found.get("correctness", {}):
        wrong = found["correctness"]["wrong"]
        result["3 is every answer right"] = "yes" if not wrong else f"no: {', '.join(wrong)}"
    for word in dict.fromkeys(row["word"] for row in rows):
        best = max((row for row in rows if row["word"] == word), key=lambda row: float(row["hashes_per_s"]))
        result[f"3 best at word {word}"] = (
            f"{best['variant']}: {best['hashes_per_s'] / 1e9:.3g} GH/s, {best['share_of_counted']:.0%} of the counted "
            f"{best['counted_hashes_per_s'] / 1e9:.3g}"
        )
    if rows:
        low = [f"{row['variant']} at {row['word']}" for row in rows if row["share_of_counted"] < ENOUGH]
        result["4 below 90 % of the counted rate, to be profiled with ncu"] = ", ".join(low) or "none"
    result["5 shared schedule"] = "not offered: the nonce has a fixed length, the message stays in one block"
    reference = max((row["hashes_per_s"] for row in rows if row["word"] == 12), default=None)
    for row in found.get("batches", {}).get("rows", []):
        share = "" if reference is None else f", {row['useful_hashes_per_s'] / reference:.0%} of one hard puzzle"
        result[f"6 {row['puzzles']} puzzles of {row['bits']} bits"] = (
            f"{row['puzzles_per_s']:.3g} per second, {row['useful_hashes_per_s'] / 1e9:.3g} useful GH/s{share}, "
            f"{row['wrong']} wrong"
        )
    energy = [row for row in rows if row["j_per_gh"] is not None]
    if energy:
        best = min(energy, key=lambda row: float(row["j_per_gh"]))
        watts = best["under_load"]["watts"]
        result["7 energy"] = f"{best['j_per_gh']:.3g} J per GH at {watts} W ({best['variant']}, word {best['word']})"
    elif rows:
        result["7 energy"] = "not told: NVML is absent (pip install nvidia-ml-py) or the device does not count joules"
    result["8 sampler"] = "runs within the ledgers, see 10"
    if "rows" in found.get("pate", {}):
        wrong, copied = found["pate"]["wrong"], found["pate"]["copy_bytes_per_s"]
        result["9 is every PATE answer right"] = "yes" if not wrong else f"no: {', '.join(wrong)}"
        for row in found["pate"]["rows"]:
            result[f"9 PATE {row['name']}"] = (
                f"{row['rows_per_s'] / 1e9:.3g} G rows/s, {row['share_of_copy']:.0%} of the {copied / 1e12:.3g} TB/s "
                "that a copy moves"
            )
    if "rows" in found.get("ledgers", {}):
        wrong = found["ledgers"]["wrong"]
        result["10 have ledgers the reference's bits"] = "yes" if not wrong else f"no: {', '.join(wrong)}"
        for row in found["ledgers"]["rows"]:
            result[f"10 ledgers, {row['name']}"] = (
                f"{row['queries_per_s']:.3g} queries/s, {row['puzzles_per_s']:.3g} puzzles/s"
                + _beside_cpu(row["times_cpu"], found["ledgers"])
            )
    return result


def _beside_cpu(times: float | None, section: dict[str, Any]) -> str:
    """Return the ratio to the CPU twin in words."""
    if times is None:
        return f"; not compared with the CPU: {section['cpu']}"
    return f", {times:.3g}x the {section['cpu_threads']} CPUs of this machine"


def all_right(found: dict[str, Any]) -> bool:
    """Return whether every section ran and no answer was wrong."""
    if any("error" in section for section in found.values() if isinstance(section, dict)):
        return False
    if found["pate"]["wrong"] or found["ledgers"]["wrong"]:
        return False
    return not found["correctness"]["wrong"] and not any(row["wrong"] for row in found["batches"]["rows"])
