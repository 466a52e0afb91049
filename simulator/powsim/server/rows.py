"""What a scenario's [server] and [gate.NAME] tables come to: one row when all is well, two per attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim import intervals
from powsim.arrivals import Draws
from powsim.devices import Device
from powsim.groups import service_of
from powsim.intervals import Headline
from powsim.plugin import foreign
from powsim.population import group_key
from powsim.scenario import Scenario
from powsim.server.attacks import SOLVED, GateAttack, Messages
from powsim.server.costs import costs_of
from powsim.server.model import LOST, Replica, Server, run_replica
from powsim.text import share, small

HEALTHY = "no attack"
INTERVAL = "95 %: Student's, of the mean over independent replicas"


@dataclass(frozen=True)
class GateRow:
    """Means over replicas, each with its interval. Quantiles are of one replica's honest requests, then averaged."""

    name: str  # of the [gate.NAME] table, or HEALTHY
    measure: str  # the counter-measure, or ""
    taken: bool | None  # whether the server takes it; None where nobody attacks
    served: Headline  # share of honest requests that got an answer
    refused: Headline  # shares of those that did not, by what happened first
    gave_up: Headline
    expired: Headline
    no_challenge: Headline
    wait_s: Headline  # both waits of a served honest request, back-offs included: mean
    wait_p50_s: Headline
    wait_p95_s: Headline
    wait_p99_s: Headline
    busy: Headline  # share of the model's servers' time
    gate_busy: Headline  # of the gate's; the same where they share
    memory_mb: Headline  # challenges and used solutions, at their most
    attack_hz: Headline  # messages of the attack per second
    attack_served_hz: Headline  # of them, answered by the model
    attack_server_s: Headline  # server seconds per second that it takes
    attack_device_s: Headline  # seconds of its own device per second that it costs
    attack_usd_per_h: Headline

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, headlines as {value, low, high}."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: v.as_dict() if isinstance(v, Headline) else v for name, v in values.items()}


def server_of(scenario: Scenario) -> Server:
    """Return the server of a scenario that has one."""
    spec = scenario.server
    if spec is None:
        raise ValueError("the scenario has no [server] table")
    service, device = service_of(scenario.service), scenario.device(spec.device)
    own = spec.model_dump(include={"handling_s", "mint_s", "check_s", "verify_s", "drop_s", "entry_bytes"})
    return Server(
        arrivals=spec.arrivals.arrivals(scenario.folder),
        seconds=spec.seconds,
        warm_up_s=spec.warm_up_s,
        servers=spec.servers,
        gate_servers=spec.gate_servers,
        room=spec.waiting_room,
        time_out_s=np.inf if spec.time_out_s is None else spec.time_out_s,
        retries=spec.retries,
        back_off_s=spec.back_off_s,
        growth=spec.back_off_growth,
        service_s=service.inference_s + service.metering_s,
        law=spec.service,
        costs=costs_of(spec.family or scenario.puzzle.family, own),
        bits=spec.bits,
        sub_puzzles=scenario.puzzle.sub_puzzles,
        rate_low_hz=device.rate_low_hz,
        rate_high_hz=device.rate_high_hz,
        expiry_s=spec.expiry_s,
        table=spec.challenge_table,
        check_first=spec.check_first,
        signed=spec.signed,
        seen_store=spec.seen_store,
        outstanding=spec.outstanding,
        limit_hz=spec.limit_hz,
    )


