"""Numbers as people read them."""

from __future__ import annotations


def number(value: float) -> str:
    """Return a count with three digits and a unit letter: 950, 30k, 136M, 31.3G."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def factor(value: float) -> str:
    """Return a slowdown with the digits that matter: 1.0005, 1.26, 144, 98,294."""
    if value < 1.1:
        return f"{value:.4f}"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def small(value: float) -> str:
    """Return a non-negative amount in three digits, tiny ones in powers of ten."""
    if value == 0:
        return "0"
    if value < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def share(value: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * value:.2g}%"


def times(value: float) -> str:
    """Return a slowdown as people write it: 1.0005x, 2.98x, 144x."""
    return f"{factor(value)}x"


def dollars(value: float) -> str:
    """Return an amount, or that it is under a cent."""
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:.2f}" if value >= 0.01 else "under a cent" if value > 0 else "nothing"


def at_most(value: float) -> str:
    """Return an upper limit in dollars."""
    return f"at most {dollars(value)}" if value >= 0.01 else dollars(value)


def percent(share: float) -> str:
    """Return a share as a percentage with the digits that matter."""
    return f"{100 * share:.2g} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"
