"""Sweeps: nothing is lost, repeated or mixed, whoever simulates the shards."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import powsim
from powsim.edge import ScenarioError
from powsim.engine import simulate
from powsim.groups import groups_of
from powsim.results import OutputError
from powsim.sweeps import shard, store
from powsim.sweeps.run import Progress, sweep
from powsim.sweeps.spec import load_sweep
from powsim.totals import totals_of
from sweeping import SCENARIO, SWEEP, halves, merged_bytes, shard_files, write

WRITER = """
import powsim
def tell(text):
    print(text)
if __name__ == "__main__":
    {before}
    powsim.sweep("sweep.toml", "out", tell=tell)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sweep that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    sweep(write(folder), folder / "out")
    return folder / "out"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path)


def again(file: Path, folder: Path, **more: Any) -> tuple[list[str], int]:
    """Run a sweep; return what it said and how many shards it simulated."""
    said, seen = [], []
    sweep(file, folder, tell=said.append, progress=seen.append, **more)
    return said, seen[-1].shards_done - seen[0].shards_done


def test_a_sweep_is_a_plain_loop_of_simulate(file: Path, whole: Path) -> None:
    """Each point's counts are those of one whole run of its scenario."""
    document = json.loads((whole / "merged.json").read_text())
    assert [point["values"] for point in document["points"]] == [{"policy.bits": 16.0}, {"policy.bits": 20.0}]
    for point in document["points"]:
        made = powsim.load_scenario("s.toml", [f"{key}={value}" for key, value in point["values"].items()])
        assert point["scenario_id"] == made.id
        result = simulate(made)
        for group, outcome, row in zip(groups_of(made), result.outcomes, point["groups"], strict=True):
            assert row["counts"] == totals_of(group, outcome).counts
            assert row["name"] == group.name


def test_a_finished_sweep_simulates_nothing_and_changes_no_byte(file: Path, whole: Path) -> None:
    assert again(file, Path("out")) == ([], 8)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in shard_files(Path("out"))}
    assert again(file, Path("out")) == ([], 0)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in shard_files(Path("out"))} == before
    assert merged_bytes(Path("out")) == merged_bytes(whole)
    assert not halves(Path("out"))
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        ["manifest.json", "merged.json", "merged.parquet", "points", "sweep.toml"]
    )
    assert Path("out/sweep.toml").read_text() == SWEEP


@pytest.mark.parametrize("how", ["threads", "processes", "one thread", "two threads"])
def test_whoever_simulates_the_result_has_the_same_bytes(how: str, file: Path, whole: Path) -> None:
    if how == "threads":
        with ThreadPoolExecutor(3) as pool:
            sweep(file, "out", executor=pool)
    elif how == "processes":
        sweep(file, "out", workers=2)
    else:
        sweep(file, "out", threads=1 if how == "one thread" else 2)
    assert merged_bytes(Path("out")) == merged_bytes(whole)


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_every_split_gives_the_same_integers_and_quantiles(shards: int, tmp_path: Path, whole: Path) -> None:
    file = write(tmp_path, SWEEP.replace("shards = 4", f"shards = {shards}"))
    sweep(file, tmp_path / "out")
    one, other = (json.loads((folder / "merged.json").read_text()) for folder in (tmp_path / "out", whole))
    for a, b in zip(one["points"], other["points"], strict=True):
        assert a["id"] == b["id"]
        for x, y in zip(a["groups"], b["groups"], strict=True):
            assert x["counts"] == y["counts"]
            for name, headline in x["headlines"].items():
                if "order statistics" in headline["kind"]:
                    assert headline == y["headlines"][name]
                assert headline["value"] == pytest.approx(y["headlines"][name]["value"], rel=1e-12)
                assert headline["kind"] == y["headlines"][name]["kind"]


KILLS = {
    "before the first write": (0, "open"),
    "after a few shards, before the write": (6, "open"),
    "between write and flush": (7, "fsync"),
    "between flush and rename": (8, "replace"),
    "while the merged table is written": (12, "replace"),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_between_two_steps_of_a_write_costs_the_shard_in_flight(moment: str, file: Path, whole: Path) -> None:
    after, step = KILLS[moment]
    target = {"open": "Path.open", "replace": "Path.replace", "fsync": "os.fsync"}[step]
    before = f"""import os, signal, pathlib
    from pathlib import Path
    true, seen = {target}, []
    def dying(*arguments, **named):
        if {step!r} == "fsync" or ".partial-" in str(arguments[0]):
            seen.append(1)
            if len(seen) > {after}:
                os.kill(os.getpid(), signal.SIGKILL)
        return true(*arguments, **named)
    {target} = dying"""
    Path("script.py").write_text(WRITER.format(before=before))
    died = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    written = len(shard_files(Path("out")))
    said, simulated = again(file, Path("out"))
    assert said == []
    assert simulated == 8 - written
    assert merged_bytes(Path("out")) == merged_bytes(whole)
    assert not halves(Path("out"))


def damaged(path: Path, how: str, other: Path) -> None:
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("no parquet")
    elif how == "another shard's":
        path.write_bytes(other.read_bytes())
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        place = int(how) if int(how) >= 0 else len(content) + int(how)
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])