def simulate_gate(
    scenario: Scenario,
    *,
    seed: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[GateRow, ...]:
    """Return the rows of a scenario's gate, none where it has no [server].

    The honest come at the same instants in every row, so that rows may be compared request by request. The same
    scenario and seed give the same rows with any number of threads.
    """
    if scenario.server is None:
        return ()
    seed = scenario.seed if seed is None else seed
    server, replicas = server_of(scenario), scenario.server.replicas
    cases: list[tuple[str, GateAttack | None, bool | None, Server]] = [(HEALTHY, None, None, server)]
    for name, planned in scenario.attacks.items():
        with foreign(f"gate.{name} failed"):
            bare, guarded = planned.without(server), planned.within(server)
        if not (isinstance(bare, Server) and isinstance(guarded, Server)):
            raise ValueError(f"gate.{name}: without and within must return the server, with other values where needed")
        cases += [(name, planned, False, bare), (name, planned, True, guarded)]
    rows, honest = [], group_key(seed, "gate/honest")
    for index, (name, attack, taken, here) in enumerate(cases):
        done, key = [], group_key(seed, f"gate/{name}")
        device = None if attack is None else scenario.device(attack.device)
        for number in range(replicas):
            sender, sent = Draws(key, number, backend, threads), None
            if attack is not None and device is not None:
                with foreign(f"gate.{name} failed"):
                    sent = _checked(attack.messages(here, device, sender))
            spread = 1 if attack is None else attack.identities
            done.append(run_replica(here, Draws(honest, number, backend, threads), sent, sender, spread))
            if progress is not None:
                progress(f"gate: {name}", (index + (number + 1) / replicas) / len(cases))
        rows.append(_row(name, attack, taken, here, done, device, scenario.prices.electricity_usd_per_kwh))
    return tuple(rows)


def _checked(sent: Messages) -> Messages:
    """Return an attack's messages with the types that are reckoned with. Raises ValueError for what is none."""
    time, kind = np.asarray(sent.time_s, np.float64), np.asarray(sent.kind)
    if time.ndim != 1 or kind.shape != time.shape or not np.isfinite(time).all() or np.any(np.diff(time) < 0):
        raise ValueError("messages need one finite time each, not falling, and one kind each")
    if kind.size and not (kind.dtype.kind in "iu" and int(kind.min()) >= 0 and int(kind.max()) <= SOLVED):
        raise ValueError(f"kinds of messages are whole numbers from 0 to {SOLVED}: see powsim.server")
    if not (np.isfinite(sent.hashes) and sent.hashes >= 0):
        raise ValueError(f"hashes is {sent.hashes}: a finite number, 0 or more, is needed")
    return replace(sent, time_s=time, kind=kind.astype(np.uint8))


def _row(
    name: str,
    attack: GateAttack | None,
    taken: bool | None,
    server: Server,
    done: list[Replica],
    device: Device | None,
    usd_per_kwh: float,
) -> GateRow:
    def over(values: list[float]) -> Headline:
        return intervals.mean(np.array(values, np.float64)).at_least(0.0)

    def wait(of: Callable[[NDArray[np.float64]], Any]) -> Headline:
        return over([float(of(one.wait_s)) if len(one.wait_s) else np.nan for one in done])

    def fate(which: str) -> Headline:
        # A replica in which nobody came says nothing.
        shares = [one.fates[LOST.index(which)] / one.fates.sum() if one.fates.sum() else np.nan for one in done]
        found = over(shares)
        return replace(found, high=min(found.high, 1.0))

    busy_s = [0.0 if device is None else one.hashes_hz / device.rate_hz for one in done]
    per_hour = 0.0
    if device is not None:
        per_hour = device.watts / 1000 * usd_per_kwh if device.usd_per_h is None else device.usd_per_h
    return GateRow(
        name=name,
        measure="" if attack is None else attack.measure,
        taken=taken,
        served=fate("served"),
        refused=fate("refused"),
        gave_up=fate("gave up"),
        expired=fate("expired"),
        no_challenge=fate("no challenge"),
        wait_s=wait(np.mean),
        wait_p50_s=wait(lambda sample: np.quantile(sample, 0.50)),
        wait_p95_s=wait(lambda sample: np.quantile(sample, 0.95)),
        wait_p99_s=wait(lambda sample: np.quantile(sample, 0.99)),
        busy=over([one.busy for one in done]),
        gate_busy=over([one.gate_busy for one in done]),
        memory_mb=over([one.entries * server.costs.entry_bytes / 1e6 for one in done]),
        attack_hz=over([one.attack_hz for one in done]),
        attack_served_hz=over([one.attack_served_hz for one in done]),
        attack_server_s=over([one.attack_s for one in done]),
        attack_device_s=over(busy_s),
        attack_usd_per_h=over([per_hour * one for one in busy_s]),
    )


def gate_findings(rows: tuple[GateRow, ...]) -> list[str]:
    """Return one sentence per attack: what it does to the honest, for what price, and what the measure changes."""
    if not rows:
        return []
    well, sentences = rows[0], []
    for bare, guarded in zip(rows[1::2], rows[2::2], strict=True):
        price = (
            "for nothing" if bare.attack_usd_per_h.value == 0 else f"for ${small(bare.attack_usd_per_h.value)} an hour"
        )
        sentences.append(
            f"{bare.name}: takes {small(bare.attack_server_s.value)} server seconds a second {price}; of honest "
            f"requests {_state(bare)} (no attack: {_state(well)}); with {bare.measure}: {_state(guarded)}."
        )
    return sentences


def _state(row: GateRow) -> str:
    wait = "none waited to the end" if np.isnan(row.wait_p95_s.value) else f"p95 wait {small(row.wait_p95_s.value)} s"
    return f"{share(row.served.value)} served, {wait}"
