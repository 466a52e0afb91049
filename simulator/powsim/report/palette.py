"""Colours, the same for a trace or a device in every figure; readable with colour-blindness (Okabe and Ito)."""

from __future__ import annotations

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#555555", "#44AA99")


def colour(index: int) -> str:
    """Return the colour of the index-th thing."""
    return COLOURS[index % len(COLOURS)]
