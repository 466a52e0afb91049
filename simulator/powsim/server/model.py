"""The server in front of the model: honest requests and an attack's messages through the gate and the model's queue.

A request is two messages: one asks for a challenge, one brings solution and query. Every message is handled, then
minted for or checked; what passes is metered and labelled. Gate and model may share their servers or have their own.
Simplifications: a solution comes one solving time after its challenge was asked for, whatever became of that message;
a retry finds its solution still good; limits are counted per identity, and an honest identity never reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powsim.arrivals import Arrivals, Draws
from powsim.server.attacks import FORGED, MINT, REPLAYED, SOLVED, WRONG, Messages
from powsim.server.costs import Costs
from powsim_kernels import QueueResult, geometric, queue
from powsim_kernels.queueing import GAVE_UP, REFUSED, SERVED

HONEST, DROPPED = 5, 6  # kinds beside those that an attack sends: an honest solution, a message above the limit
SERVICE, RATE, SOLVE = 10, 11, 12  # streams
LAWS = ("constant", "exponential")
LOST = ("served", "refused", "gave up", "expired", "no challenge")
"""Fates of an honest request: found no place, waited too long, solved after expiry, found the table full."""


@dataclass(frozen=True)
class Server:
    """The gate, the model behind it, and the honest who come."""

    arrivals: Arrivals
    seconds: float  # the window in which messages come
    warm_up_s: float  # honest requests before it are simulated and not counted
    servers: int
    gate_servers: int | None  # None: the model's servers do the gate's work as well
    room: int | None  # messages that may wait, at the gate and at the model each
    time_out_s: float  # an honest client's patience with one wait; inf is for ever
    retries: int
    back_off_s: float
    growth: float
    service_s: float  # metering and labelling one request
    law: str  # of that time, one of LAWS
    costs: Costs
    bits: float
    sub_puzzles: int
    rate_low_hz: float  # hash rates of honest clients are log-uniform between these
    rate_high_hz: float
    expiry_s: float
    table: int | None  # challenges that an unsigned gate can remember
    check_first: bool = True
    signed: bool = True
    seen_store: bool = True
    outstanding: int | None = None
    limit_hz: float | None = None

    def tries(self, draws: Draws, stream: int, rows: int, columns: int) -> NDArray[np.float64]:
        """Return the hashes of rows x columns puzzles."""
        chance = np.full((rows, columns), min(self.sub_puzzles * 2.0**-self.bits, 1.0))
        got = geometric(
            chance,
            key=draws.key,
            stream=stream,
            identity=np.arange(rows, dtype=np.int64),
            replica=draws.replica,
            draws=self.sub_puzzles,
            backend=draws.backend,
            threads=draws.threads,
        )
        return got.astype(np.float64)

    def service(self, draws: Draws, count: int) -> NDArray[np.float64]:
        """Return the model's time for each of `count` requests."""
        if self.law == "constant":
            return np.full(count, self.service_s)
        return np.asarray(self.service_s * draws.exponential(SERVICE, count))


@dataclass(frozen=True)
class Replica:
    """What one replica came to."""

    wait_s: NDArray[np.float64]  # [served honest requests after warm-up] of both messages, back-offs included
    fates: NDArray[np.int64]  # [5] honest requests after warm-up, by LOST
    busy: float  # share of the model's servers at work in the window
    gate_busy: float  # of the gate's; the model's where they share
    attack_s: float  # server seconds that the attack took, per second of the window
    attack_hz: float  # messages of the attack per second
    attack_served_hz: float  # of them, those that the model labelled
    hashes_hz: float  # hashes of the attacker per second
    entries: float  # most challenges and used solutions remembered at once


