"""The edge where a user's own files are checked: pydantic models, and mistakes told by place, all at once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from powsim.files import read_file, reason
from powsim.text import printable, shown

LARGEST = 16 << 20  # bytes of a TOML file: a hundred thousand devices
NAME = r"^[a-z0-9][a-z0-9._-]*$"


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with a file: where and what."""

    path: str
    text: str


class ScenarioError(ValueError):
    """A scenario, or a file of devices, that cannot be used. `mistakes` holds every one that was found."""

    def __init__(self, where: str, mistakes: list[Mistake]) -> None:
        self.where = where
        self.mistakes = mistakes
        # Keys and values of a user's file stand in them, which may hold anything.
        lines = [printable(f"  {m.path}: {m.text}" if m.path else f"  {m.text}") for m in mistakes]
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{printable(where)}: {count}", *lines]))


class Edge(BaseModel):
    """A table of a user's file: no unknown key, no conversion, no number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_toml(path: Path, hint: str = "", piped: bool = False) -> tuple[dict[str, Any], bytes]:
    """Return a TOML file as a table and as bytes; piped: a pipe will do. Raises ValueError saying why not.

    hint: follows "no such file".
    """
    try:
        content = read_file(path, LARGEST, piped)
    except OSError as error:
        more = hint if isinstance(error, FileNotFoundError) else ""
        raise ValueError(f"cannot be read: {reason(error)}{more}") from None
    try:
        return tomllib.loads(content.decode("utf-8-sig")), content
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start}): is it TOML?") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number of too many digits
        raise ValueError(f"is not valid TOML: {str(error)[:200]}") from None


def told(error: ValidationError) -> list[Mistake]:
    """Return what pydantic found, in our words."""
    return [_mistake(dict(found)) for found in error.errors(include_url=False)]


def _mistake(error: dict[str, Any]) -> Mistake:
    path = ".".join(str(part) for part in error["loc"] if not str(part).startswith("<") and part != "[key]")
    text = str(error["msg"]).removeprefix("Value error, ")
    text = {"extra_forbidden": "unknown key", "missing": "is missing"}.get(error["type"], text)
    value = error.get("input")
    if error["type"] not in ("missing", "value_error") and isinstance(value, int | float | str | bool):
        text += f" (got {shown(value)})"
    return Mistake(path, text)
