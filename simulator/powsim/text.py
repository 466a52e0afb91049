"""Numbers and foreign texts as people read them."""

from __future__ import annotations

import math

UNITS = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
HUGE = 1e7  # from here on a factor or an amount is printed in powers of ten


def printable(text: str) -> str:
    """Return a text that stays on its line and steers no terminal: control characters as their escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object, most: int = 80) -> str:
    """Return a value as a message can hold it: not every integer can be printed, nor should every text be."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def number(value: float) -> str:
    """Return a count with three digits and a unit letter: 950, 30k, 136M, 31.3G."""
    for unit, size in UNITS:
        if abs(value) >= 0.9995 * size:  # 999,999 is 1M and not 1000k
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def factor(value: float) -> str:
    """Return a slowdown with the digits that matter: 1.0005, 1.26, 144, 98,294."""
    if value < 1.1:
        return f"{value:.4f}"
    if value >= HUGE:
        return _power(value)
    return f"{value:.2f}" if value < 9.995 else f"{value:,.0f}"


def small(value: float) -> str:
    """Return a non-negative amount in three digits, tiny and huge ones in powers of ten."""
    if value == 0:
        return "0"
    if value < 0.001 or value >= HUGE:
        return _power(value)
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def share(value: float) -> str:
    """Return a share as a percentage, 100% for all alone: 0.0063%, 2.1%, 43%, 99.96%."""
    percentage = 100 * value
    if percentage >= 99.5 and value < 1:
        return f"{math.floor(percentage * 1000) / 1000:g}%"
    return f"{percentage:.0f}%" if percentage >= 9.95 else f"{percentage:.2g}%"


def percent(value: float) -> str:
    """Return a share as a percentage in a sentence."""
    return share(value).replace("%", " %")


def times(value: float) -> str:
    """Return a slowdown as people write it: 1.0005x, 2.98x, 144x."""
    return f"{factor(value)}x"


def dollars(value: float) -> str:
    """Return an amount, or that it is under a cent."""
    if value >= 100:
        return f"${small(value)}"
    return f"${value:.2f}" if value >= 0.01 else "under a cent" if value > 0 else "nothing"


def at_most(value: float) -> str:
    """Return an upper limit in dollars."""
    return f"at most {dollars(value)}" if value >= 0.01 else dollars(value)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