def run_replica(server: Server, honest: Draws, attack: Messages | None, sender: Draws, identities: int = 1) -> Replica:
    """Return one replica. The honest requests depend on `honest` alone: the same under every attack and measure."""
    asked = server.arrivals.times(honest, server.seconds)
    requests = len(asked)
    hashes = server.tries(honest, SOLVE, requests, 1)[:, 0]
    span = server.rate_high_hz / server.rate_low_hz
    solving = hashes / (server.rate_low_hz * span ** honest.uniform(RATE, requests))
    sent = asked + solving
    late = solving > server.expiry_s
    time, kind = np.empty(0), np.empty(0, np.uint8)
    if attack is not None:
        time, kind = _policed(server, attack, identities, honest.backend)
    issued, entries = _challenges(server, asked, sent, time, kind, honest.backend)

    # Honest challenges, honest solutions of those that got one, the attack: one line in order of arrival.
    sending = np.flatnonzero(issued)
    times = np.concatenate((asked, sent[sending], time))
    solution = np.where(late[sending], FORGED, HONEST).astype(np.uint8)  # an expired one is told as quickly
    kinds = np.concatenate((np.full(requests, MINT, np.uint8), solution, kind))
    owner = np.concatenate((np.arange(requests), sending, np.full(len(time), -1)))
    order = np.argsort(times, kind="stable")
    times, kinds, owner = times[order], kinds[order], owner[order]
    passes = (kinds == HONEST) | (kinds == SOLVED) | ((kinds == REPLAYED) & (not server.seen_store))
    gate_s, model_s = _gate_seconds(server, kinds), np.zeros(len(times))
    own = passes & (owner >= 0)
    model_s[own] = server.service(honest, requests)[owner[own]]
    model_s[passes & (owner < 0)] = server.service(sender, int((passes & (owner < 0)).sum()))

    if server.gate_servers is None:
        gate = _serve(server, server.servers, times, gate_s + model_s, owner >= 0, honest)
        through = np.flatnonzero(passes & (gate.fate[0] == SERVED))
        model, steps = None, [(gate, gate_s + model_s, server.servers)]
    else:
        gate = _serve(server, server.gate_servers, times, gate_s, owner >= 0, honest)
        through = np.flatnonzero(passes & (gate.fate[0] == SERVED))
        through = through[np.argsort(gate.finish[0, through], kind="stable")]
        model = _serve(server, server.servers, gate.finish[0, through], model_s[through], owner[through] >= 0, honest)
        steps = [(gate, gate_s, server.gate_servers), (model, model_s[through], server.servers)]
    waits, fates = _honest(requests, issued, late, times, owner, gate, through, model)
    counted = asked >= server.warm_up_s
    shares = [_busy(step, effort, k, server.seconds) for step, effort, k in steps]
    mine = [owner < 0] if model is None else [owner < 0, owner[through] < 0]
    spent = sum(
        float(effort[who & (step.fate[0] == SERVED)].sum()) for (step, effort, _), who in zip(steps, mine, strict=True)
    )
    last, cells = (gate, through) if model is None else (model, np.arange(len(through)))
    labelled = int(((owner[through] < 0) & (last.fate[0, cells] == SERVED)).sum())
    return Replica(
        wait_s=waits[counted & (fates == 0)],
        fates=np.bincount(fates[counted], minlength=len(LOST)),
        busy=shares[-1],
        gate_busy=shares[0],
        attack_s=spent / server.seconds,
        attack_hz=len(time) / server.seconds,
        attack_served_hz=labelled / server.seconds,
        hashes_hz=0.0 if attack is None else attack.hashes / server.seconds,
        entries=entries,
    )


