"""Identities one by one, queries one by one, in plain Python: the specification.

Every operation on floats is one IEEE operation, or one of `realmath`, in the order written, so that twins can have the
same bits. Uniform numbers are those of `philox.contract.uniform`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.ledgers.layout import (
    BLOCK,
    COST,
    CURVE_COLUMNS,
    DEVICE,
    DEVICE_COLUMNS,
    DRIFT,
    FEWEST_BITS,
    INTEGERS,
    NUMBERS,
    PER_DRIFT_UNIT,
    RATE,
    SHIFT,
    START,
    SUMS,
    TRIES,
    VOLUME,
    Packed,
)
from powsim_kernels.ledgers.totals import CELLS, COUNTS, LOWEST, SUB_BITS, LedgerRows, Part, added
from powsim_kernels.philox.reference import block
from powsim_kernels.realmath import reference as real

MASK = (1 << 64) - 1


class Named:
    """A packed plan by its names."""

    def __init__(self, packed: Packed) -> None:
        self.__dict__ |= dict(zip(NUMBERS, packed.numbers.tolist(), strict=True))
        self.__dict__ |= dict(zip(INTEGERS, packed.integers.tolist(), strict=True))
        self.table = packed.table.tolist()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def uniform(self, stream: int, identity: int, replica: int, index: int = 0) -> float:
        """Return the number in (0, 1] at an address."""
        words = block((index >> 1, stream, identity, replica), int(self.key))
        low, high = words[2:] if index & 1 else words[:2]
        return (((high << 32 | low) >> 11) + 1) * 2.0**-53

    def normal(self, stream: int, identity: int) -> float:
        """Return a standard normal number."""
        return real.normal_quantile(min(self.uniform(stream, identity, 0) - 2.0**-54, 1.0 - 2.0**-53))

    def device(self, number: int) -> list[float]:
        """Return a device's columns."""
        at = int(self.at_devices) + number * len(DEVICE_COLUMNS)
        return list(self.table[at : at + len(DEVICE_COLUMNS)])


@dataclass
class Identity:
    """One caller, as drawn, and what becomes of it."""

    identity: int
    replica: int
    queries: int
    device: int
    rate_hz: float
    shift: float = 0.0  # 1 + shift
    drift: float = 0.0
    start_s: float = 0.0
    cost: float = 0.0
    puzzles: int = 0
    work: float = 0.0
    hashes: int = 0
    steps: int = 0  # hashes that take time: fewer than `hashes` where sub-puzzles are solved side by side
    finish_s: float = 0.0


def draw(plan: Named, number: int) -> Identity:
    """Return identity `number` of the group."""
    replica, who = divmod(number, int(plan.accounts)) if plan.accounts else (0, number)
    last, device = plan.device(int(plan.devices) - 1)[0], 0
    chosen = plan.uniform(DEVICE, 0 if plan.accounts else who, replica) * last
    while device < plan.devices - 1 and plan.device(device)[0] < chosen:
        device += 1
    _, low_hz, ln_ratio, _, _ = plan.device(device)
    rate = low_hz * real.exp(plan.uniform(RATE, 0 if plan.accounts else who, replica) * ln_ratio)
    drawn = Identity(who, replica, 0, device, rate)
    if plan.accounts:
        drawn.queries = int(plan.share_queries) + (who < plan.share_rest)
    else:
        grown = real.exp(plan.sigma * plan.normal(VOLUME, who)) if plan.sigma else 1.0
        drawn.queries = int(min(max(float(round(plan.median * grown)), 1.0), plan.maximum))
        if plan.spread:
            drawn.shift = 1.0 + (plan.one_shift + plan.shift_sd * plan.normal(SHIFT, who))
            drawn.drift = plan.drift_sd * plan.normal(DRIFT, who)
    if plan.starts_within_s:
        drawn.start_s = plan.starts_within_s * plan.uniform(START, who, replica)
    return drawn


def curve_cost(plan: Named, n: float) -> float:
    """Return the curve's summed cost of n queries."""
    row, width = 0, len(CURVE_COLUMNS)
    while row + 1 < plan.points and n >= plan.table[int(plan.at_curve) + (row + 1) * width]:
        row += 1
    at = int(plan.at_curve) + row * width
    x, y, slope = plan.table[at : at + width]
    return float(slope * (n - x) + y)


