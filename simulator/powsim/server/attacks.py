"""Attacks on the gate itself: what each sends, what it costs its sender, and the measure that answers it.

An attack is any object with `device`, `identities`, `messages`, `without` and `within`; a scenario names a shipped one,
or its own as "package.module:Class" or "file.py:Class". Sending is taken to be free: what an attacker pays is hashes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from powsim.arrivals import MOST, Draws, Poisson
from powsim.devices import Device

if TYPE_CHECKING:
    from powsim.server.model import Server

MINT, FORGED, WRONG, REPLAYED, SOLVED = range(5)
"""What a message is: asks for a challenge; solves one that was never issued; solves one wrongly; solves one that has
been used; solves one rightly. The server finds out at the price of checking."""

Rate = Annotated[float, Gt(0), Le(1e7)]
Count = Annotated[int, Ge(1), Le(10**7)]
TRIES, SPEND = 8, 9  # streams


@dataclass(frozen=True)
class Messages:
    """What an attack sends in one replica."""

    time_s: NDArray[np.float64]  # [J] not falling, from 0 on
    kind: NDArray[np.uint8]  # [J]
    hashes: float = 0.0  # that it computes for them


class GateAttack(Protocol):
    """An attack on the gate."""

    @property
    def device(self) -> str:
        """Return the name of the device that solves."""

    @property
    def identities(self) -> int:
        """Return over how many identities its messages are spread, in turns."""

    @property
    def measure(self) -> str:
        """Return the counter-measure in a few words."""

    def without(self, server: Server) -> Server:
        """Return the server that lacks the counter-measure."""

    def within(self, server: Server) -> Server:
        """Return the server that has it."""

    def messages(self, server: Server, device: Device, draws: Draws) -> Messages:
        """Return what is sent to this server; `draws` are the replica's own."""


@dataclass(frozen=True)
class InvalidFlood:
    """Wrong solutions at a constant rate, each costing the server what it costs to find out.

    forged: under challenges that were never issued, which the signature gives away before the puzzle is looked at;
    else every solution is preceded by the request for a genuine challenge. Measure: the signature first, and a limit of
    messages per identity.
    """

    rate_hz: Rate
    identities: Count = 100
    forged: bool = True
    limit_hz: Rate = 1.0
    device: str = "botnet-500"

    @property
    def measure(self) -> str:
        """Return the counter-measure."""
        return f"signature first, {self.limit_hz:g} messages/s per identity"

    def without(self, server: Server) -> Server:
        """Return a server that verifies whatever comes."""
        return replace(server, check_first=False, limit_hz=None)

    def within(self, server: Server) -> Server:
        """Return a server that looks at the signature first and counts messages."""
        return replace(server, check_first=True, limit_hz=self.limit_hz)

    def messages(self, server: Server, device: Device, draws: Draws) -> Messages:
        """Return the flood."""
        when = Poisson(self.rate_hz).times(draws, server.seconds)
        if self.forged:
            return Messages(when, np.full(len(when), FORGED, np.uint8))
        kinds = np.tile(np.array([MINT, WRONG], np.uint8), len(when))
        return Messages(np.repeat(when, 2), kinds)


@dataclass(frozen=True)
class UnsolvedChallenges:
    """Challenges asked for and never solved. A gate that remembers each until it expires fills its table.

    Measure: signed challenges, which need no memory.
    """

    rate_hz: Rate
    identities: Count = 100
    device: str = "botnet-500"

    measure = "signed challenges, none remembered"

    def without(self, server: Server) -> Server:
        """Return a server that remembers every challenge."""
        return replace(server, signed=False)

    def within(self, server: Server) -> Server:
        """Return a server that signs them instead."""
        return replace(server, signed=True)

    def messages(self, server: Server, device: Device, draws: Draws) -> Messages:
        """Return requests for challenges."""
        when = Poisson(self.rate_hz).times(draws, server.seconds)
        return Messages(when, np.full(len(when), MINT, np.uint8))


