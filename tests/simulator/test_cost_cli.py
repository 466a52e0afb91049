"""`powsim cost`: a summary on stdout, words on stderr, a file of costs that is whole or not there."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from powsim.cli import run
from powsim_kernels import OrderGridWarning, PatePlan

VOTES = np.random.default_rng(0).multinomial(50, [0.6, 0.3, 0.06, 0.04], 500).astype(np.int16)
USERS = np.array([f"user {i % 13}" for i in range(500)])
ASKED = ["--teachers", "50", "--sigma", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("v.npz", votes=VOTES, who=USERS)
    np.save("v.npy", VOTES)
    column = pa.FixedSizeListArray.from_arrays(pa.array(VOTES.ravel()), 4)
    pq.write_table(pa.table({"votes": column, "who": USERS}), "v.parquet", row_group_size=100)
    return tmp_path


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the command and returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["cost", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def read(path: str) -> dict[str, list]:
    if path.endswith(".npz"):
        with np.load(path) as held:
            return {name: held[name].tolist() for name in held.files}
    table = pc.read_csv(path) if path.endswith(".csv") else pq.read_table(path)
    return {name: table[name].to_pylist() for name in table.column_names}


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_costs_stand_beside_the_votes(suffix: str, done: Any, here: Path) -> None:
    before = names(here)
    code, out, err = done(f"v.{suffix}", *ASKED)
    target = "v.costs.parquet" if suffix == "parquet" else "v.costs.npz"
    assert (code, names(here)) == (0, sorted([*before, target]))
    assert "queries               500" in out
    assert "Private: costs depend on private votes" in out
    assert f"costs of the queries in {target}" in err
    plan = PatePlan(50, 4, 2.0)
    columns = read(target)
    assert list(columns) == ["row", "log_q", "eps", "order", "eps_so_far"]
    assert columns["eps"] == pytest.approx(plan.eps(VOTES, 1e-5)[0], rel=1e-13)
    assert columns["eps_so_far"] == pytest.approx(plan.running_eps(VOTES, 1e-5), rel=1e-12)
    assert stat.S_IMODE((here / target).stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("suffix", ["npz", "parquet", "csv"])
def test_every_kind_of_output_holds_the_same(suffix: str, done: Any) -> None:
    code, out, _ = done(
        *("v.npz", *ASKED, "--identity", "who", "--threshold", "30", "--sigma1", "9", "--out", f"o.{suffix}"),
        *("--json", "--conversion", "classic", "--orders", "2,3,5,9,20"),
    )
    assert code == 0
    plan = PatePlan(50, 4, 2.0, (2, 3, 5, 9, 20), threshold=30.0, sigma1=9.0)
    columns = read(f"o.{suffix}")
    assert list(columns) == ["row", "identity", "log_q", "answered", "eps", "order", "eps_so_far"]
    assert columns["row"] == list(range(500))
    assert columns["identity"] == USERS.tolist()
    assert columns["eps"] == pytest.approx(plan.eps(VOTES, 1e-5, conversion="classic")[0], rel=1e-13)
    assert columns["answered"] == pytest.approx(np.exp(plan.log_pr_answered(VOTES)), rel=1e-13)
    document = json.loads(out)
    assert document["plan"]["orders"] == 5
    assert document["warning"].startswith("costs depend on private votes")
    assert document["costs"] == f"o.{suffix}"
    with pytest.warns(OrderGridWarning):
        total, _ = plan.rdp_to_eps(plan.total(VOTES), 1e-5, "classic")
    assert document["composed_eps"] == pytest.approx(float(total), rel=1e-12)
    assert len(document["identities"]) == 13
    one = document["identities"][0]
    mine, _ = plan.rdp_to_eps(plan.total(VOTES[one["identity"] == USERS]), 1e-5, "classic")
    assert one["composed_eps"] == pytest.approx(float(mine), rel=1e-12)


def test_summary_says_what_was_asked(done: Any, here: Path) -> None:
    before = names(here)
    code, out, err = done("v.parquet", *ASKED, "--identity", "who", "--no-save", "--no-clip", "--orders", "short")
    assert (code, names(here)) == (0, before)
    assert "GNMax, 50 teachers, 4 classes, sigma 2, not clipped; delta 1e-05, improved conversion, 26 orders" in out
    assert "dearest of 13 identities" in out
    assert "costs of the queries" not in err
    code, out, err = done("v.npy", "--teachers", "60", "--sigma", "3", "--mechanism", "lnmax", "--no-save")
    assert (code, "LNMax, 60 teachers" in out) == (0, True)
    assert "500 of 500 rows do not add up to --teachers 60" in err
    code, out, err = done("v.npy", *ASKED, "--no-save", "--orders", "8,9,10")
    assert "at the edge of --orders: with smaller ones (short starts at 1.25)" in err
    assert done("v.npy", *ASKED, "--no-save", "--backend", "reference")[0] == 0


def test_steering_characters_stay_text(done: Any) -> None:
    np.savez("v.npz", votes=VOTES[:3], who=np.array(["\x1b[31mred", "[red]x[/red]", "a\nb"]))
    code, out, _ = done("v.npz", *ASKED, "--identity", "who", "--no-save")
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert "[red]x[/red]" in out
    assert "a\\nb" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz", *ASKED], "cannot read 'none.npz': No such file"),
        (["v.npz", "--teachers", "10", "--sigma", "2"], "'v.npz', row 0: "),
        (["v.npz", *ASKED, "--key", "who"], "votes are integers or floats"),
        (["v.npz", *ASKED, "--identity", "whom"], "no array 'whom'"),
        (["v.npz", "--teachers", "50", "--sigma", "1e-9"], "sigma=1e-09 must lie between"),
        (["v.npz", "--teachers", "50"], "Missing option '--sigma'"),
        (["v.npz", "--sigma", "2"], "Missing option '--teachers'"),
        (["v.npz", "--teachers", "50", "--sigma", "nan"], "nan"),
        (["v.npz", *ASKED, "--delta", "0"], "--delta"),
        (["v.npz", *ASKED, "--orders", "2,x"], "long, short, or numbers"),
        (["v.npz", *ASKED, "--orders", "1"], "orders[0] = 1.0 is not a finite number above 1"),
        (["v.npz", *ASKED, "--orders", "2,2"], "stands twice"),
        (["v.npz", *ASKED, "--threshold", "20"], "give both or neither"),
        (["v.npz", *ASKED, "--screening", "exact"], "give threshold and sigma1"),
        (["v.npz", *ASKED, "--no-save", "--out", "x.npz"], "--no-save excludes"),
        (["v.npz", *ASKED, "--out", "x.txt"], "--out ends in one of .parquet, .npz, .csv"),
        (["v.npz", *ASKED, "--out", "v.npz", "--force"], "holds the votes themselves"),
        (["v.npz", *ASKED, "--out", "v.parquet"], "exists: choose another --out, or replace it with --force"),
        (["v.npz", *ASKED, "--out", "nowhere/x.npz"], "there is no folder "),
        (["v.parquet", *ASKED, "--identity", "who", "--out", "x.npz"], "choose a .parquet or .csv --out"),
        (["v.npz", *ASKED, "--backend", "cuda"], "cuda"),
    ],
)
def test_wrong_use_is_said_and_leaves_nothing(arguments: list[str], message: str, done: Any, here: Path) -> None:
    before = {name: (here / name).read_bytes() for name in names(here)}
    code, out, err = done(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert {name: (here / name).read_bytes() for name in names(here)} == before


def test_a_bad_row_late_in_the_file_leaves_no_costs(done: Any, here: Path) -> None:
    votes = np.tile(VOTES.astype(np.float32), (400, 1))
    votes[170_000, 1] = np.nan
    np.save("late.npy", votes)
    before = names(here)
    code, out, err = done("late.npy", *ASKED, "--orders", "short")
    assert (code, out, names(here)) == (2, "", before)
    assert "'late.npy', row 170000: " in err


def test_texts_that_are_no_unicode(done: Any, here: Path) -> None:
    np.savez("v.npz", votes=VOTES[:2], who=np.frombuffer("\ud800b".encode("utf-32-le", "surrogatepass"), "<U1"))
    before = names(here)
    code, _, err = done("v.npz", *ASKED, "--identity", "who", "--out", "o.parquet")
    assert (code, names(here)) == (2, before)
    assert "Error: 'v.npz': " in err
    assert "surrogate" in err


def test_an_older_file_is_replaced_only_with_force(done: Any) -> None:
    assert done("v.npz", *ASKED)[0] == 0
    old = Path("v.costs.npz").read_bytes()
    code, _, err = done("v.npz", "--teachers", "50", "--sigma", "3")
    assert (code, "exists" in err, Path("v.costs.npz").read_bytes() == old) == (2, True, True)
    assert done("v.npz", "--teachers", "50", "--sigma", "3", "--force")[0] == 0
    assert Path("v.costs.npz").read_bytes() != old


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_takes_nothing_is_said_before_any_work(done: Any, here: Path) -> None:
    here.chmod(0o555)
    try:
        code, _, err = done("v.npz", *ASKED)
    finally:
        here.chmod(0o755)
    assert (code, "Permission denied; choose another --out" in err) == (2, True)


def test_a_disk_that_is_full_keeps_nothing(done: Any, here: Path) -> None:
    np.save("long.npy", np.tile(VOTES, (100, 1)))
    before = names(here)
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)); from powsim.cli import main; main()"
    )
    for out in ("o.npz", "o.parquet", "o.csv"):
        command = [sys.executable, "-B", "-c", code, "cost", "long.npy", *ASKED, "--orders", "2,3,4", "--out", out]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 2, ended.stderr
        assert "File too large; nothing was kept" in ended.stderr
        assert names(here) == before


BUSY = ["--orders", ",".join(str(2 + i / 16) for i in range(1500))]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("out", ["o.npz", "o.parquet", "o.csv"])
def test_a_signal_ends_it_with_nothing_left(out: str, number: int, code: int, here: Path) -> None:
    np.save("long.npy", np.tile(VOTES, (4000, 1)))
    before = names(here)
    process = subprocess.Popen(
        [sys.executable, "-m", "powsim", "cost", "long.npy", *ASKED, *BUSY, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while names(here) == before and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(1.0)  # well inside the work
    process.send_signal(number)
    out_text, err = process.communicate(timeout=60)
    assert (process.returncode, out_text, names(here)) == (code, "", before)
    assert "interrupted; nothing half-written is left" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("call", ["LinkModules", "FinalizeObject"])
def test_a_signal_within_llvm_is_heard_when_llvm_is_done(
    call: str, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Python handles a signal that comes during a call right after it, before llvmlite notes who owns the module now.
    code = (
        "import os, signal, sys\n"
        "from llvmlite.binding import ffi\n"
        "from powsim.cli import main\n"
        f"real = ffi.lib.LLVMPY_{call}\n"
        "def interrupted(*a):\n"
        "    out = real(*a)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return out\n"
        f"ffi.lib._fntab['LLVMPY_{call}'] = interrupted\n"
        "main()\n"
    )
    np.save("short.npy", VOTES)
    before = names(here)
    command = [sys.executable, "-B", "-c", code, "cost", "short.npy", *ASKED, "--orders", "short", "--out", "o.npz"]
    fresh = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))
    }  # so that there is something to compile
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=fresh)
    assert (ended.returncode, names(here)) == (130, before), ended.stderr
    assert "interrupted; nothing half-written is left" in ended.stderr


def test_of_two_runs_at_once_one_wins_and_the_other_says_so(here: Path) -> None:
    np.save("long.npy", np.tile(VOTES, (200, 1)))
    command = [sys.executable, "-m", "powsim", "cost", "long.npy", *ASKED, "--orders", "short"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in runs]
    assert sorted(process.returncode for process in runs) == [0, 2, 2], errors
    assert all("exists" in e or "came while this run went on" in e for e in errors if "Error" in e)
    assert len(read("long.costs.npz")["eps"]) == 100_000
    assert not [name for name in names(here) if "partial" in name]


CHILD = """
import re, sys
from pathlib import Path
from powsim.cli import run
code = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its own peak memory")
@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_memory_does_not_grow_with_the_file(kind: str, here: Path) -> None:
    def peak_bytes(rows: int) -> int:
        name = f"m{rows}.{kind}"
        values = np.zeros((rows, 100), np.int16)
        values[:, 7] = 50
        if kind == "npy":
            np.save(name, values)
        elif kind == "npz":
            np.savez_compressed(name, votes=values)
        else:
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 100)
            options: dict[str, Any] = {"use_dictionary": False, "compression": "none"}
            pq.write_table(pa.table({"votes": column}), name, row_group_size=rows, **options)
        command = [sys.executable, "-c", CHILD, "cost", name, *ASKED, "--orders", "2,3,4", "--threads", "1"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return int(ended.stderr.split()[-1]) << 10

    small, large = peak_bytes(20_000), peak_bytes(600_000)  # 4 MB and 120 MB
    assert large - small < 40 << 20


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_a_folder_is_no_file_of_votes(path: str, done: Any, here: Path) -> None:
    before = names(here)
    code, out, err = done(path, *ASKED)
    assert (code, out, names(here)) == (2, "", before)
    assert "a folder, not a file" in err


@pytest.mark.parametrize("kind", ["e", "f", "g"])
def test_floats_of_every_length_are_priced_and_written_as_json(kind: str, done: Any) -> None:
    np.save("floats.npy", VOTES.astype(kind))
    code, out, err = done("floats.npy", *ASKED, "--json", "--no-save")
    assert code == 0, err
    assert json.loads(out)["rows"] == 500
