"""One scenario in every way it can be cut and shared out: the same integers and the same histograms, bin by bin."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from powsim.scenario import Scenario, load_scenario
from powsim.sweeps import streaming
from powsim.sweeps.executors import Serial, processes
from powsim.sweeps.run import sweep
from powsim.sweeps.spec import load_sweep
from powsim.sweeps.store import Store
from powsim.sweeps.streaming import simulate_totals
from powsim.totals import GroupTotals
from powsim_kernels.ledgers import simulate_ledgers
from sweeping import SCENARIO, SWEEP, write

Exact = dict[str, tuple[dict[str, int], dict[str, list[tuple[int, int]]]]]
THREADS, CHUNKS, SPLITS = (1, 2), (64, 128, 1 << 18), (1, 2, 3, 5)
POLICIES = ("as-published", "calibrated", "load", "decay", "own_policies:OwnCalibrated")


def exact(parts: list[dict[str, GroupTotals]]) -> Exact:
    """Return every count and every bin of the parts' sum, by group."""
    whole = {name: sum((part[name] for part in parts), GroupTotals()) for name in parts[0]}
    return {
        name: (
            one.counts,
            {
                what: list(zip(histogram.bins.tolist(), histogram.counts.tolist(), strict=True))
                for what, histogram in one.histograms.items()
            },
        )
        for name, one in whole.items()
    }


def scenario(folder: Path, policy: str) -> Scenario:
    write(folder, scenario=SCENARIO.replace('"fixed"\nbits = 20.0', f'"{policy}"'))
    own = ("population.web.think_s=1.0", "population.web.starts_within_s=9e4", "population.web.drift_sd=0.3")
    return load_scenario(folder / "s.toml", list(own))


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_chunks_and_splits_change_no_integer_and_no_bin(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, found = scenario(tmp_path, policy), list[Exact]()
    for threads, chunk, split in itertools.product(THREADS, CHUNKS, SPLITS):
        monkeypatch.setattr(streaming, "simulate_ledgers", functools.partial(simulate_ledgers, chunk=chunk))
        monkeypatch.setattr(streaming, "ROWS", chunk)
        found.append(exact([simulate_totals(made, threads=threads, part=(k, split)) for k in range(split)]))
    assert found[0]["web"][0]["identities"] == 203
    assert found[0]["web"][0]["hashes"] > 10**6
    assert all(one == found[0] for one in found)


@contextlib.contextmanager
def dask() -> Iterator[Executor]:
    from distributed import Client

    with Client(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, set_as_default=False
    ) as client:
        yield client.get_executor(pure=False)


EXECUTORS: dict[str, Any] = {
    "serial": lambda: contextlib.nullcontext(Serial()),
    "processes": lambda: processes(2),
    "dask": dask,
}


@pytest.mark.parametrize("who", EXECUTORS)
def test_executors_change_no_integer_and_no_bin(who: str, tmp_path: Path) -> None:
    if who == "dask" and importlib.util.find_spec("distributed") is None:
        pytest.skip("distributed is not installed: run `pip install 'powsim[cluster]'`")
    file = write(tmp_path, SWEEP)
    with EXECUTORS[who]() as executor:
        sweep(file, tmp_path / "out", executor=executor)
    store = Store(tmp_path / "out")
    for point in load_sweep(file).points:
        shards = [store.read(point, k, 4) for k in range(4)]
        assert exact(shards) == exact([simulate_totals(point.scenario, seed=point.seed)])