def _policed(
    server: Server, attack: Messages, identities: int, backend: str = "auto"
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return the attack's messages within the window, those above an identity's limit marked as dropped."""
    inside = (attack.time_s >= 0) & (attack.time_s < server.seconds)
    time, kind = attack.time_s[inside], attack.kind[inside]
    if server.limit_hz is None or not len(time):
        return time, kind
    # Message j is identity j % n's. One that comes within 1 / limit of the last taken is dropped: as many queues of
    # one server without a waiting room, whose service is that pause.
    columns = -(-len(time) // identities)
    padded = np.append(time, np.full(columns * identities - len(time), np.inf)).reshape(columns, identities).T
    jobs = (len(time) - np.arange(identities) + identities - 1) // identities
    line = queue(padded, 1.0 / server.limit_hz, room=0, jobs=np.maximum(jobs, 0), backend=backend)
    dropped = (line.fate == REFUSED).T.ravel()[: len(time)]
    return time, np.where(dropped, DROPPED, kind).astype(np.uint8)


def _challenges(
    server: Server,
    asked: NDArray[np.float64],
    sent: NDArray[np.float64],
    time: NDArray[np.float64],
    kind: NDArray[np.uint8],
    backend: str = "auto",
) -> tuple[NDArray[np.bool_], float]:
    """Return which honest requests got a challenge, and the most entries that the gate remembered at once."""
    got = np.ones(len(asked), np.bool_)
    spans: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    if not server.signed:
        theirs = time[kind == MINT]
        when = np.concatenate((asked, theirs))
        # Spent challenges go at once, unsolved ones at expiry.
        held = np.concatenate((np.minimum(sent - asked, server.expiry_s), np.full(len(theirs), server.expiry_s)))
        order = np.argsort(when, kind="stable")
        if server.table is not None:
            # A table of n entries is n servers without a waiting room.
            line = queue(when[order], held[order], servers=server.table, room=0, backend=backend)
            kept = np.empty(len(when), np.bool_)
            kept[order] = line.fate[0] == SERVED
            got, when, held = kept[: len(asked)], when[kept], held[kept]
        spans.append((when, when + held))
    if server.seen_store:
        good = got & (sent - asked <= server.expiry_s)
        theirs = time[kind == SOLVED]
        spans += [(sent[good], asked[good] + server.expiry_s), (theirs, theirs + server.expiry_s)]
    if not spans:
        return got, 0.0
    begin, end = (np.sort(np.concatenate(side)) for side in zip(*spans, strict=True))
    # As each comes, those are gone that ended by then.
    alive = np.arange(1, len(begin) + 1) - np.searchsorted(end, begin, side="right")
    return got, float(alive.max(initial=0))


def _gate_seconds(server: Server, kinds: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what each message costs the gate."""
    c = server.costs
    verified = c.handling_s + c.check_s + c.verify_s
    table = np.full(7, verified)
    table[MINT] = c.handling_s + c.mint_s
    if server.check_first:
        table[FORGED] = c.handling_s + c.check_s
    table[WRONG] = verified
    table[DROPPED] = c.drop_s
    return np.asarray(table[kinds])


def _serve(
    server: Server,
    k: int,
    times: NDArray[np.float64],
    effort: NDArray[np.float64],
    honest: NDArray[np.bool_],
    draws: Draws,
) -> QueueResult:
    patience = None if server.time_out_s == np.inf else np.where(honest, server.time_out_s, np.inf)
    return queue(
        times,
        effort,
        servers=k,
        room=server.room,
        patience=patience,
        retries=np.where(honest, server.retries, 0),
        back_off=server.back_off_s,
        growth=server.growth,
        backend=draws.backend,
        threads=draws.threads,
    )


def _honest(
    requests: int,
    issued: NDArray[np.bool_],
    late: NDArray[np.bool_],
    times: NDArray[np.float64],
    owner: NDArray[np.int64],
    gate: QueueResult,
    through: NDArray[np.int64],
    model: QueueResult | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each honest request's waits, back-offs included, and its fate as an index into LOST."""
    waits, fates = np.zeros(requests), np.zeros(requests, np.int64)
    fates[late], fates[~issued] = 3, 4
    cells = np.flatnonzero(owner >= 0)
    steps = [(owner[cells], gate, cells, times[cells])]
    if model is not None:
        own = np.flatnonzero(owner[through] >= 0)
        steps.append((owner[through[own]], model, own, gate.finish[0, through[own]]))
    for who, step, at, came in steps:
        fate = step.fate[0, at]
        np.add.at(waits, who, np.nan_to_num(step.start[0, at] - came))
        for lost, code in ((REFUSED, 1), (GAVE_UP, 2)):
            hit = who[fate == lost]
            fates[hit[fates[hit] == 0]] = code
    return waits, fates


def _busy(step: QueueResult, effort: NDArray[np.float64], servers: int, seconds: float) -> float:
    """Return the share of the servers' time within the window that is work."""
    start, finish = step.start[0], step.finish[0]
    done = np.minimum(finish, seconds) - np.minimum(start, seconds)
    return float(np.nansum(done)) / (servers * seconds)
