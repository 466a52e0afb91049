"""`powsim sweep`, `status` and `merge` as processes: killed, interrupted, watched, and with workers that die."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from powsim.report.sweeps import points_table
from powsim.report.terminal import fits
from powsim.sweeps.executors import VISIBLE, cuda_devices, processes
from powsim.sweeps.run import sweep
from powsim.text import factor, share, small
from powsim_kernels import BackendUnavailable
from sweeping import SWEEP, command, halves, merged_bytes, seen_device, shard_files, write

LONG = SWEEP.replace("shards = 4", "shards = 60")
"""A sweep of several seconds, for tests that end it."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def wait_for(what: Any, seconds: float = 60.0, pause: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)


def test_a_sweep_prints_a_line_per_point_and_says_where_it_is(done: Any, here: Path) -> None:
    code, out, _ = done("sweep", "sweep.toml")
    assert code == 0
    points = json.loads(Path("powsim-sweeps/bits/merged.json").read_text())["points"]
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:6] == ["point", "bits", "p95", "interval", "2x", "slowdown,"]
    for point, bits in zip(points, ("16.0", "20.0"), strict=True):
        web, *thefts = (group["headlines"] for group in point["groups"])
        theft = min(thefts, key=lambda one: one["slowdown"]["value"])
        row = next(line for line in lines if line and line[0] == point["id"][:4])
        assert row[1] == bits
        assert row[2:5] == [
            factor(web["slowdown_p95"]["value"]),
            f"{factor(web['slowdown_p95']['low'])}–{factor(web['slowdown_p95']['high'])}",
            share(web["share_above_2x"]["value"]),
        ]
        assert row[5:] == [factor(theft["slowdown"]["value"]), f"${small(theft['cost_usd']['value'])}"]
    assert "python-hashlib" not in out
    assert done("merge", "powsim-sweeps/bits")[1] == out


def test_the_table_of_points_keeps_to_the_window_and_names_the_least_slowed_attack_where_it_is_narrow(
    here: Path,
) -> None:
    text = Path("s.toml").read_text()
    for number in range(6):
        text += (
            f'\n[campaign.attack-number-{number}]\ntrace = "mixmatch"\nqueries = {64 * (number + 1)}\n'
            'devices = ["rtx-4090"]\nreplicas = 2\n'
        )
    Path("s.toml").write_text(text)
    merged = sweep("sweep.toml", "o")
    wide, narrow = (points_table(merged, width) for width in (200, 80))
    assert [str(column.header).splitlines()[0] for column in wide.columns][-7:] == [
        "theft",
        *(f"attack-number-{n}" for n in range(6)),
    ]
    assert str(narrow.columns[-1].header).splitlines()[0] == "least slowed"
    least = min(
        (group for group in merged.points[0].groups if group.role == "campaign"),
        key=lambda group: group.headlines["slowdown"].value,
    )
    assert next(iter(narrow.columns[-1].cells)).startswith(f"{least.name.partition('/')[0]} ")
    assert fits(narrow, 80)


def test_a_sweep_in_full_prints_a_table_per_point(done: Any, here: Path) -> None:
    short = done("sweep", "sweep.toml")[1]
    code, out, err = done("sweep", "sweep.toml", "--full")
    assert code == 0
    assert out.startswith(short)
    for text in ("1/2 ", "2/2 ", "policy.bits=16.0", "policy.bits=20.0", "theft/rtx-4090/x4", "95 % intervals"):
        assert text in out
    assert out.count("python-hashlib") == 2
    assert "8 shards in " in err
    assert "powsim-sweeps/bits" in err
    code, text, _ = done("sweep", "sweep.toml", "--json")
    assert code == 0
    assert json.loads(text) == json.loads(Path("powsim-sweeps/bits/merged.json").read_text())
    code, text, _ = done("merge", "powsim-sweeps/bits", "--json")
    assert json.loads(text) == json.loads(Path("powsim-sweeps/bits/merged.json").read_text())
    assert done("merge", "powsim-sweeps/bits", "--full")[1] == out


def test_the_merged_table_has_the_swept_keys_as_columns(done: Any, here: Path) -> None:
    import pyarrow.parquet as pq

    assert done("sweep", "sweep.toml", "--out", "o")[0] == 0
    rows = pq.read_table("o/merged.parquet").to_pylist()
    document = json.loads(Path("o/merged.json").read_text())
    assert {row["policy.bits"] for row in rows} == {16.0, 20.0}
    assert len(rows) == sum(len(g["headlines"]) for p in document["points"] for g in p["groups"])
    found = {
        (row["point"], row["group"], row["headline"] + (f"/{row['device']}" if row["device"] else "")): row
        for row in rows
    }
    for point in document["points"]:
        for group in point["groups"]:
            for name, headline in group["headlines"].items():
                row = found[point["id"], group["name"], name]
                assert {key: row[key] for key in headline} == headline
                assert (row["simulated"], row["shards"], row["role"]) == (group["simulated"], 4, group["role"])


