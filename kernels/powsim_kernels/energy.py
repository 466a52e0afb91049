"""Joules of the CPU packages, from the counters (RAPL) of Linux's powercap, where they can be read."""

from __future__ import annotations

import re
import threading
from functools import cache
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Rapl:
    """The energy counters of the CPU packages, in microjoules, each wrapping round at a limit.

    Reads that are less than a wrap apart add up right: at 200 W a package wraps about once in 20 minutes.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._lock = threading.Lock()  # a reading stored after a later one would look like a wrap
        self._last: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._zones: dict[str, tuple[Path, int]] = {}
        # intel-rapl:0 is a package (on AMD too), intel-rapl:0:0 a part of it; psys would count packages twice.
        for zone in sorted(folder.glob("intel-rapl:*")):
            try:
                name = (zone / "name").read_text(encoding="ascii").strip()
                limit = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
                now = int((zone / "energy_uj").read_text(encoding="ascii"))
            except (OSError, ValueError):  # since 2020 only root may read them
                continue
            if re.fullmatch(r"intel-rapl:\d+", zone.name) and name.startswith("package"):
                self._zones[zone.name] = (zone / "energy_uj", limit)
                self._last[zone.name], self._total[zone.name] = now, 0

    def joules(self) -> float | None:
        """Return the joules of all packages since the start, or None where no counter can be read."""
        with self._lock:
            for zone, (file, limit) in self._zones.items():
                try:
                    now = int(file.read_text(encoding="ascii"))
                except (OSError, ValueError):
                    continue
                step = now - self._last[zone]
                self._total[zone] += step if step >= 0 else step + limit + 1
                self._last[zone] = now
            return sum(self._total.values()) / 1e6 if self._zones else None


@cache
def _rapl() -> Rapl:
    return Rapl()


def cpu_j() -> float | None:
    """Return the joules of this machine's CPU packages since the first call, whoever used them, or None."""
    return _rapl().joules()
