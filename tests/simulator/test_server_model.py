"""The gate's model: against SimPy, against theory, by brute force, and attack by attack."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from oracles import simpy_gate
from powsim.arrivals import Draws, Poisson
from powsim.devices import catalogue
from powsim.server import FORGED, MINT, REPLAYED, SOLVED, WRONG, Messages, Server
from powsim.server.attacks import SHIPPED, Hoard, InvalidFlood, Replays, UnsolvedChallenges
from powsim.server.costs import Costs
from powsim.server.model import DROPPED, RATE, SERVICE, SOLVE, Replica, _challenges, _policed, run_replica

COSTS = Costs(handling_s=0.01, mint_s=0.02, check_s=0.03, verify_s=0.05, drop_s=0.001, entry_bytes=200.0)
HONEST, SENDER = Draws(1, 0), Draws(2, 0)
LEVEL = 1e-4


def server(**more: Any) -> Server:
    given = {
        "arrivals": Poisson(2.0),
        "seconds": 400.0,
        "warm_up_s": 0.0,
        "servers": 2,
        "gate_servers": 1,
        "room": None,
        "time_out_s": np.inf,
        "retries": 0,
        "back_off_s": 1.0,
        "growth": 2.0,
        "service_s": 0.7,
        "law": "exponential",
        "costs": COSTS,
        "bits": 10.0,
        "sub_puzzles": 1,
        "rate_low_hz": 500.0,
        "rate_high_hz": 2000.0,
        "expiry_s": 60.0,
        "table": None,
    }
    return Server(**(given | more))


def flood(rate: float = 3.0, seconds: float = 400.0) -> Messages:
    rng = np.random.default_rng(3)
    time = np.sort(rng.uniform(0, seconds, int(rate * seconds)))
    return Messages(time, rng.integers(0, 5, len(time)).astype(np.uint8), 1e6)


@pytest.mark.parametrize("gate_servers", [1, 2, None])
@pytest.mark.parametrize("attacked", [False, True])
@pytest.mark.parametrize("more", [{}, {"room": 3, "time_out_s": 0.8}, {"check_first": False, "seen_store": False}])
def test_the_waits_of_the_honest_are_those_that_simpy_plays(
    gate_servers: int | None, attacked: bool, more: dict[str, Any]
) -> None:
    here = server(gate_servers=gate_servers, seconds=150.0, **more)
    sent = flood(4.0, 150.0) if attacked else None
    got = run_replica(here, HONEST, sent, SENDER)
    asked = here.arrivals.times(HONEST, here.seconds)
    n = len(asked)
    solving = here.tries(HONEST, SOLVE, n, 1)[:, 0] / (500.0 * 4.0 ** HONEST.uniform(RATE, n))
    model = 0.7 * HONEST.exponential(SERVICE, n)
    handled, mint, check, verify = 0.01, 0.01 + 0.02, 0.01 + 0.03, 0.01 + 0.03 + 0.05
    forged = check if here.check_first else verify
    events: list[tuple[float, int, float, float | None, int]] = []
    for j in range(n):
        events.append((asked[j], 1, mint, None, j))
        late = solving[j] > here.expiry_s
        events.append((asked[j] + solving[j], 1, forged if late else verify, None if late else model[j], j))
    if sent is not None:
        answered = [k == SOLVED or (k == REPLAYED and not here.seen_store) for k in sent.kind]
        theirs = iter(0.7 * SENDER.exponential(SERVICE, sum(answered)))
        cost = {MINT: mint, FORGED: forged, WRONG: verify, REPLAYED: verify, SOLVED: verify}
        for time, kind, answer in zip(sent.time_s, sent.kind, answered, strict=True):
            events.append((time, 0, cost[int(kind)], next(theirs) if answer else None, -1))
    assert handled < mint
    events.sort(key=lambda event: event[0])
    played = simpy_gate([event[:4] for event in events], gate_servers, 2, here.room or 10**9, here.time_out_s)
    waits, lost = np.zeros(n), np.zeros(n, bool)
    for (_, honest, *_, j), (first, second) in zip(events, played, strict=True):
        if honest:
            lost[j] |= first is None
            waits[j] += (first or 0.0) + second
    late = solving > here.expiry_s
    np.testing.assert_allclose(got.wait_s, waits[~lost & ~late], rtol=0, atol=1e-11)
    assert got.fates.sum() == n
    assert got.fates[0] == (~lost & ~late).sum()
    assert got.fates[3] == late.sum()
    if "room" in more and attacked:
        assert lost.sum() > 5


def means(values: list[float]) -> tuple[float, float]:
    sample = np.array(values)
    return float(sample.mean()), float(sample.std(ddof=1)) / len(sample) ** 0.5


def close(values: list[float], truth: float, precision: float) -> None:
    mean, error = means(values)
    assert error < precision * truth
    assert abs(mean - truth) < stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * error


@pytest.mark.parametrize("law", ["exponential", "constant"])
def test_a_free_gate_leaves_an_m_g_1_queue(law: str) -> None:
    free = Costs(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    here = server(servers=1, service_s=0.35, law=law, costs=free, expiry_s=1e6, seconds=12_000.0, warm_up_s=400.0)
    done = [run_replica(here, Draws(7, r), None, SENDER) for r in range(40)]
    rho = 0.7
    exact = 0.35 * rho / (1 - rho) * (1.0 if law == "exponential" else 0.5)
    close([float(one.wait_s.mean()) for one in done], exact, 0.03)
    # Solutions come later than challenges, so a little of the window's work lies behind it.
    close([one.busy for one in done], rho, 0.01)


def test_an_invalid_flood_turns_the_gate_into_an_m_d_1_queue_of_two_kinds() -> None:
    # Pollaczek and Khinchine for the mixture of honest mints, honest solutions and forged ones.
    # Solving takes 40 s, so that the two messages of a request do not meet in the queue.
    here = server(arrivals=Poisson(1.0), servers=500, seconds=8000.0, warm_up_s=400.0, expiry_s=1e6, bits=15.0)
    here = replace(here, check_first=False)
    rates, works = np.array([1.0, 1.0, 6.0]), np.array([0.03, 0.09, 0.09])
    rho = float(rates @ works)
    exact = 2 * float(rates @ works**2) / 2 / (1 - rho)  # two waits for the gate, none for 500 servers
    attack = InvalidFlood(6.0)
    done = []
    for r in range(40):
        sender = Draws(9, r)
        sent = attack.messages(here, catalogue()["rtx-4090"], sender)
        done.append(run_replica(here, Draws(8, r), sent, sender))
    close([float(one.wait_s.mean()) for one in done], exact, 0.03)
    close([one.attack_s for one in done], 6.0 * 0.09, 0.01)
    close([one.gate_busy for one in done], rho, 0.01)


def test_the_honest_come_at_the_same_instants_whatever_the_attack() -> None:
    here = server(servers=10_000, gate_servers=10_000)
    for sent in (None, flood()):
        one = run_replica(here, HONEST, sent, SENDER)
        assert np.all(one.wait_s == 0)
        assert one.fates.tolist() == run_replica(here, HONEST, None, Draws(77, 5)).fates.tolist()


def test_who_comes_back_to_a_busy_gate_is_served_later_and_the_wait_counts_from_the_first_coming() -> None:
    once = server(seconds=200.0, time_out_s=0.3, servers=50)
    again = replace(once, retries=4, back_off_s=0.5)
    sent = InvalidFlood(19.0).messages(once, catalogue()["rtx-4090"], SENDER)
    one, two = (run_replica(here, HONEST, sent, SENDER) for here in (once, again))
    assert two.fates[0] > one.fates[0]
    assert one.fates[2] > two.fates[2] > 0
    # Three waits of a request that never came back end within its patience each.
    assert one.wait_s.max() <= 0.9
    assert two.wait_s.max() > 0.3 + 0.5


def test_warm_up_is_not_counted() -> None:
    whole, late = (run_replica(server(warm_up_s=w), HONEST, None, SENDER) for w in (0.0, 300.0))
    assert 0 < late.fates.sum() < whole.fates.sum()
    np.testing.assert_array_equal(late.wait_s, whole.wait_s[len(whole.wait_s) - len(late.wait_s) :])


def test_a_slow_client_whose_challenge_expires_is_lost() -> None:
    here = server(expiry_s=1.0, seconds=2000.0, servers=100, gate_servers=100)
    fates = run_replica(here, HONEST, None, SENDER).fates
    # Tries are exponential with mean 1024, rates log-uniform in 500..2000: the chance to need more than a second.
    u = (np.arange(10_000) + 0.5) / 10_000
    expected = float(np.exp(-500 * 4**u / 1024).mean())
    n = int(fates.sum())
    assert abs(int(fates[3]) - n * expected) < 4 * (n * expected * (1 - expected)) ** 0.5
    assert fates[0] + fates[3] == n


@pytest.mark.parametrize(("identities", "limit"), [(1, 2.0), (7, 0.5), (5000, 1.0)])
def test_the_limit_drops_what_one_identity_sends_too_soon(identities: int, limit: float) -> None:
    sent = flood(30.0, 50.0)
    here = server(seconds=50.0, limit_hz=limit)
    time, kind = _policed(here, sent, identities)
    np.testing.assert_array_equal(time, sent.time_s)
    last = dict.fromkeys(range(identities), -math.inf)
    for j, (when, what) in enumerate(zip(time.tolist(), kind.tolist(), strict=True)):
        passes = when >= last[j % identities]
        assert what == (sent.kind[j] if passes else DROPPED)
        if passes:
            last[j % identities] = when + 1 / limit
    assert (kind == DROPPED).any() == (identities < 5000)


def brute(spans: list[tuple[float, float]]) -> int:
    return max((sum(b <= begin < e for b, e in spans) for begin, _ in spans), default=0)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seen_store", [False, True])
@pytest.mark.parametrize("table", [None, 5])
@pytest.mark.parametrize("digits", [0, 12])  # whole seconds: many things at one instant, where ends come first
def test_what_the_gate_remembers_is_counted_as_by_hand(
    signed: bool, seen_store: bool, table: int | None, digits: int
) -> None:
    rng = np.random.default_rng(5)
    asked = np.sort(rng.uniform(0, 30, 40)).round(digits)
    sent = (asked + rng.exponential(3.0, 40)).round(digits)
    time = np.sort(rng.uniform(0, 30, 60)).round(digits)
    kind = rng.choice(np.array([MINT, SOLVED, FORGED], np.uint8), 60)
    here = server(signed=signed, seen_store=seen_store, table=table, expiry_s=4.0)
    got, entries = _challenges(here, asked, sent, time, kind)
    want, spans = np.ones(40, bool), []
    if not signed:
        mints = [(a, min(s, a + 4.0), j) for j, (a, s) in enumerate(zip(asked, sent, strict=True))]
        mints += [(t, t + 4.0, -1) for t, k in zip(time, kind, strict=True) if k == MINT]
        for begin, end, j in sorted(mints, key=lambda mint: mint[0]):
            if table is not None and sum(b <= begin < e for b, e in spans) >= table:
                if j >= 0:
                    want[j] = False
                continue
            spans.append((begin, end))
    if seen_store:
        spans += [(s, a + 4.0) for a, s, w in zip(asked, sent, want, strict=True) if w and s - a <= 4.0]
        spans += [(t, t + 4.0) for t, k in zip(time, kind, strict=True) if k == SOLVED]
    np.testing.assert_array_equal(got, want)
    assert entries == brute(spans)
    if not signed and table:
        assert not got.all()


def run_both(attack: Any, here: Server, device: str = "rtx-4090") -> tuple[Replica, Replica]:
    """Return the replica without and with the counter-measure."""
    both = []
    for one in (attack.without(here), attack.within(here)):
        sent = attack.messages(one, catalogue()[device], SENDER)
        assert np.all(np.diff(sent.time_s) >= 0)
        both.append(run_replica(one, HONEST, sent, SENDER, attack.identities))
    return both[0], both[1]


def test_a_limit_and_the_signature_first_answer_a_flood() -> None:
    bare, guarded = run_both(InvalidFlood(20.0, identities=10, limit_hz=0.1), server())
    well = run_replica(server(), HONEST, None, SENDER)
    assert bare.attack_hz == guarded.attack_hz == pytest.approx(20.0, rel=0.1)
    assert bare.wait_s.mean() > 20 * well.wait_s.mean()
    assert guarded.wait_s.mean() < 1.2 * well.wait_s.mean() + 0.1
    assert guarded.attack_s == pytest.approx(1.0 * 0.04 + 19.0 * 0.001, rel=0.15)
    assert bare.hashes_hz == guarded.hashes_hz == 0


def test_a_flood_under_genuine_challenges_pays_the_whole_check() -> None:
    sent = InvalidFlood(1.0, forged=False).messages(server(), catalogue()["rtx-4090"], SENDER)
    assert sent.kind[:4].tolist() == [MINT, WRONG, MINT, WRONG]
    one = run_replica(server(), HONEST, sent, SENDER)
    assert one.attack_s == pytest.approx(one.attack_hz / 2 * (0.03 + 0.09), rel=0.02)


def test_signed_challenges_leave_no_table_to_fill() -> None:
    bare, guarded = run_both(UnsolvedChallenges(8.0), server(table=200))
    assert bare.entries >= 200
    assert bare.fates[4] > 100
    assert guarded.fates[4] == 0
    assert guarded.entries < 200


def test_remembered_solutions_are_served_once_each_and_replays_never() -> None:
    here = server()
    bare, guarded = run_both(Replays(1.5), here)
    assert bare.attack_served_hz == pytest.approx(bare.attack_hz, rel=0.05)
    assert guarded.attack_served_hz == 7 / 400.0  # one solution per minute of 400 s
    assert guarded.hashes_hz == bare.hashes_hz == 7 * 1024 / 400.0
    assert bare.wait_s.mean() > 2 * guarded.wait_s.mean()


def test_a_hoard_is_what_the_device_solves_in_the_time_and_a_count_of_unspent_ones_ends_it() -> None:
    slow = replace(catalogue()["rtx-4090"], rate_low_hz=4096.0, rate_high_hz=4096.0)
    attack, here = Hoard(at_s=200.0, burst_s=2.0, identities=5, outstanding=3), server()
    counts = []
    for r in range(200):
        sent = attack.messages(here, slow, Draws(3, r))
        held = int((sent.kind == SOLVED).sum())
        assert held == (sent.kind == MINT).sum()
        assert sent.hashes <= 4096.0 * 58
        spent = sent.time_s[sent.kind == SOLVED]
        assert 200 <= spent.min() <= spent.max() <= 202
        assert sent.time_s.min() >= 142  # none has expired when it is spent
        counts.append(held)
    expected = 4096.0 * 58 / 1024
    # Renewals of nearly exponential steps: Poisson.
    assert abs(np.mean(counts) - expected) < 4 * (expected / 200) ** 0.5 + 1
    assert np.var(counts) == pytest.approx(expected, rel=0.4)
    few = attack.messages(attack.within(here), slow, SENDER)
    assert (few.kind == SOLVED).sum() == 15
    with pytest.raises(ValueError, match=r"the hoard would be .* challenges, more than 20,000,000: raise server.bits"):
        attack.messages(here, catalogue()["8x-h100-sxm"], SENDER)


def test_a_hoarder_keeps_to_a_limit_of_messages_and_loses_none() -> None:
    here = server(limit_hz=0.5)
    fast = replace(catalogue()["rtx-4090"], rate_low_hz=1e6, rate_high_hz=1e6)
    attack = Hoard(at_s=100.0, burst_s=2.0, identities=7)
    sent = attack.messages(here, fast, SENDER)
    assert (sent.kind == SOLVED).sum() == int(7 * 0.5 * 58 * (1 - 1e-9))
    _, kind = _policed(here, sent, attack.identities)
    np.testing.assert_array_equal(kind, sent.kind)
    # None has expired when it is spent, in the order in which they were asked for.
    asked, spent = (sent.time_s[sent.kind == k] for k in (MINT, SOLVED))
    assert np.all(spent - asked <= here.expiry_s)
    assert spent[-1] > 150


def test_a_hoarding_burst_makes_the_honest_wait_and_the_measure_does_not() -> None:
    here = server(seconds=400.0, arrivals=Poisson(1.0), service_s=0.5)
    slow = replace(catalogue()["rtx-4090"], rate_low_hz=4096.0, rate_high_hz=4096.0)
    attack = Hoard(at_s=100.0, identities=2)
    waits = [
        run_replica(one, HONEST, attack.messages(one, slow, SENDER), SENDER).wait_s
        for one in (attack.without(here), attack.within(here))
    ]
    assert np.quantile(waits[0], 0.95) > 20 * np.quantile(waits[1], 0.95)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_backends_and_threads_change_nothing(backend: str, threads: int) -> None:
    here = server(seconds=60.0, room=5, time_out_s=1.0, retries=2, sub_puzzles=3)
    one = run_replica(here, HONEST, flood(3.0, 60.0), SENDER)
    at = {"backend": backend, "threads": threads}
    two = run_replica(here, Draws(1, 0, **at), flood(3.0, 60.0), Draws(2, 0, **at))
    for name in one.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


def test_nobody_and_nothing_are_no_trouble() -> None:
    empty = Messages(np.empty(0), np.empty(0, np.uint8))
    here = server(arrivals=Poisson(1e-9), limit_hz=1.0, signed=False, table=5)
    one = run_replica(here, HONEST, empty, SENDER, 3)
    assert one.fates.sum() == 0
    assert len(one.wait_s) == 0
    assert one.busy == one.attack_s == one.entries == 0


def test_every_shipped_attack_names_its_measure_and_a_device() -> None:
    for name, cls in SHIPPED.items():
        needed = {"rate_hz": 5.0} if name != "hoard" else {"at_s": 100.0}
        attack: Any = cls(**needed)
        assert len(attack.measure) > 10
        assert attack.device in catalogue()
        assert attack.without(server()) != attack.within(server())
