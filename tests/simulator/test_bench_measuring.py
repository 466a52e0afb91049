"""The arithmetic of measuring, on solvers of a known speed, by a clock that only they move."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powsim.bench import honest, run, solvers
from powsim.bench.measuring import (
    LONG,
    SHORT,
    Batch,
    Hard,
    Sample,
    Spread,
    WrongAnswer,
    challenge,
    check,
    hash_rate,
    in_turns,
    lowest_nonce,
    puzzle_rate,
)
from powsim.bench.outcome import Outcome, Prices, document
from powsim.bench.run import Plan
from powsim.bench.solvers import Solver
from powsim_kernels import BackendUnavailable, why_not

ONE = Solver("cpu:fake", 1, False)
ALL = Solver("cpu:fake", 4, True)
GPU = Solver("cuda:0", None, True)


@dataclass
class Result:
    """What `mine` returns, with an energy."""

    nonce: Any
    tries: Any
    found: Any
    joules: float | None


@dataclass
class Miner:
    """A solver with a clock of its own: `rates` hashes per second by threads, a set time per call."""

    rates: dict[int | None, float]
    call_s: float = 0.0
    chunk_s: float = 0.01
    off_by: int = 0  # added to every nonce
    now: float = 100.0
    watts: dict[int | None, float] = field(default_factory=dict)  # by threads; none: no counter
    calls: list[tuple[int, Any]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def __call__(
        self, rows: Any, bits: Any, *, backend: str, threads: int | None, start: Any = 0, cancel: Any = None
    ) -> Result:
        rows = [rows] if isinstance(rows, bytes) else rows
        self.calls.append((len(rows), threads))
        hardness = np.broadcast_to(np.asarray(bits), (len(rows),))
        starts = np.broadcast_to(np.asarray(start, np.uint64), (len(rows),))
        rate = self.rates[threads]
        began = self.now
        self.now += self.call_s
        nonce, tries = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.uint64)
        found = np.zeros(len(rows), bool)
        for row, message in enumerate(rows):
            if cancel is not None and cancel.is_set():
                break
            if hardness[row] == 64:
                while not cancel.is_set():
                    self.now += self.chunk_s
                    tries[row] += int(rate * self.chunk_s)
                continue
            at = int(starts[row])
            while int.from_bytes(hashlib.sha256(message + at.to_bytes(8, "big")).digest()[:8], "big") >> (
                64 - int(hardness[row])
            ):
                at += 1
            nonce[row], found[row], tries[row] = (at + self.off_by) % 2**64, True, at - int(starts[row]) + 1
            self.now += int(tries[row]) / rate
        watts = self.watts.get(threads)
        return Result(nonce, tries, found, None if watts is None else watts * (self.now - began))


def test_a_hard_puzzle_tells_the_rate_that_the_solver_has() -> None:
    miner = Miner({1: 5e6})
    sample = Hard(ONE, SHORT, miner, miner.clock)(0.1)
    assert sample.hashes / sample.seconds == pytest.approx(5e6, rel=1e-6)
    assert 0.1 <= sample.seconds <= 0.1 + 2 * miner.chunk_s
    assert sample.puzzles == 0


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_a_batch_tells_hashes_and_puzzles_and_counts_what_a_call_costs(length: int) -> None:
    quick, slow = Miner({1: 1e5}), Miner({1: 1e5}, call_s=0.05)
    job = Batch(ONE, length, 4, quick, quick.clock)
    samples = [job(0.1) for _ in range(6)][2:]
    assert hash_rate(samples).median == pytest.approx(1e5, rel=1e-3)
    assert puzzle_rate(samples).median == pytest.approx(1e5 / 16, rel=0.2)  # 2,500 puzzles: 6 % is 3 sigma
    job = Batch(ONE, length, 4, slow, slow.clock)
    samples = [job(0.1) for _ in range(6)][2:]
    assert 0.3e5 < hash_rate(samples).median < 0.8e5


def test_a_batch_grows_until_one_call_lasts_and_never_takes_one_puzzle_twice() -> None:
    miner = Miner({1: 2e5})
    job = Batch(ONE, SHORT, 2, miner, miner.clock)
    for _ in range(6):
        job(0.1)
    before = len(miner.calls)
    job(0.1)
    assert len(miner.calls) == before + 1
    assert miner.calls[-1][0] > 4096  # more than the different challenges: the rest have other starts
    assert 2e5 / 4 * 0.1 <= miner.calls[-1][0] <= 3 * 2e5 / 4 * 0.1


def test_a_liar_is_found_by_the_check_and_in_a_batch() -> None:
    for off_by in (1, -1):
        miner = Miner({1: 1e6}, off_by=off_by)
        with pytest.raises(WrongAnswer, match="cpu:fake"):
            check(ONE, miner)
    miner = Miner({1: 1e6}, off_by=1)
    with pytest.raises(WrongAnswer, match="12 bits"):
        Batch(ONE, SHORT, 12, miner, miner.clock)(0.5)


def test_who_finds_a_valid_nonce_that_is_not_the_lowest_is_refused_too() -> None:
    class Second(Miner):
        def __call__(self, rows: Any, bits: Any, **more: Any) -> Result:
            first = super().__call__(rows, bits, **more)
            return super().__call__(rows, bits, **{**more, "start": first.nonce + np.uint64(1)})

    with pytest.raises(WrongAnswer):
        check(ONE, Second({1: 1e6}))


def test_the_oracle_counts_leading_zero_bits() -> None:
    for bits in range(9):
        nonce = lowest_nonce(b"powsim", bits)
        texts = [
            f"{int(hashlib.sha256(b'powsim' + n.to_bytes(8, 'big')).hexdigest(), 16):0256b}" for n in range(nonce + 1)
        ]
        assert texts[-1].startswith("0" * bits)
        assert not any(text.startswith("0" * bits) for text in texts[:-1])


def test_challenges_differ_and_keep_the_nonce_where_the_default_layout_has_it() -> None:
    assert len({challenge(number, SHORT) for number in range(1000)}) == 1000
    assert (SHORT % 64 + 4) // 4 == (LONG % 64 + 4) // 4 == 12
    assert LONG // 64 == 5


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(0.5, 1e12), min_size=1, max_size=9))
def test_a_spread_holds_its_middle(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.low == min(values) <= spread.median <= max(values) == spread.high
    assert spread.unrest == pytest.approx(max(values) / min(values))


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 7))
def test_jobs_take_turns_there_and_back_with_equal_shares(jobs: int, repeats: int) -> None:
    order: list[tuple[int, float]] = []
    steps: list[int] = []

    def job(number: int) -> Any:
        def timed(seconds: float) -> Sample:
            order.append((number, seconds))
            return Sample(number + 1, 0, 1.0)

        return timed

    samples = in_turns({n: job(n) for n in range(jobs)}, 2.0, repeats, lambda: steps.append(1))
    assert len(steps) == len(order) == jobs * repeats
    assert {key: len(values) for key, values in samples.items()} == dict.fromkeys(range(jobs), repeats)
    assert all(seconds == pytest.approx(2.0 / repeats) for _, seconds in order)
    numbers = [number for number, _ in order]
    for turn in range(repeats):
        own = numbers[turn * jobs : (turn + 1) * jobs]
        assert own == (list(range(jobs)) if turn % 2 == 0 else list(range(jobs))[::-1])
    assert all(sample.hashes == key + 1 for key, values in samples.items() for sample in values)


@pytest.mark.parametrize(
    ("prices", "joules", "expected"),
    [
        (Prices(), None, None),
        (Prices(), 1e-9, None),
        (Prices(usd_per_hour=3.6), None, 0.001 * 2**40 / 1e9),
        (Prices(watts=100.0), None, None),
        (Prices(usd_per_kwh=0.2), None, None),
        # 100 W at 1e9 hashes/s: 1e-7 J a hash, 0.2 / 3.6e6 dollars a joule.
        (Prices(watts=100.0, usd_per_kwh=0.2), None, 1e-7 * 2**40 * 0.2 / 3.6e6),
        (Prices(watts=100.0, usd_per_kwh=0.2), 5e-8, 5e-8 * 2**40 * 0.2 / 3.6e6),  # a counter knows better
        (Prices(3.6, 100.0, 0.2), None, 0.001 * 2**40 / 1e9 + 1e-7 * 2**40 * 0.2 / 3.6e6),
        (Prices(usd_per_hour=0.0), None, 0.0),
    ],
)
def test_dollars_for_2_to_the_40(prices: Prices, joules: float | None, expected: float | None) -> None:
    found = prices.usd_per_2_40(1e9, joules)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


@pytest.fixture
def miner(monkeypatch: pytest.MonkeyPatch) -> Miner:
    """Return a miner; beside it there is one honest loop of 1,000 hashes/s, and two that fail."""
    miner = Miner({1: 5e4, 4: 1.5e5, None: 5e5})
    loop = honest.Loop("hashlib", lambda seconds: Sample(int(1000 * seconds), 0, seconds), "Python 3")
    broken = honest.Loop("webcrypto", None, None, "node is not there")

    def fails(seconds: float) -> Sample:
        raise honest.LoopFailed("node fell over")

    monkeypatch.setattr(honest, "loops", lambda: [loop, broken, honest.Loop("node-crypto", fails, "Node 20")])
    return miner


def outcome_of(plan: Plan, miner: Miner, found: list[Solver]) -> Outcome:
    return run.run(plan, lambda what, share: None, miner, found, miner.clock)


def test_a_whole_run_finds_the_rates_that_the_solvers_have(miner: Miner) -> None:
    shares: list[float] = []
    plan = Plan(0.2, 3, None, Prices(usd_per_hour=1.0))
    outcome = run.run(plan, lambda what, share: shares.append(share), miner, [ONE, ALL, GPU], miner.clock)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    for m, rate in zip(outcome.measured, (5e4, 1.5e5, 5e5), strict=True):
        for spread in (m.single_short, m.single_long, m.batch_short, m.batch_long):
            assert spread is not None
            assert spread.median == pytest.approx(rate, rel=0.02)
        assert m.puzzles_short is not None
        assert m.puzzles_short.low <= m.puzzles_short.median <= m.puzzles_short.high
        assert m.joules_per_hash is None
    assert [m.usd_per_2_40 is None for m in outcome.measured] == [True, False, False]
    assert outcome.measured[1].usd_per_2_40 == pytest.approx(2**40 / 1.5e5 / 3600, rel=0.02)
    assert outcome.best is not None
    assert outcome.best.solver == GPU
    assert [loop.why_not for loop in outcome.honest] == [None, "node is not there", "node fell over"]
    assert outcome.advantage(outcome.honest[0]) == pytest.approx(500, rel=0.02)
    assert outcome.advantage(outcome.honest[1]) is None


def test_solves_are_counted_where_they_can_be_and_computed_beyond(miner: Miner) -> None:
    outcome = outcome_of(Plan(0.2, 3), miner, [ONE, ALL, GPU])
    rows = document(outcome)["solves_per_s"]
    assert [(row["solver"], row["bits"]) for row in rows] == [
        (label, bits) for label in ("cpu:fake x4", "cuda:0") for bits in range(8, 33, 4)
    ]
    for row in rows:
        rate = {"cpu:fake x4": 1.5e5, "cuda:0": 5e5}[row["solver"]]
        expected = rate / 2 ** row["bits"]
        if row["from"] == "computed":
            assert row["per_s"] == pytest.approx(expected, rel=0.02)
            assert expected * 0.2 < 64  # what could have been counted was
        else:
            assert row["per_s"] == pytest.approx(expected, rel=0.6)  # 32 or more of them: 3.3 sigma
    assert (rows[0]["from"], rows[-1]["from"]) == ("measured", "computed")


def test_joules_are_what_the_solvers_counters_tell_and_else_unknown(miner: Miner) -> None:
    miner.watts = {1: 30.0, 4: 90.0, None: 500.0}
    plan = Plan(0.2, 2, None, Prices(usd_per_kwh=0.36))
    outcome = outcome_of(plan, miner, [ONE, ALL, GPU])
    for m, watts in zip(outcome.measured, (30.0, 90.0, 500.0), strict=True):
        assert m.watts == pytest.approx(watts, rel=0.02)
        assert m.joules_per_hash == pytest.approx(watts / m.rate_hz, rel=0.02)
    assert outcome.measured[2].usd_per_2_40 == pytest.approx(500 / 5e5 * 2**40 * 1e-7, rel=0.02)
    for nothing in ({}, {4: 0.0}):  # no counter, and one that stands still
        miner.watts = nothing
        [m] = outcome_of(plan, miner, [ALL]).measured
        assert m.watts is m.joules_per_hash is m.usd_per_2_40 is None


def test_a_wrong_solver_has_no_rate_and_the_others_have(miner: Miner) -> None:
    class Half(Miner):
        def __call__(self, rows: Any, bits: Any, **more: Any) -> Result:
            self.off_by = 1 if more["threads"] == 4 else 0
            return super().__call__(rows, bits, **more)

    miner.__class__ = Half
    outcome = outcome_of(Plan(0.05, 1), miner, [ONE, ALL])
    good, bad = outcome.measured
    assert good.wrong is None
    assert good.single_short is not None
    assert bad.wrong is not None
    assert "hashlib" in bad.wrong
    assert bad.single_short is None
    assert outcome.best is good
    assert document(outcome)["solvers"][1]["single_hashes_per_s"] == {"short": None, "long": None}


@pytest.mark.parametrize("late", [0, 12], ids=["at once", "later"])
def test_what_cannot_run_is_told_apart_from_what_is_wrong(miner: Miner, late: int) -> None:
    class Refuses(Miner):
        def __call__(self, rows: Any, bits: Any, **more: Any) -> Result:
            if more["threads"] != 1 and len(self.calls) >= late:
                raise BackendUnavailable("no driver" if more["threads"] else "backend 'cuda' failed its self-test: x")
            return super().__call__(rows, bits, **more)

    miner.__class__ = Refuses
    good, absent, wrong = outcome_of(Plan(0.05, 2), miner, [ONE, ALL, GPU]).measured
    assert (good.wrong, good.why_not) == (None, None)
    assert good.single_short is not None
    assert (absent.wrong, absent.why_not, absent.single_short) == (None, "no driver", None)
    assert (wrong.wrong, wrong.why_not) == ("backend 'cuda' failed its self-test: x", None)


def test_a_solver_that_warms_up_by_a_plain_loop_is_timed_when_it_is_warm(miner: Miner) -> None:
    class Cold(Miner):
        """Slower than any hashlib loop for its first second, 20 times as fast then."""

        def __call__(self, rows: Any, bits: Any, **more: Any) -> Result:
            self.rates = {1: 1e3 if self.now < 101.0 else 1e8}
            return super().__call__(rows, bits, **more)

    miner.__class__ = Cold
    solver = run._warm_and_check(ONE, miner, miner.clock, 1e6)
    assert solver is None
    assert miner.now >= 101.0
    assert miner.rates == {1: 1e8}
    miner.__class__, miner.rates, miner.now = Miner, {1: 1e3}, 0.0  # one that stays slow is not waited for
    assert run._warm_and_check(ONE, miner, miner.clock, 1e6) is None
    assert run.WARM_S < miner.now < run.WARM_S + 10


def test_a_solver_that_lies_only_later_loses_its_rates_again(miner: Miner) -> None:
    class Later(Miner):
        def __call__(self, rows: Any, bits: Any, **more: Any) -> Result:
            self.off_by = 1 if len(self.calls) > 12 else 0
            return super().__call__(rows, bits, **more)

    miner.__class__ = Later
    [only] = outcome_of(Plan(0.5, 4), miner, [ONE]).measured
    assert only.wrong is not None
    assert only.single_short is None


def test_this_machines_solvers_are_known_names_once_with_one_and_all_threads() -> None:
    found = solvers.solvers(2)
    assert found
    cpu = [solver for solver in found if not solver.gpu]
    assert {solver.threads for solver in cpu} == {1, 2}
    assert len({(solver.backend, solver.threads) for solver in found}) == len(found)
    assert all(solver.whole == (solver.threads in (2, None)) for solver in found)
    assert any(solver.gpu for solver in found) == (why_not("cuda") is None and bool(solvers.gpus()))
    assert [s.whole for s in solvers.solvers(1) if not s.gpu] == [True] * (len(cpu) // 2)


def test_the_kernels_say_which_paths_there_are_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = importlib.import_module("powsim_kernels.sha256.cpu")
    monkeypatch.setattr(kernels, "paths", lambda: ["cpu:new", "cpu:old"], raising=False)
    monkeypatch.setattr(solvers, "gpus", lambda: ["cuda:0"])
    assert [s.label for s in solvers.solvers(3)] == ["cpu:new x1", "cpu:new x3", "cpu:old x1", "cpu:old x3", "cuda:0"]
    monkeypatch.setattr(solvers, "gpus", lambda: ["cuda:0", "cuda:1"])
    assert [s.label for s in solvers.solvers(1)] == ["cpu:new x1", "cpu:old x1", "cuda:0", "cuda:1", "cuda"]


def test_gpus_are_counted_until_one_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "runs", lambda backend: backend in ("cuda:0", "cuda:1"))
    monkeypatch.setattr(solvers, "why_not", lambda backend: None)
    assert solvers.gpus() == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(solvers, "why_not", lambda backend: "no driver")
    assert solvers.gpus() == []


def test_what_cannot_run_is_no_solver() -> None:
    def refuses(*arguments: Any, backend: str, **more: Any) -> None:
        raise {"a": BackendUnavailable("no"), "b": ValueError("unknown")}[backend]

    assert not solvers.runs("a", refuses)
    assert not solvers.runs("b", refuses)
    assert solvers.runs("reference")
