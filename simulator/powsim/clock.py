"""One server per identity: a request starts when it has arrived and the one before it is done."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def finish_times(arrival_s: NDArray[np.float64], duration_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when each request is done, [A, P] seconds: start = max(arrival, previous finish).

    arrival_s, duration_s: [A, P]. Lindley's recursion unrolled: finish_j = sum(d_0..d_j) + max over i <= j of
    (arrival_i - sum(d_0..d_{i-1})).
    """
    worked = np.cumsum(duration_s, axis=1)
    return np.asarray(worked + np.maximum.accumulate(arrival_s - (worked - duration_s), axis=1))
