"""From Renyi costs to (eps, delta), and the orders to ask for."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONVERSIONS = ("classic", "improved")
SHORT = (1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 192, 256, 384, 512)


class OrderGridWarning(UserWarning):
    """The best order is the first or the last of the grid: a longer grid would give a smaller eps."""


def default_orders(kind: str = "long") -> NDArray[np.float64]:
    """Return Renyi orders: "long", the 396 of the published code (2, 2.5, ..., 99.5, then 200 log-spaced 100..1000).

    Or "short": 26 from 1.25 to 512, each about a quarter above the one before.
    """
    if kind == "long":
        return np.concatenate((np.arange(2, 100, 0.5), np.logspace(2, 3, num=200)))
    if kind == "short":
        return np.array(SHORT, dtype=np.float64)
    raise ValueError(f"unknown kind of orders {kind!r}: choose long or short")


def check_orders(orders: ArrayLike) -> NDArray[np.float64]:
    """Return orders as float64 [L], or raise naming the first bad one."""
    if isinstance(orders, str):
        raise TypeError(f"orders={orders!r} is a text: give numbers, such as default_orders({orders!r})")
    grid = np.array(orders, dtype=np.float64, order="C")
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"orders have shape {grid.shape}: a non-empty list of numbers above 1 is needed")
    bad = ~(np.isfinite(grid) & (grid > 1.0))
    if bad.any():
        raise ValueError(f"orders[{int(np.argmax(bad))}] = {grid[bad][0]} is not a finite number above 1")
    values, counts = np.unique(grid, return_counts=True)
    if values.size < grid.size:
        raise ValueError(f"order {values[counts > 1][0]} stands twice in orders: each may stand once")
    return grid


def check_delta(delta: float) -> float:
    """Return delta, or raise where it is no number strictly between 0 and 1."""
    if isinstance(delta, bool) or not isinstance(delta, int | float | np.integer | np.floating):
        raise TypeError(f"delta={delta!r} must be a number")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta={delta} must lie between 0 and 1, both excluded")
    return float(delta)


def surcharge(orders: NDArray[np.float64], delta: float, conversion: str) -> NDArray[np.float64]:
    """Return what the conversion adds to the Renyi cost at each order [L]."""
    if conversion == "classic":
        return -math.log(delta) / (orders - 1.0)
    if conversion == "improved":
        return np.log1p(-1.0 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1.0)
    raise ValueError(f"unknown conversion {conversion!r}: choose one of {', '.join(CONVERSIONS)}")


def warn_at_the_edge(eps: NDArray[np.float64], index: NDArray[np.int64], orders: NDArray[np.float64]) -> None:
    """Warn where the order of an eps above 0 is the first or last of several."""
    edge = ((index == 0) | (index == orders.size - 1)) & (eps > 0.0)
    if orders.size > 1 and edge.any():
        at = float(orders[index[edge].flat[0]])
        warnings.warn(f"the best order is {at:g}, at the edge of the grid: extend `orders`", OrderGridWarning, 3)


def check_rdp(rdp: ArrayLike, orders: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return costs [..., L] and orders [L] as float64, or raise."""
    grid, costs = check_orders(orders), np.asarray(rdp, dtype=np.float64)
    if costs.ndim == 0 or costs.shape[-1] != grid.size:
        raise ValueError(f"rdp has shape {costs.shape}: its last axis must be the {grid.size} orders")
    if not np.all(costs >= 0.0):  # NaN compares false
        raise ValueError("rdp holds a negative or NaN cost")
    return costs, grid


def rdp_to_eps(
    rdp: ArrayLike, orders: ArrayLike, delta: float, conversion: str = "improved"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return eps [...] with the index of the order that gives it, the first on ties.

    rdp: [..., L] Renyi costs. "classic" is Mironov 2017, proposition 3: rdp + ln(1/delta) / (order - 1). "improved" is
    Canonne, Kamath and Steinke 2020, proposition 12, at least 0: rdp + ln(1 - 1/order) - ln(delta order) / (order - 1).
    A data-dependent eps depends on the private votes: publishing it leaks. Warns (OrderGridWarning) where the best
    order is the first or last. Raises ValueError for bad orders, delta, costs or conversion.
    """
    costs, grid = check_rdp(rdp, orders)
    candidates = costs + surcharge(grid, check_delta(delta), conversion)
    index = np.argmin(candidates, axis=-1)
    eps = np.maximum(np.take_along_axis(candidates, index[..., None], axis=-1)[..., 0], 0.0)
    warn_at_the_edge(eps, np.asarray(index), grid)
    return eps, index


def rdp_to_delta(rdp: ArrayLike, orders: ArrayLike, eps: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return delta [...], at most 1, with the index of the order that gives it: the improved conversion turned round.

    delta = exp((order-1)(rdp - eps)) (1 - 1/order)^order / (order-1). Raises ValueError as `rdp_to_eps`, and for an
    eps that is negative or not finite.
    """
    costs, grid = check_rdp(rdp, orders)
    if not (math.isfinite(eps) and eps >= 0.0):
        raise ValueError(f"eps={eps} must be a finite number, at least 0")
    logs = (grid - 1.0) * (costs - eps) + grid * np.log1p(-1.0 / grid) - np.log(grid - 1.0)
    index = np.argmin(logs, axis=-1)
    delta = np.exp(np.minimum(np.take_along_axis(logs, index[..., None], axis=-1)[..., 0], 0.0))
    return delta, index
