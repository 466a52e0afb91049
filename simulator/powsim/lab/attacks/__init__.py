"""Attacks as query strategies. The shipped ones and a user's own ("file.py:Class") come through one door."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from powsim.lab.attacks.base import Answers, Attack, Student, View
from powsim.lab.attacks.combined import InOut, InOut75, Laundering
from powsim.lab.attacks.datafree import DataFree
from powsim.lab.attacks.deepfool import DeepFool
from powsim.lab.attacks.jacobian import Jacobian, JacobianTR
from powsim.lab.attacks.kcentre import KCentre
from powsim.lab.attacks.knockoff import KnockoffAdaptive
from powsim.lab.attacks.mixmatch import MixMatch
from powsim.lab.attacks.outside import CopyCat, KnockoffRandom, Noise
from powsim.lab.attacks.standard import Standard
from powsim.lab.attacks.sybil import accounts_of
from powsim.lab.attacks.uncertainty import Entropy, EntropyRev, Gap
from powsim.lab.attacks.worstcase import WorstCase
from powsim.plugin import PluginMistake, find_part

_SHIPPED: tuple[type[Attack], ...] = (
    Standard,
    MixMatch,
    Entropy,
    Gap,
    KCentre,
    DeepFool,
    EntropyRev,
    WorstCase,
    Jacobian,
    JacobianTR,
    InOut,
    InOut75,
    Laundering,
    CopyCat,
    KnockoffRandom,
    KnockoffAdaptive,
    Noise,
    DataFree,
)
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _SHIPPED}
"""The shipped attacks by name."""

_NEEDED: dict[str, type] = {
    "name": str,
    "labels": str,
    "data": str,
    "needs_student": bool,
    "needs_oracle": bool,
    "source": str,
}
_METHODS = ("propose", "observe", "training_set", "student_updated", "own_student")
_CHOICES = {"labels": ("hard", "soft"), "data": ("in", "out", "limited", "synthetic", "mixed")}

__all__ = ["ATTACKS", "Answers", "Attack", "Student", "View", "accounts_of", "attack_class"]


def attack_class(name: str, folder: Path) -> type[Attack]:
    """Return a shipped attack's class by name, or the user's own by "file.py:Class" or "package.module:Class".

    Files are looked for in `folder`. Raises PluginMistake (a ValueError) that says what an own one lacks.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    found = find_part(name, folder, ATTACKS, "attack", "attack")
    wrong = [key for key, kind in _NEEDED.items() if not isinstance(getattr(found, key, None), kind)]
    wrong += [key for key, choices in _CHOICES.items() if key not in wrong and getattr(found, key) not in choices]
    wrong += [key for key in _METHODS if not callable(getattr(found, key, None))]
    if not isinstance(found, type) or wrong:
        lacking = f"lacks a proper {', '.join(wrong)}" if wrong else "is not a class"
        raise PluginMistake(("attack", f"'{name}' {lacking}: see powsim.lab.attacks.base.Attack"))
    return cast("type[Attack]", found)