class Spending:
    """The cost of an identity's queries so far."""

    def __init__(self, plan: Named, who: Identity) -> None:
        self.plan, self.who = plan, who
        self.sums = [0.0] * max(int(plan.orders), 1)
        self.cost = 0.0

    def _bank_row(self, query: int) -> list[float]:
        """Return the row of the bank that is a query's: at its position, in the recording drawn for its block."""
        plan, width = self.plan, len(self.sums)
        number, position = query // int(plan.bank_block), query
        words = block((number >> 2, COST, self.who.identity, self.who.replica), int(plan.key))
        recording = words[number & 3] * int(plan.recordings) >> 32
        while position >= plan.recorded:
            position -= int(plan.period)
        at = int(plan.at_bank) + (recording * int(plan.recorded) + position) * width
        return list(plan.table[at : at + width])

    def after(self, before: int, n: int) -> float:
        """Return the summed cost after n queries, when it was last asked after `before`."""
        plan, who = self.plan, self.who
        if plan.banked:
            for query in range(before, n):
                row = self._bank_row(query)
                if plan.spread:
                    factor = max(who.shift + who.drift * (float(query + 1) * PER_DRIFT_UNIT), 0.0)
                    row = [value * factor for value in row]
                    if not plan.orders:
                        row = [min(max(row[0], plan.least_cost), plan.greatest_cost)]
                self.sums = [total + value for total, value in zip(self.sums, row, strict=True)]
            if plan.orders:
                extra = plan.table[int(plan.at_surcharge) :]
                return float(max(min(total + extra[order] for order, total in enumerate(self.sums)), 0.0))
            return self.sums[0]
        cost: float = curve_cost(plan, float(n))
        if plan.spread:
            cost = cost * (who.shift + who.drift * (float(n) * PER_DRIFT_UNIT))
            cost = min(max(cost, plan.least_cost * float(n)), plan.greatest_cost * float(n))
            self.cost = cost = max(self.cost, cost)
        return cost


def bits_for(plan: Named, excess: float, asked: int, time_s: float) -> float:
    """Return the difficulty that the price asks for; see `plan`."""
    x = abs(excess) if plan.two_sided else max(excess, 0.0)
    bits = plan.base_bits
    if plan.per_query:
        bits = bits + (plan.every_bits if asked == plan.every else real.log2(float(max(asked, 1))))
    bits = bits + plan.slope * x
    band = sum(x >= plan.table[int(plan.at_edges) + edge] for edge in range(int(plan.bands)))
    bits = bits + plan.table[int(plan.at_bits) + band]
    if plan.timed and plan.loads > 1:
        turn = math.floor(min(time_s / plan.load_step_s, 2.0**52))
        bits = bits + plan.table[int(plan.at_loads) + turn % int(plan.loads)]
    bits = min(max(bits, plan.low), plan.high)
    return float(math.floor(bits)) if plan.whole else bits


