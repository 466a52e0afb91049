"""Joules from the counters that a machine has: RAPL of the CPU packages, NVML of the GPUs, or nothing."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
Counters = Mapping[str, float]


def counters() -> Callable[[], Counters]:
    """Return a function that tells total joules so far per counter; only differences mean something.

    GPUs are named like their backend, "cuda:0"; everything else is the CPU's. Empty where the machine tells nothing.
    """
    if importlib.util.find_spec("powsim_kernels.energy") is not None:
        kernels: Any = importlib.import_module("powsim_kernels.energy")
        joules: Callable[[], Counters] = kernels.joules
        return joules
    return Rapl().joules


class Rapl:
    """The energy counters of Linux's powercap: one per CPU package, in microjoules, wrapping round at a limit.

    Reads that are a wrap or less apart add up right: at 200 W a package wraps about once in 20 minutes.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
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
                self._zones[name] = (zone / "energy_uj", limit)
                self._last[name], self._total[name] = now, 0

    def joules(self) -> dict[str, float]:
        """Return the joules since the start, per package."""
        for name, (file, limit) in self._zones.items():
            try:
                now = int(file.read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
            step = now - self._last[name]
            self._total[name] += step if step >= 0 else step + limit + 1
            self._last[name] = now
        return {name: total / 1e6 for name, total in self._total.items()}


def spent(before: Counters, after: Counters, gpu: str | None) -> float | None:
    """Return the joules between two readings: of the backend `gpu`, or of all CPU packages for None.

    None where no counter tells.
    """
    names = [name for name in before if name in after and (name == gpu if gpu else not name.startswith("cuda"))]
    return sum(after[name] - before[name] for name in names) if names else None