@dataclass(frozen=True)
class Replays:
    """One solution, sent again and again until it expires, then the next. Measure: used solutions are remembered."""

    rate_hz: Rate
    identities: Count = 100
    device: str = "rtx-4090"

    measure = "used solutions remembered until they expire"

    def without(self, server: Server) -> Server:
        """Return a server that forgets what was used."""
        return replace(server, seen_store=False)

    def within(self, server: Server) -> Server:
        """Return a server that remembers."""
        return replace(server, seen_store=True)

    def messages(self, server: Server, device: Device, draws: Draws) -> Messages:
        """Return replays, the first of each expiry period a solution."""
        when = Poisson(self.rate_hz).times(draws, server.seconds)
        _, first = np.unique(when // server.expiry_s, return_index=True)
        kinds = np.full(len(when), REPLAYED, np.uint8)
        kinds[first] = SOLVED
        return Messages(when, kinds, len(first) * 2.0**server.bits)


@dataclass(frozen=True)
class Hoard:
    """Challenges solved ahead for as long as they are good, and all spent at `at_s` within `burst_s`.

    As many as the device solves in the time between the first challenge and the burst: expiry_s - burst_s. Where the
    server limits messages per identity it keeps to that, with a smaller hoard and a longer burst. Measure: an identity
    may hold `outstanding` challenges that it has not spent. A shorter expiry helps as well.
    """

    at_s: Annotated[float, Ge(0), Le(1e6)]
    burst_s: Annotated[float, Gt(0), Le(1e6)] = 1.0
    identities: Count = 16
    outstanding: Count = 1
    device: str = "rtx-4090"

    @property
    def measure(self) -> str:
        """Return the counter-measure."""
        return f"{self.outstanding} unspent challenge{'s' if self.outstanding > 1 else ''} per identity"

    def without(self, server: Server) -> Server:
        """Return a server that hands out any number of challenges."""
        return replace(server, outstanding=None)

    def within(self, server: Server) -> Server:
        """Return a server that counts them."""
        return replace(server, outstanding=self.outstanding)

    def messages(self, server: Server, device: Device, draws: Draws) -> Messages:
        """Return the requests for challenges, spread over the hoarding, and the burst."""
        ahead = max(min(server.expiry_s - self.burst_s, self.at_s), 0.0)
        allowed_hz = np.inf if server.limit_hz is None else server.limit_hz * self.identities * (1 - 1e-9)
        most = min(MOST if server.outstanding is None else server.outstanding * self.identities, allowed_hz * ahead)
        budget = device.rate_hz * ahead
        expected = budget / 2.0**server.bits
        if min(expected, most) >= MOST:
            raise ValueError(
                f"the hoard would be {expected:,.0f} challenges, more than {MOST:,}: raise server.bits, shorten "
                "server.expiry_s, or name a slower device"
            )
        # Enough draws for any luck: the sum of n tries is within six deviations of n * 2^bits.
        count = max(int(min(most, expected + 6 * expected**0.5 + 16)), 1)
        spent = np.cumsum(server.tries(draws, TRIES, 1, count)[0])
        held = int(np.searchsorted(spent, budget, side="right"))
        asked = self.at_s - ahead + np.arange(held) * (ahead / max(held, 1))
        burst = self.at_s + self.burst_s * np.sort(draws.uniform(SPEND, held))
        if held / self.burst_s > allowed_hz:
            burst = self.at_s + np.arange(held) / allowed_hz
        when = np.concatenate((asked, burst))
        kinds = np.repeat(np.array([MINT, SOLVED], np.uint8), held)
        return Messages(when, kinds, float(spent[held - 1]) if held else 0.0)


SHIPPED: dict[str, type[GateAttack]] = {
    "invalid-flood": InvalidFlood,
    "unsolved-challenges": UnsolvedChallenges,
    "replays": Replays,
    "hoard": Hoard,
}