def live(plan: Named, who: Identity) -> None:
    """Let an identity ask all its queries."""
    every, m = int(plan.every), int(plan.sub_puzzles)
    spending = Spending(plan, who)
    last_cost = forgotten_cost = forgotten_queries = issued_s = 0.0
    for number in range(-(-who.queries // every)):
        before, n = number * every, min((number + 1) * every, who.queries)
        asked = float(n - before)
        who.cost = spending.after(before, n)
        begins_s = 0.0
        if plan.clocked:
            arrival_s = float(before) / plan.batch * plan.request_every_s
            begins_s = max(arrival_s, who.finish_s + plan.think_s if number else 0.0)
        base_cost, base_queries = who.cost, float(n)
        if plan.decays:
            kept = real.exp2(max((issued_s - begins_s) * plan.decay_rate, -1000.0))
            base_cost = forgotten_cost = forgotten_cost * kept + (who.cost - last_cost)
            base_queries = forgotten_queries = forgotten_queries * kept + asked
            last_cost, issued_s = who.cost, begins_s
        excess = base_cost - (plan.expected_slope * base_queries + plan.expected_intercept)
        bits = bits_for(plan, excess, n - before, who.start_s + begins_s)
        due = bits > FEWEST_BITS and (plan.partial or n - before == every)
        work = real.exp2(bits) if due else 0.0
        target = float(round(2.0**64 / max(work * (1.0 / m), 1.0)))
        slope = real.log1m(target * 2.0**-64) if target > 0.0 else -math.inf
        steps = 0
        for index in range(number * m, (number + 1) * m) if due else ():
            u = plan.uniform(TRIES, who.identity, who.replica, index)
            tries = math.floor(real.log(u) / slope) + 1
            who.hashes = who.hashes + tries & MASK
            steps = max(steps, tries) if plan.parallel else steps + tries
        who.steps = who.steps + steps & MASK
        who.work += work
        who.puzzles += due
        if plan.clocked:
            solve_s = float(steps) / who.rate_hz
            busy_s = asked * plan.seconds_per_query + solve_s + (plan.verify_s if due else 0.0)
            who.finish_s = begins_s + busy_s


def measured(plan: Named, who: Identity) -> dict[str, float]:
    """Return SUMS of an identity."""
    _, _, _, watts, usd_per_h = plan.device(who.device)
    service_s = float(who.queries) * plan.seconds_per_query
    solve_s = float(who.steps) / who.rate_hz
    verify_s = float(who.puzzles) * plan.verify_s
    devices_s = float(who.hashes) / who.rate_hz  # of all devices that solve side by side
    energy_j = devices_s * watts
    return {
        "work": who.work,
        "hashes": float(who.hashes),
        "cost": who.cost,
        "service_s": service_s,
        "solve_s": solve_s,
        "elapsed_s": who.finish_s if plan.clocked else (service_s + solve_s) + verify_s,
        "energy_j": energy_j,
        "cost_usd": usd_per_h * devices_s / 3600.0 if usd_per_h >= 0.0 else energy_j / 3.6e6 * plan.usd_per_kwh,
        "overhead": (solve_s + verify_s) / service_s,
    }


def cell_of(value: float) -> int:
    """Return the cell of a histogram that a value >= 0 falls in: its exponent and leading bits."""
    return min(max((real.bits_of(value) >> 52 - SUB_BITS) - (1023 + LOWEST << SUB_BITS) + 1, 0), CELLS - 1)


def run(
    packed: Packed,
    begin: int,
    end: int,
    histograms: list[int],
    rows: bool,
    threads: int | None,
    before: NDArray[np.float64],
) -> Part:
    """Return what becomes of identities begin..end; sums are added to those `before`; `threads` is not used."""
    plan = Named(packed)
    devices, first = int(plan.devices), begin // BLOCK
    blocks = -(-end // BLOCK) - first if end > begin else 0
    counts, hashes = np.zeros((devices, len(COUNTS)), np.int64), np.zeros((devices, 2), np.uint64)
    sums = np.zeros((blocks, *before.shape))
    cells = np.zeros((len(histograms), devices, CELLS), np.int64)
    heaviest = 0.0
    found = []
    for number in range(begin, end):
        who = draw(plan, number)
        live(plan, who)
        values = measured(plan, who)
        found.append((who, values))
        ordered = np.array([values[name] for name in SUMS])
        product = values["solve_s"] * values["service_s"]
        sums[number // BLOCK - first, who.device] += np.concatenate((ordered, ordered * ordered, [product]))
        counts[who.device] += (1, who.queries, who.puzzles, 1.0 + values["overhead"] > 2.0)
        hashes[who.device] += np.array([who.hashes & 0xFFFFFFFF, who.hashes >> 32], np.uint64)
        for at, name in enumerate(histograms):
            cells[at, who.device, cell_of(ordered[name])] += 1
        heaviest = max(heaviest, who.work)
    table = _rows(found) if rows else None
    return Part(counts, hashes, added(before, sums), cells, heaviest, table)


def _rows(found: list[tuple[Identity, dict[str, float]]]) -> LedgerRows:
    """Return identities as arrays."""
    kinds = {"hashes": np.uint64} | dict.fromkeys(("identity", "replica", "device", "queries", "puzzles"), np.int64)
    columns: dict[str, Any] = {}
    for name in LedgerRows.__dataclass_fields__:
        kind = kinds.get(name, np.float64)
        columns[name] = np.array(
            [values[name] if name in values and name != "hashes" else getattr(who, name) for who, values in found], kind
        )
    return LedgerRows(**columns)
