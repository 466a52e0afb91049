"""hashcat's output of versions 4 to 7, for people and machines, and what is not that: each with the known answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powsim import ScenarioError
from powsim.bench import hashcat, imported
from powsim.bench.hashcat import parse, read
from powsim.bench.machine import kind_of, slug
from powsim.devices import KINDS, catalogue

V4 = """hashcat (v4.2.1) starting in benchmark mode...

OpenCL Platform #1: NVIDIA Corporation
======================================
* Device #1: GeForce GTX 1070, 2029/8119 MB allocatable, 15MCU
* Device #2: GeForce GTX 1080, 2029/8119 MB allocatable, 20MCU

Hashmode: 900 - MD4

Speed.Dev.#1.....: 33.3 GH/s (50.00ms) @ Accel:256 Loops:1024 Thr:256 Vec:1

Hashmode: 1400 - SHA-256

Speed.Dev.#1.....:  2345.6 MH/s (70.00ms) @ Accel:256 Loops:128 Thr:256 Vec:1
Speed.Dev.#2.....:  2900.1 MH/s (70.00ms) @ Accel:256 Loops:128 Thr:256 Vec:1
Speed.Dev.#*.....:  5245.7 MH/s

Hashmode: 1410 - sha256($pass.$salt)

Speed.Dev.#1.....:  1111.1 MH/s (70.00ms) @ Accel:256 Loops:128 Thr:256 Vec:1
"""
V6 = """hashcat (v6.1.1) starting in benchmark mode...

* Device #1: CUDA SDK Toolkit not found, and a warning goes on.
             which fills a second line

CUDA API (CUDA 11.0)
====================
* Device #1: NVIDIA GeForce RTX 4090, 24209/24217 MB, 128MCU

OpenCL API (OpenCL 1.2 CUDA 11.0) - Platform #1 [NVIDIA Corporation]
====================================================================
* Device #2: NVIDIA GeForce RTX 4090, skipped

Benchmark relevant options:
===========================
* --optimized-kernel-enable

Hashmode: 100 - SHA1

Speed.#1.........: 50501.5 MH/s (42.00ms) @ Accel:64 Loops:512 Thr:512 Vec:1

Hashmode: 1400 - SHA2-256

Speed.#1.........: 21234.5 MH/s (85.95ms) @ Accel:16 Loops:1024 Thr:512 Vec:1

Started: Sat Jan  1 10:00:00 2022
"""
V626 = V6.replace("v6.1.1", "v6.2.6").replace("Hashmode: 100 - SHA1", "-----\n* Hash-Mode 100 (SHA1)\n-----")
V626 = V626.replace("Hashmode: 1400 - SHA2-256", "-----\n* Hash-Mode 1400 (SHA2-256)\n-----")
V7 = """hashcat (v7.1.2) starting in benchmark mode

CUDA API (CUDA 12.4)
====================
* Device #01: NVIDIA GeForce GTX 1050 Ti, 3504/4031 MB, 6MCU

OpenCL API (OpenCL 3.0 PoCL 6.0) - Platform #1 [The pocl project]
=================================================================
* Device #02: cpu-haswell-AMD FX(tm)-4300, with a comma, 6954/13909 MB (2048 MB allocatable), 4MCU

---------------------------
* Hash-Mode 1400 (SHA2-256)
---------------------------