@pytest.mark.parametrize("how", ["empty", "truncated", "text", "another shard's", "60", "300"])
def test_a_shard_that_is_not_what_was_written_is_named_and_done_again(how: str, file: Path, whole: Path) -> None:
    sweep(file, "out")
    paths = shard_files(Path("out"))
    damaged(paths[5], how, paths[6])
    before = paths[5].read_bytes()
    lost: list[str] = []
    merged = powsim.merge("out", tell=lost.append)
    assert len(merged.points) == 1
    assert len(merged.missing) == 1
    assert str(paths[5]) in lost[0]
    assert paths[5].read_bytes() == before  # looking changes nothing
    said, simulated = again(file, Path("out"))
    assert simulated == 1
    assert len(said) == 1
    assert str(paths[5]) in said[0]
    assert said[0].endswith("it is done again")
    assert merged_bytes(Path("out")) == merged_bytes(whole)


@pytest.mark.parametrize("column", ["count", "value", "bin", "name"])
def test_a_sound_parquet_file_with_another_number_in_it_is_noticed(column: str, file: Path, whole: Path) -> None:
    sweep(file, "out")
    path = shard_files(Path("out"))[2]
    table = pq.read_table(path)
    values = table[column].to_numpy().copy()
    values[[0, -1]] += 1
    changed = table.set_column(
        table.schema.get_field_index(column), column, pa.array(values, table.schema.field(column).type)
    )
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    said, simulated = again(file, Path("out"))
    assert simulated == len(said) == 1
    assert "does not hold what was written" in said[0]
    assert merged_bytes(Path("out")) == merged_bytes(whole)


def test_every_flipped_byte_of_a_shard_is_noticed_or_harmless(file: Path) -> None:
    """A flip that is not noticed leaves the totals as they were."""
    sweep(file, "out")
    [point, *_] = load_sweep(file).points
    content = store.Store(Path("out")).place(point.id, 0, 4).read_bytes()
    expected = shard.about(point.scenario, point.seed, 0, 4)
    true, unnoticed = shard.decoded(content, expected), 0
    for place in range(0, len(content), 37):
        flipped = content[:place] + bytes([content[place] ^ 0x04]) + content[place + 1 :]
        try:
            found = shard.decoded(flipped, expected)
        except shard.ShardError:
            continue
        unnoticed += 1
        assert {name: (one.counts, one.sums) for name, one in found.items()} == {
            name: (one.counts, one.sums) for name, one in true.items()
        }
    assert unnoticed < len(content) // 37 // 2


def test_a_shard_of_another_version_is_done_again(file: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "__version__", "0.0.9")
    sweep(file, "out")
    monkeypatch.undo()
    os.chdir(file.parent)
    said, simulated = again(file, Path("out"))
    assert simulated == len(said) == 8
    assert "is of powsim 0.0.9, not" in said[0]
    assert merged_bytes(Path("out")) == merged_bytes(whole)


def test_a_changed_scenario_starts_anew_and_the_old_shards_stay_apart(file: Path, whole: Path) -> None:
    sweep(file, "out")
    old = {path: path.read_bytes() for path in shard_files(Path("out"))}
    (file.parent / "s.toml").write_text(SCENARIO.replace("identities = 203", "identities = 204"))
    assert again(file, Path("out")) == ([], 8)
    assert {path: path.read_bytes() for path in old} == old
    document = json.loads(Path("out/merged.json").read_text())
    assert [point["groups"][0]["identities"] for point in document["points"]] == [204] * 2
    write(file.parent)  # as it was: everything is still there
    assert again(file, Path("out")) == ([], 0)
    assert merged_bytes(Path("out")) == merged_bytes(whole)


def test_another_seed_or_another_file_of_the_scenario_is_another_point(file: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from powsim.policy import Fixed\nclass Own(Fixed):\n    pass\n")
    text = SWEEP.replace("[grid]", '[set]\n"policy.name" = "own.py:Own"\n[grid]')
    ids = []
    for change in (text, text.replace("shards = 4", "shards = 4\nseed = 9"), text):
        write(tmp_path, change)
        ids.append([point.id for point in load_sweep(file).points])
    (tmp_path / "own.py").write_text("from powsim.policy import Fixed\nclass Own(Fixed):\n    '''Other.'''\n")
    ids.append([point.id for point in load_sweep(file).points])
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1])
    assert not set(ids[0]) & set(ids[3])


