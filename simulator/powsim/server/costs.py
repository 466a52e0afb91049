"""What minting and verifying cost a gate, per puzzle family, each with its source (costs.toml)."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Costs:
    """Seconds of one core per message, bytes per remembered challenge or solution."""

    handling_s: float  # every message: read, parsed, answered
    mint_s: float
    check_s: float  # signature and expiry
    verify_s: float  # the puzzle itself
    drop_s: float  # a message above its identity's limit
    entry_bytes: float


@functools.cache
def _file() -> dict[str, Any]:
    text = resources.files("powsim.server").joinpath("costs.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def families() -> tuple[str, ...]:
    """Return the puzzle families whose costs are known."""
    return tuple(_file()["family"])


def source_of(family: str) -> str:
    """Return where a family's costs are from."""
    return str(_file()["sources"][_file()["family"][family]["source"]])


def costs_of(family: str, own: dict[str, float | None]) -> Costs:
    """Return the costs of a family, those that `own` gives replaced."""
    common, chosen = _file()["common"], _file()["family"][family]
    known = {name: (chosen if name in chosen else common)[name] for name in Costs.__dataclass_fields__}
    return Costs(**known | {name: value for name, value in own.items() if value is not None})
