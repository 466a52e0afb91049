"""The standard user: an attacker with real data behaves like any customer."""

from __future__ import annotations

from powsim.lab.attacks.parts import FromPool


class Standard(FromPool):
    """In-distribution images in random order, hard labels."""

    name = "standard"
    labels = "hard"
    data = "in"
    source = "Dziedzic et al. 2022, section 4.1: the legitimate user"