def test_a_sweep_in_use_is_left_alone_and_a_dead_one_taken_over(file: Path, whole: Path) -> None:
    sweep(file, "out")
    running = Path("out/running.json")
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "born": store._born(os.getpid()), "started": 0.0}
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        gone.wait()
    for holder, free in (
        (mine, False),
        ({**mine, "host": "another-machine"}, False),
        ({**mine, "pid": gone.pid}, True),
        ({**mine, "born": 1.0}, True),  # the number was given to another process since
    ):
        running.write_text(json.dumps(holder))
        if free:
            sweep(file, "out")
            assert not running.exists()
        else:
            with pytest.raises(OutputError, match=f"in use by process {holder['pid']} on {holder['host']}"):
                sweep(file, "out")
            assert json.loads(running.read_text()) == holder
    assert merged_bytes(Path("out")) == merged_bytes(whole)


def test_two_sweeps_at_once_that_ignore_the_lock_still_mix_nothing(
    file: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.Store, "lock", lambda self: contextlib.nullcontext())
    monkeypatch.setattr(store.Store, "tidy", lambda self: None)
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: sweep(file, file.parent / "out"), range(2)))
    assert merged_bytes(Path("out")) == merged_bytes(whole)


def test_a_disk_that_takes_no_more_leaves_no_half_and_the_next_run_goes_on(file: Path, whole: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write out/.*File too large; no half of it was left"):
            sweep(file, "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not halves(Path("out"))
    assert not Path("out/running.json").exists()
    assert again(file, Path("out"))[0] == []
    assert merged_bytes(Path("out")) == merged_bytes(whole)


@pytest.mark.parametrize("writes", [0, 3, 6, 11])
def test_a_full_disk_at_any_write(writes: int, file: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true, seen = os.fsync, []

    def full(handle: int) -> None:
        seen.append(handle)
        if len(seen) > 2 * writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        true(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device") as told:
        sweep(file, "out")
    assert "partial" not in str(told.value)  # a name that nobody knows
    assert not halves(Path("out"))
    monkeypatch.setattr(os, "fsync", true)
    written = len(shard_files(Path("out")))
    assert again(file, Path("out")) == ([], 8 - written)
    assert merged_bytes(Path("out")) == merged_bytes(whole)


def test_folders_that_cannot_be_a_sweeps_are_refused_and_left_as_they_are(file: Path) -> None:
    Path("taken").write_text("a file")
    Path("full").mkdir()
    Path("full/data").write_text("mine")
    powsim_run = Path("results")
    powsim_run.mkdir()
    (powsim_run / "manifest.json").write_text('{"format": "powsim-results-1"}')
    for folder, why in (
        ("taken", "is a file"),
        ("full", "holds data, which no sweep wrote"),
        ("results", "its format is powsim-results-1"),
        ("taken/below", "Not a directory"),
        ("a\0b", "null"),
    ):
        before = sorted(map(str, file.parent.rglob("*")))
        with pytest.raises((OutputError, ValueError), match=why):
            sweep(file, folder)
        assert sorted(map(str, file.parent.rglob("*"))) == before


def test_points_that_cannot_be_simulated_are_told_at_the_end_and_the_others_kept(file: Path) -> None:
    file.write_text(SWEEP.replace("[16.0, 20.0]", "[58.0, 20.0]"))
    with pytest.raises(ScenarioError) as caught:
        sweep(file, "out", tell=lambda text: None)
    assert [m.path for m in caught.value.mistakes] == ["point policy.bits=58.0"]
    assert "2^58 hashes" in str(caught.value)
    assert len(json.loads(Path("out/merged.json").read_text())["points"]) == 1


def test_a_scenario_file_that_changes_under_a_sweep_stops_its_points(file: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from powsim.policy import Fixed\nclass Own(Fixed):\n    pass\n")
    file.write_text(SWEEP.replace("[grid]", '[set]\n"policy.name" = "own.py:Own"\n[grid]'))
    [point, *_] = load_sweep(file).points
    (tmp_path / "own.py").write_text("from powsim.policy import NoPuzzle as Own\n")
    with pytest.raises(ValueError):
        shard.simulated(shard.task_of(point, 0, 4, "auto", 1))


def test_progress_rises_to_one(file: Path) -> None:
    seen: list[Progress] = []
    sweep(file, "out", progress=seen.append)
    assert [one.shards_done for one in seen] == list(range(9))
    assert {one.shards for one in seen} == {8}
    assert all(one.shards_per_s > 0 for one in seen[1:])
    assert seen[-1].left_s == 0
