"""What every benchmark records, so that two result files can be compared."""

from __future__ import annotations

import platform
from typing import Any

import numba
import numpy as np
import pytest

import powsim


@pytest.fixture
def note(benchmark: Any) -> Any:
    """Return a function that stores the rate of the benchmark just run: items per second and seconds per item."""

    def store(unit: str, items: int, goal: str) -> None:
        benchmark.extra_info.update(
            unit=unit,
            items=items,
            goal=goal,
            powsim=powsim.__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            numba=numba.__version__,
        )
        if benchmark.stats is not None:  # None where benchmarks are switched off
            seconds = benchmark.stats.stats.median
            benchmark.extra_info.update(rate=items / seconds, seconds_per_item=seconds / items)

    return store