def test_differences_are_printed_against_a_point(done: Any, here: Path) -> None:
    done("sweep", "sweep.toml", "--out", "o")
    first, second = (point["id"] for point in json.loads(Path("o/merged.json").read_text())["points"])
    code, out, _ = done("merge", "o", "--against", first[:6])
    assert code == 0
    assert f"Differences from {first}" in out
    assert "paired shards" in out
    assert "policy.bits=20.0" in out
    code, out, _ = done("merge", "o", "--against", first, "--json")
    assert {row["point"] for row in json.loads(out)["differences"]} == {second}
    code, out, err = done("merge", "o", "--against", "zz")
    assert (code, out) == (2, "")
    assert "0 points have an id" in err


def test_status_of_what_is_done_stopped_and_nothing(done: Any, here: Path) -> None:
    code, out, err = done("status", "o")
    assert (code, out) == (2, "")
    assert "o holds no sweep" in err
    done("sweep", "sweep.toml", "--out", "o")
    assert done("status", "o")[1] == "bits: 8 of 8 shards (100 %), 2 of 2 points whole\ndone\n"
    gone = shard_files(Path("o"))[3]
    gone.unlink()
    left = next(point for point in (one.name for one in Path("o/points").iterdir()) if point != gone.parent.name)
    code, out, _ = done("status", "o")
    assert code == 0
    assert out.startswith("bits: 7 of 8 shards (87 %), 1 of 2 points whole\nstopped: run the same")
    code, out, _ = done("status", "o", "--json")
    assert (json.loads(out)["state"], json.loads(out)["shards_done"]) == ("stopped", 7)
    code, out, err = done("merge", "o")
    assert code == 1
    assert "cannot be read: No such file" in err
    assert "1 points are not whole" in err
    assert [line[:4] for line in out.partition("\n\n")[0].splitlines()][1::2] == ["poin", left[:4]]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["sweep"], "name a sweep file"),
        (["sweep", "none.toml"], "shipped sweeps: "),
        (["sweep", "s.toml"], "mistakes"),
        (["sweep", "sweep.toml", "--until", "fast"], "is no goal"),
        (["sweep", "sweep.toml", "--max-shards", "9"], "needs --until"),
        (["sweep", "sweep.toml", "--workers", "0"], "0"),
        (["sweep", "sweep.toml", "--workers", "2", "--dask", "tcp://127.0.0.1:1"], "exclude each other"),
        (["sweep", "sweep.toml", "--out", "s.toml"], "is a file"),
        (["sweep", "sweep.toml", "--out", "."], "which no sweep wrote"),
        (["merge", "."], "holds no sweep"),
        (["status"], "DIR"),
    ],
)
def test_wrong_use_ends_with_2_and_words_and_changes_nothing(
    arguments: list[str], why: str, done: Any, here: Path
) -> None:
    code, out, err = done(*arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert sorted(path.name for path in here.iterdir()) == ["s.toml", "sweep.toml"]


def test_shipped_sweeps_are_listed_and_shown(done: Any, here: Path) -> None:
    code, out, _ = done("sweep", "--list")
    assert code == 0
    assert out.startswith("tradeoff ")
    code, out, _ = done("sweep", "tradeoff", "--show")
    Path("mine.toml").write_text(out)
    assert done("sweep", "mine.toml", "--show")[1] == out


def test_a_goal_that_is_not_reached_is_told(done: Any, here: Path) -> None:
    code, _, err = done("sweep", "sweep.toml", "--until", "hours@web +-0.01%", "--max-shards", "5")
    assert code == 2  # finer than the histograms, which a sum does not use; the same limit for all
    code, _, err = done("sweep", "sweep.toml", "--until", "hours@web +-1%", "--max-shards", "5")
    assert code == 0
    assert "2 of 2 points did not reach hours@web +-1% in 5 shards" in err


def test_status_is_read_from_elsewhere_while_the_sweep_runs(done: Any, here: Path) -> None:
    write(here, LONG)
    with command("sweep", "sweep.toml", "--out", "o", "--workers", "2") as process:
        try:
            wait_for(lambda: len(shard_files(Path("o"))) > 5)
            code, out, _ = done("status", "o", "--json")
            found = json.loads(out)
            assert code == 0
            assert found["state"] == "running"
            assert found["pid"] == process.pid
            assert 5 < found["shards_done"] < found["shards"] == 120
            assert found["shards_per_s"] > 0
            assert found["left_s"] == pytest.approx((120 - found["shards_done"]) / found["shards_per_s"], rel=1e-6)
            lines = done("status", "o")[1].splitlines()
            assert re.fullmatch(rf"running as process {process.pid} on .*; .* shards/s, about .* left", lines[1])
            assert done("sweep", "sweep.toml", "--out", "o")[0] == 2  # one at a time
        finally:
            process.kill()
    assert done("status", "o")[1].splitlines()[1].startswith("stopped")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupted_sweep_says_how_to_go_on_and_leaves_whole_shards(number: int, workers: str, here: Path) -> None:
    write(here, LONG)
    with command("sweep", "sweep.toml", "--out", "o", "--workers", workers) as process:
        wait_for(lambda: len(shard_files(Path("o"))) > 3)
        children = psutil.Process(process.pid).children(recursive=True)
        begin = time.monotonic()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: the workers get it too
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert process.returncode == 128 + number
    assert out == ""
    words = re.search(r"(\d+) of 120 shards are whole in o; the same command goes on from there", err)
    assert words, err
    assert int(words[1]) in (len(shard_files(Path("o"))), len(shard_files(Path("o"))) - 1)
    assert "Traceback" not in err
    assert not halves(Path("o"))
    assert not Path("o/running.json").exists()
    wait_for(lambda: not any(child.is_running() for child in children))


def test_workers_of_a_killed_sweep_end_by_themselves(here: Path) -> None:
    write(here, LONG)
    with command("sweep", "sweep.toml", "--out", "o", "--workers", "2") as process:
        wait_for(lambda: len(shard_files(Path("o"))) > 3)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
    assert len(children) >= 2
    try:
        wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    finally:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def test_a_killed_worker_costs_its_shard_and_the_sweep_goes_on(here: Path) -> None:
    sweep("sweep.toml", "one")
    with command("sweep", "sweep.toml", "--out", "two", "--workers", "2") as process:
        wait_for(lambda: len(shard_files(Path("two"))) > 0)
        for child in psutil.Process(process.pid).children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                break
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert merged_bytes(Path("one")) == merged_bytes(Path("two"))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills"), [("1", 20), ("2", 5)])
def test_kills_at_random_moments_and_the_result_has_the_same_bytes(workers: str, kills: int, here: Path) -> None:
    write(here, LONG)
    sweep("sweep.toml", "one")
    moments, out = random.Random(int(workers)), Path("two")
    for _ in range(kills):
        more = moments.randrange(5)  # shards written before the kill; 0: somewhere in the start
        with command("sweep", "sweep.toml", "--out", "two", "--workers", workers) as process:
            if more:
                target = len(shard_files(out)) + more
                wait_for(lambda target=target: len(shard_files(out)) >= target, pause=0.001)
            time.sleep(moments.uniform(0, 0.05 if more else 1.0))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert kills < len(shard_files(out)) < 120
    with command("sweep", "sweep.toml", "--out", "two", "--workers", workers) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "done again" not in err
    assert len(shard_files(Path("two"))) == 120
    assert merged_bytes(Path("one")) == merged_bytes(Path("two"))
    assert not halves(Path("two"))


def test_each_worker_sees_one_device_of_its_own() -> None:
    """A fake of three GPUs: the workers of the pool hold different ones, and keep them."""
    with processes(1, ["0", "GPU-8f6d", "2"]) as pool:
        found: set[tuple[int, str | None]] = set()
        end = time.monotonic() + 60
        while len(found) < 3 and time.monotonic() < end:  # a worker may start late
            found |= {future.result() for future in [pool.submit(seen_device, 0.1) for _ in range(6)]}
        for _ in range(3):
            found |= {future.result() for future in [pool.submit(seen_device, 0.1) for _ in range(6)]}
    assert sorted(device or "" for _, device in found) == ["0", "2", "GPU-8f6d"]


def test_devices_are_those_that_cuda_may_see() -> None:
    assert cuda_devices({}, lambda: 3) == ["0", "1", "2"]
    assert cuda_devices({VISIBLE: "2, GPU-8f6d"}, lambda: 9) == ["2", "GPU-8f6d"]
    for environment, count in (({}, 0), ({VISIBLE: ""}, 2), ({VISIBLE: "-1"}, 2)):
        with pytest.raises(BackendUnavailable, match="no CUDA device"):
            cuda_devices(environment, lambda count=count: count)


def test_a_backend_that_cannot_run_here_is_told_before_anything_is_written(here: Path) -> None:
    from powsim_kernels import why_not

    if why_not("cuda") is None:
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendUnavailable, match="cannot run"):
        sweep("sweep.toml", "o", backend="cuda")
    with pytest.raises(BackendUnavailable):
        sweep("sweep.toml", "o", dask="tcp://127.0.0.1:9")
    assert not Path("o").exists()
