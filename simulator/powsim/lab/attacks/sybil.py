"""Sybil: one campaign's queries, in their order, spread over many accounts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def accounts_of(queries: int, accounts: int, *, in_turn: bool = True) -> NDArray[np.int64]:
    """Return which account asks each query, int64 [queries] in 0..accounts-1; counts differ by one at most.

    A function of indices: it serves an attack's order and a recording alike, and nothing is trained again, as the
    answers do not depend on who asks. in_turn: one query each, round and round; otherwise an account is used up before
    the next. With `np.flatnonzero(accounts_of(q, 16) == 3)` account 3's queries stand in the order of asking.
    """
    if queries < 0:
        raise ValueError(f"queries={queries} must not be negative")
    if accounts < 1:
        raise ValueError(f"accounts={accounts} must be at least 1")
    at = np.arange(queries, dtype=np.int64)
    return at % accounts if in_turn else at * accounts // max(1, queries)