Speed.#01........:   987.6 MH/s (94.91ms) @ Accel:288 Loops:1024 Thr:768 Vec:8
Speed.#02........: 55000.5 kH/s (15.50ms) @ Accel:1024 Loops:1024 Thr:1 Vec:8
Speed.#*.........:  1042.6 MH/s
"""
MACHINE = """# version: v6.2.6
# option: --optimized-kernel-enable
1:0:1911:5000:11.11:60000000000
1:100:1911:5000:22.22:20000000000
1:1400:1911:5000:45.23:2098000000
2:1400:-1:-1:45.23:3098000000
"""
NAME_4090 = "NVIDIA GeForce RTX 4090"


def speeds(text: str) -> list[tuple[int, str, float, int]]:
    return [(s.mode, s.device, s.high_hz, s.count) for s in parse(text).speeds]


KNOWN: list[tuple[str, str, str, list[tuple[int, str, float, int]]]] = [
    (
        "v4",
        V4,
        "v4.2.1",
        [
            (1400, "GeForce GTX 1070", 2345.6e6, 1),
            (1400, "GeForce GTX 1080", 2900.1e6, 1),
            (1400, "1x", 5245.7e6, 2),
        ],
    ),
    ("v6.1", V6, "v6.1.1", [(1400, NAME_4090, 21234.5e6, 1), (100, NAME_4090, 50501.5e6, 1)]),
    ("v6.2", V626, "v6.2.6", [(1400, NAME_4090, 21234.5e6, 1), (100, NAME_4090, 50501.5e6, 1)]),
    (
        "v7",
        V7,
        "v7.1.2",
        [
            (1400, "NVIDIA GeForce GTX 1050 Ti", 987.6e6, 1),
            (1400, "cpu-haswell-AMD FX(tm)-4300, with a comma", 55000.5e3, 1),
            (1400, "both", 1042.6e6, 2),
        ],
    ),
    (
        "machine",
        MACHINE,
        "v6.2.6",
        [
            (1400, "device 1", 2098e6, 1),
            (1400, "device 2", 3098e6, 1),
            (1400, "sum", 5196e6, 2),
            (100, "device 1", 20e9, 1),
        ],
    ),
]


@pytest.mark.parametrize(("text", "version", "expected"), [k[1:] for k in KNOWN], ids=[k[0] for k in KNOWN])
def test_every_version_is_read_to_the_digit(text: str, version: str, expected: list[Any]) -> None:
    found = parse(text)
    assert found.version == version
    assert len(found.speeds) == len(expected)
    for speed, (mode, device, rate, count) in zip(found.speeds, expected, strict=True):
        assert (speed.mode, speed.count) == (mode, count)
        assert speed.high_hz == pytest.approx(rate, rel=1e-12)
        assert speed.low_hz == speed.high_hz
        if count == 1:
            assert speed.device == device


def test_a_total_that_hashcat_does_not_print_is_added_up_and_says_so() -> None:
    whole = parse(MACHINE).speeds[2]
    assert whole.summed
    assert not parse(V4).speeds[2].summed


@pytest.mark.parametrize(
    ("unit", "factor"), [("H/s", 1), ("kH/s", 1e3), ("MH/s", 1e6), ("GH/s", 1e9), ("TH/s", 1e12), ("PH/s", 1e15)]
)
def test_units(unit: str, factor: float) -> None:
    text = f"Hashmode: 1400 - SHA2-256\n\nSpeed.#1.........:     12345 {unit} (1.00ms) @ Accel:1\n"
    assert parse(text).speeds[0].high_hz == pytest.approx(12345 * factor)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 10**14), min_size=1, max_size=5),
    st.sampled_from(["{d}:1400:{s}", "{d}:1400:1:{s}", "{d}:1400:1:2:3.45:{s}", "{d}:1400:1:2:3.45:6:7:8:{s}"]),
)
def test_lines_for_machines_of_any_version_end_in_the_speed(rates: list[int], form: str) -> None:
    lines = [form.format(d=number, s=rate) for number, rate in enumerate(rates, 1)]
    if form.count(":") < 3:  # two colons could be anything
        with pytest.raises(ScenarioError):
            parse("\n".join(lines))
        return
    found = parse("\n".join(lines)).speeds
    assert [s.high_hz for s in found if s.count == 1] == [float(rate) for rate in rates]
    if len(rates) > 1:
        assert found[-1].high_hz == pytest.approx(sum(rates))


def test_repeated_runs_give_a_range() -> None:
    text = V626 + V626.replace("21234.5", "20000.5") + V626.replace("21234.5", "20500.5")
    [sha256, sha1] = parse(text).speeds
    assert (sha256.low_hz, sha256.high_hz) == (20000.5e6, 21234.5e6)
    assert sha1.low_hz == sha1.high_hz == 50501.5e6


def test_the_speed_of_an_attack_in_the_same_log_is_no_benchmark() -> None:
    attack = "Session..........: hashcat\nHash.Mode........: 1400 (SHA2-256)\nSpeed.#1.........:  12.5 MH/s (1.00ms)\n"
    assert [s.high_hz for s in parse(V626 + attack).speeds] == [21234.5e6, 50501.5e6]
    with pytest.raises(ScenarioError, match="no line of a hashcat benchmark"):
        parse(attack)


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "crlf", "colour", "quoted"])
def test_files_as_shells_and_mails_write_them(form: str, tmp_path: Path) -> None:
    file = tmp_path / "hashcat.txt"
    if form == "crlf":
        content = V626.replace("\n", "\r\n").encode()
    elif form == "colour":
        content = V626.replace("Speed", "\x1b[32mSpeed").encode()
    elif form == "quoted":
        content = "".join(f"> {line}\n" for line in V626.splitlines()).encode()
    else:
        content = V626.encode(form)
    file.write_bytes(content)
    assert [s.high_hz for s in read(file).speeds] == [21234.5e6, 50501.5e6]
    assert {s.device for s in read(file).speeds} == {NAME_4090}


def test_two_machines_in_one_file_are_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"more than one machine.*RTX 4090.*RTX 3090"):
        parse(V626 + V626.replace("4090", "3090"))


REFUSED: list[tuple[str, bytes, str]] = [
    ("empty", b"", "is empty"),
    ("blank", b" \n\t\n", "is empty"),
    ("binary", bytes(range(256)) * 10, "is not text"),
    ("prose", b"nothing of that kind\n" * 100, "no line of a hashcat benchmark"),
    ("other modes", b"Hashmode: 0 - MD5\n\nSpeed.#1.........: 1.0 GH/s\n", "holds only mode 0"),
    ("many modes", b"".join(b"1:%d:1:1:1.0:5\n" % n for n in range(2000, 2050)), "2007 and 42 more"),
    ("cut", V626.split("1400")[0].split("Speed")[0].encode(), "mode 100 but no speed"),
    ("cut in the header", V4.split("1400")[0].encode(), "holds only mode 900"),
    ("cut in a number", b"Hashmode: 1400 - SHA2-256\nSpeed.#1.........: 212", "mode 1400 but no speed"),
    ("failed", b"* Hash-Mode 1400 (SHA2-256)\nSpeed.#1.........:        0 H/s (0.00ms)\n", "no speed above 0"),
    ("an attack", b"hashcat (v6.2.6) starting\nStatus...........: Cracked\n", "of no benchmark"),
]


@pytest.mark.parametrize(("content", "reason"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_no_such_benchmark_is_refused_saying_what_it_is_and_what_is_needed(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "hashcat.txt"
    file.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        read(file)
    text = str(caught.value)
    assert reason in text
    assert str(file) in text
    assert "hashcat -b -m 1400" in text
    assert len(text) < 1000


def test_what_is_huge_or_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "a folder"), (Path("\0"), "null")):
        with pytest.raises(ScenarioError, match=reason):
            read(path)
    monkeypatch.setattr(hashcat, "LARGEST", 1 << 20)
    (tmp_path / "huge").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(ScenarioError, match="longer than 1 MiB"):
        read(tmp_path / "huge")
    if Path("/dev/zero").exists():
        with pytest.raises(ScenarioError, match="is a device, not a file"):
            read(Path("/dev/zero"))


@settings(deadline=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("HhashmodeMsped.#*1400: -()GM/\n\t90>"), max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ScenarioError:
        return
    assert all(speed.high_hz >= speed.low_hz > 0 for speed in found.speeds)


def test_a_cut_file_keeps_what_is_whole_and_warns_of_the_rest() -> None:
    cut = parse(V626[: V626.index("Speed.#1.........: 21234")])
    assert [s.mode for s in cut.speeds] == [100]
    assert any("1400 has no speed" in warning for warning in cut.warnings)
    between = parse(V4[: V4.index("Speed.Dev.#2")])
    assert any("no speed of device 2" in warning for warning in between.warnings)
    zero = parse(V7.replace("55000.5 kH/s", "    0 H/s"))
    assert any("device 2 reached 0 H/s" in warning for warning in zero.warnings)
    for text in (V4, V6, V626, V7):
        assert parse(text).warnings == ()


def entries(
    text: str, tmp_path: Path, name: str | None = None, watts: float | None = None, usd: float | None = None
) -> Any:
    file = tmp_path / "hashcat.txt"
    file.write_text(text)
    return imported.entries(read(file), file, name, watts, usd)


def test_entries_carry_rates_families_and_where_the_watts_come_from(tmp_path: Path) -> None:
    sha256, sha1 = entries(V626, tmp_path)
    assert (sha256.name, sha1.name) == ("rtx-4090-hashcat", "rtx-4090-sha1")
    assert (sha256.family, sha1.family) == ("sha256-hashcash", "sha1-hashcash")
    assert (sha256.rate_low_hz, sha256.rate_high_hz, sha256.rate_from) == (21234.5e6, 21234.5e6, "measured")
    assert sha256.kind == "gpu-consumer"
    for device in (sha256, sha1):
        assert device.watts == catalogue()["rtx-4090"].watts
        assert device.watts_from == "assumed"
        assert "rtx-4090" in device.note
        assert "v6.2.6" in device.source
    assert imported.near(sha256)[0].name == "rtx-4090"
    assert imported.near(sha1) == []


def test_several_devices_are_several_entries_and_the_whole(tmp_path: Path) -> None:
    found = entries(V4.replace("1080", "1070"), tmp_path, watts=150.0, usd=0.1)
    assert [device.name for device in found] == ["gtx-1070-1", "gtx-1070-2", "2x-gtx-1070"]
    assert [device.kind for device in found] == ["gpu-consumer", "gpu-consumer", "gpu-node"]
    assert [device.watts for device in found] == [150.0, 150.0, 300.0]
    assert [device.usd_per_h for device in found] == [0.1, 0.1, 0.2]
    assert all("--watts" in device.note for device in found)
    named = entries(MACHINE, tmp_path, name="rig", watts=10.0)
    assert [device.name for device in named] == ["rig-1", "rig-2", "rig", "rig-sha1"]
    assert "added up" in named[2].note
    mixed = entries(V7, tmp_path)
    assert [device.name for device in mixed] == ["gtx-1050-ti", "haswell-amd-fx-4300", "all-devices"]
    assert [device.kind for device in mixed] == ["gpu-consumer", "desktop", "gpu-node"]
    assert mixed[2].watts == mixed[0].watts + mixed[1].watts


def test_no_two_entries_have_one_name(tmp_path: Path) -> None:
    text = V4.replace("GeForce GTX 1070", "Some GPU").replace("GeForce GTX 1080", "Some (R) GPU")
    names = [device.name for device in entries(text, tmp_path)]
    assert len(names) == len(set(names)) == 3


def test_sha1_alone_of_an_unknown_device_needs_its_watts(tmp_path: Path) -> None:
    text = "* Device #1: Obscure Chip, 1/2 MB, 3MCU\nHashmode: 100 - SHA1\nSpeed.#1.........: 1.0 GH/s (1.00ms)\n"
    with pytest.raises(ScenarioError, match="give --watts"):
        entries(text, tmp_path)
    [device] = entries(text, tmp_path, watts=75.0)
    assert (device.name, device.watts) == ("obscure-chip-sha1", 75.0)


MODELS = [
    ("NVIDIA GeForce RTX 4090", "gpu-consumer", "rtx-4090"),
    ("NVIDIA RTX 6000 Ada Generation", "gpu-consumer", "rtx-6000-ada-generation"),
    ("Intel(R) Arc(TM) A770 Graphics", "gpu-consumer", "intel-arc-a770"),
    ("AMD Radeon RX 7900 XT", "gpu-consumer", "amd-radeon-rx-7900-xt"),
    ("Apple M1 Pro", "gpu-consumer", "apple-m1-pro"),
    ("NVIDIA H100 80GB HBM3", "gpu-datacentre", "h100-80gb-hbm3"),
    ("NVIDIA A100-SXM4-40GB", "gpu-datacentre", "a100-sxm4-40gb"),
    ("NVIDIA A10G", "gpu-datacentre", "a10g"),
    ("NVIDIA L40S", "gpu-datacentre", "l40s"),
    ("Tesla T4", "gpu-datacentre", "tesla-t4"),
    ("AMD Instinct MI300X", "gpu-datacentre", "amd-instinct-mi300x"),
    ("Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz", "server-cpu", "intel-xeon-e5-2676-v3"),
    ("AMD EPYC 9634 84-Core Processor", "server-cpu", "amd-epyc-9634"),
    ("11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", "laptop", "11th-gen-intel-core-i7-1185g7"),
    ("Intel(R) Core(TM) i7-6700K CPU @ 4.00GHz", "desktop", "intel-core-i7-6700k"),
    ("AMD Ryzen 7 3700X 8-Core Processor", "desktop", "amd-ryzen-7-3700x"),
    ("AMD Ryzen 7 5800H with Radeon Graphics", "laptop", "amd-ryzen-7-5800h"),
    ("NVIDIA GeForce RTX 3070 Laptop GPU", "gpu-consumer", "rtx-3070-laptop-gpu"),
    ("pthread-Intel(R) Core(TM) i9-10885H CPU @ 2.40GHz", "laptop", "intel-core-i9-10885h"),
    ("", "desktop", ""),
    ("漢字 \x1b[31m", "desktop", "31m"),
]


@pytest.mark.parametrize(("model", "kind", "name"), MODELS, ids=[m[0] for m in MODELS])
def test_models_have_kinds_and_names(model: str, kind: str, name: str) -> None:
    assert kind_of(model) == kind
    assert slug(model) == name


@settings(deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_model_has_a_kind_and_a_name_that_fits_or_none(model: str) -> None:
    import re

    assert kind_of(model) in KINDS
    assert re.fullmatch(r"([a-z0-9][a-z0-9._-]*)?", slug(model))
