"""A sweep on a Dask cluster of two workers, started for real on loopback, one of them killed on the way."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from powsim.sweeps.run import sweep
from sweeping import SWEEP, command, merged_bytes, shard_files, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None,
        reason="distributed is not installed: run `pip install 'powsim[cluster]'`",
    ),
]

Cluster = tuple[str, list[subprocess.Popen[bytes]], subprocess.Popen[bytes]]
WORKER = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--death-timeout", "30")


def dask(*arguments: str, folder: Path, log: str) -> subprocess.Popen[bytes]:
    """Return a started `dask ARGUMENTS`, its words in a file."""
    file = (folder / log).open("wb")
    with file:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], stdout=file, stderr=file, cwd=folder, env=os.environ.copy()
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Yield the scheduler's address, two workers without nannies, which would start a killed one again, and it."""
    pytest.importorskip("distributed.cli")
    scheduler = dask(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", folder=tmp_path, log="scheduler.log"
    )
    workers: list[subprocess.Popen[bytes]] = []
    try:
        address = None
        end = time.monotonic() + 60
        while address is None:
            assert time.monotonic() < end, (tmp_path / "scheduler.log").read_text()
            time.sleep(0.1)
            address = re.search(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)", (tmp_path / "scheduler.log").read_text())
        where = address[1]
        workers += [
            dask("worker", where, "--no-nanny", *WORKER, folder=tmp_path, log=f"worker{number}.log")
            for number in range(2)
        ]
        yield where, workers, scheduler
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_two_workers_one_killed_and_the_same_bytes(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, SWEEP.replace("shards = 4", "shards = 60"))
    address, workers, _ = cluster
    where = ("sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "two"), "--dask", address)
    with command(*where) as process:
        end = time.monotonic() + 120
        while len(shard_files(tmp_path / "two")) < 10:
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        logs = [(tmp_path / f"worker{number}.log").read_text() for number in range(2)]
        assert all("Registered to" in log for log in logs)
        workers[0].kill()
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    sweep(tmp_path / "sweep.toml", tmp_path / "one")
    assert merged_bytes(tmp_path / "one") == merged_bytes(tmp_path / "two")
    assert len(shard_files(tmp_path / "two")) == 120


def test_a_cluster_that_is_lost_ends_the_sweep_with_words_and_what_is_whole_is_kept(
    cluster: Cluster, tmp_path: Path
) -> None:
    write(tmp_path, SWEEP.replace("shards = 4", "shards = 60"))
    address, _, scheduler = cluster
    where = ("sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "two"))
    with command(*where, "--dask", address) as process:
        end = time.monotonic() + 120
        while len(shard_files(tmp_path / "two")) < 5:
            assert time.monotonic() < end
            time.sleep(0.02)
        scheduler.kill()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "run the same command to go on" in err
    assert "Traceback" not in err, err
    sweep(tmp_path / "sweep.toml", tmp_path / "two")
    sweep(tmp_path / "sweep.toml", tmp_path / "one")
    assert merged_bytes(tmp_path / "one") == merged_bytes(tmp_path / "two")
