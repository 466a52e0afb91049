"""The rounds of one SHA-256 block with a single varying word, constants folded away: what a vector kernel executes.

Only word `position` of the block differs between lanes. Each quantity is kept as "vector + scalar": the scalar part is
a constant of the search, computed once by scalar code and read from a table, so that rounds before the word, schedule
words that do not depend on it, and additions of K, fixed words and fixed state cost nothing per hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

ROTATIONS = {"S0": (2, 13, 22), "S1": (6, 11, 25), "s0": (7, 18), "s1": (17, 19)}
"""FIPS 180-4, 4.1.2: the sums Σ0 and Σ1 of the rounds, σ0 and σ1 of the schedule."""
SHIFTS = {"s0": 3, "s1": 10}
COST = {"add": 1, "S0": 4, "S1": 4, "s0": 4, "s1": 4, "ch": 1, "maj": 1, "word": 0}
"""Vector operations of each step where the machine rotates and combines three words in one."""

STATE, WORDS, INITIAL = 0, 8, 24
"""Where the inputs lie: state before round `position` (8), block (16), first word of the hash value (1)."""
INPUTS = 25


@dataclass
class Quantity:
    """A number of each lane: vector step `v` plus scalar step `c`; either may be absent."""

    v: int | None = None
    c: int | None = None
    whole: int | None = None  # vector step of the sum, once it was needed


@dataclass
class Plan:
    """Straight-line programs: `scalars` fill the table, `steps` run per vector and end in `result`."""

    position: int
    scalars: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    steps: list[tuple[str, tuple[tuple[str, int], ...]]] = field(default_factory=list)  # operands ("v"|"c", number)
    table: dict[int, int] = field(default_factory=dict)  # scalar step -> place in the table
    result: int = -1
    _known: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Return vector operations per vector of hashes, the next word and the test included."""
        return sum(COST[name] for name, _ in self.steps) + 2

    def scalar(self, name: str, *operands: int) -> int:
        """Return the scalar step of an expression, each expression once."""
        key = (name, operands)
        if key not in self._known:
            self._known[key] = len(self.scalars)
            self.scalars.append(key)
        return self._known[key]

    def constant(self, name: str, *operands: int) -> Quantity:
        """Return a quantity that is the same in all lanes."""
        return Quantity(c=self.scalar(name, *operands))

    def step(self, name: str, *operands: tuple[str, int]) -> int:
        """Append a vector step and return its number."""
        self.steps.append((name, operands))
        return len(self.steps) - 1

    def place(self, scalar: int) -> tuple[str, int]:
        """Return the operand that reads a scalar from the table."""
        return "c", self.table.setdefault(scalar, len(self.table))

    def operand(self, q: Quantity) -> tuple[str, int]:
        """Return the value of a quantity as one operand, adding its two parts if it has both."""
        if q.v is None:
            return self.place(-1 if q.c is None else q.c)
        if q.c is None:
            return "v", q.v
        if q.whole is None:
            q.whole = self.step("add", ("v", q.v), self.place(q.c))
        return "v", q.whole

    def merged(self, q: Quantity) -> Quantity:
        """Return the same quantity without a scalar part beside a vector part."""
        return q if q.v is None or q.c is None else Quantity(v=self.operand(q)[1])

    def add(self, *quantities: Quantity) -> Quantity:
        """Return the sum modulo 2^32: scalars with scalars for nothing, vectors with vectors in order."""
        total = Quantity()
        for q in quantities:
            if q.c is not None:
                total.c = q.c if total.c is None else self.scalar("add", total.c, q.c)
            if q.v is not None:
                total.v = q.v if total.v is None else self.step("add", ("v", total.v), ("v", q.v))
        return total

    def function(self, name: str, *quantities: Quantity) -> Quantity:
        """Return a bitwise function of quantities: a constant where all of them are."""
        if all(q.v is None for q in quantities):
            return self.constant(name, *(q.c for q in quantities if q.c is not None))
        return Quantity(v=self.step(name, *(self.operand(q) for q in quantities)))


@cache
def plan(position: int) -> Plan:
    """Return the plan for the varying word `position`, 0..15. The result is digest word 0 (FIPS 180-4, 6.2.2)."""
    p = Plan(position)
    words = {i: p.constant("input", WORDS + i) for i in range(16)}
    words[position] = Quantity(v=p.step("word"))

    def word(t: int) -> Quantity:
        # On demand, so that a schedule word stands near the round that uses it: the registers are few.
        if t not in words:
            sigma0, sigma1 = p.function("s0", word(t - 15)), p.function("s1", word(t - 2))
            terms = [word(t - 16), word(t - 7), sigma0, sigma1]
            if all(q.v is not None for q in terms):
                # Their scalar parts would need an addition of their own here and in every word made of this one.
                terms = [p.merged(q) for q in terms]
            words[t] = p.add(*terms)
        return words[t]

    a, b, c, d, e, f, g, h = (p.constant("input", STATE + i) for i in range(8))
    for t in range(position, 64):
        t1 = p.add(h, word(t), p.constant("k", t))
        choice, sum1 = p.function("ch", e, f, g), p.function("S1", e)
        if sum1.v is not None:
            t1 = p.merged(t1)  # what can be added before the late operands come
        t1 = p.add(t1, choice, sum1)  # Σ1 last: it is ready last
        t2 = p.add(p.function("S0", a), p.function("maj", a, b, c))
        if t == 63:
            p.result = p.operand(p.add(t1, t2, p.constant("input", INITIAL)))[1]
            break
        if d.v is not None and t2.v is not None:
            t1 = p.merged(t1)  # else its scalar part would be added twice
        a, b, c, d, e, f, g, h = p.add(t2, t1), a, b, c, p.add(d, t1), e, f, g
    return p
