"""A user's own parts: policies by import path or file, traces by CSV file. The shipped ones use the same door."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError, create_model

from powsim.devices import closest
from powsim.policy import SHIPPED, Policy


class PluginMistake(ValueError):
    """Something that a scenario names cannot be had; `mistakes` holds (path, text) pairs."""

    def __init__(self, *mistakes: tuple[str, str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("; ".join(f"{path}: {text}" for path, text in mistakes))


def build_policy(table: dict[str, Any], folder: Path) -> Policy:
    """Return the policy of a [policy] table: `name`, and arguments. Raises PluginMistake with every mistake."""
    arguments = {key: value for key, value in table.items() if key != "name"}
    name = table.get("name")
    if not isinstance(name, str):
        raise PluginMistake(("policy.name", f"is missing: choose one of {', '.join(SHIPPED)}, or 'file.py:Class'"))
    cls = SHIPPED[name] if name in SHIPPED else _import(name, folder)
    if not dataclasses.is_dataclass(cls):
        try:
            policy = cls(**arguments)
        except (TypeError, ValueError) as error:
            raise PluginMistake(("policy", str(error))) from error
    else:
        policy = cls(**_checked(cls, arguments))
    for attribute in ("queries_per_puzzle", "partial_puzzle", "price"):
        if not hasattr(policy, attribute):
            raise PluginMistake(("policy.name", f"'{name}' has no {attribute}: see powsim.policy.Policy"))
    return policy


def _checked(cls: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments for a dataclass, checked against its annotations."""
    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is dataclasses.MISSING else field.default)
        for field in dataclasses.fields(cls)
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        model = create_model(cls.__name__, __config__=config, **fields).model_validate(arguments)
    except ValidationError as error:
        mistakes = []
        for e in error.errors(include_url=False):
            path = ".".join(("policy", *map(str, e["loc"])))
            if e["type"] == "extra_forbidden":
                near = closest(str(e["loc"][0]), fields)
                mistakes.append((path, "unknown key" + (f"; did you mean {near[0]}?" if near else "")))
            else:
                mistakes.append((path, f"{e['msg']} (got {e['input']!r})"))
        raise PluginMistake(*mistakes) from None
    return {name: getattr(model, name) for name in fields}


def _import(name: str, folder: Path) -> Any:
    """Return what "package.module:Class" or "file.py:Class" names."""
    module_name, colon, attribute = name.rpartition(":")
    if not colon:
        near = closest(name, SHIPPED)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise PluginMistake(
            (
                "policy.name",
                f"unknown policy '{name}'{hint}: choose one of {', '.join(SHIPPED)}, or 'file.py:Class'",
            )
        )
    try:
        if module_name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module_name).stem, folder / module_name)
            if spec is None or spec.loader is None:
                raise ImportError(f"{module_name} is no Python file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except Exception as error:
        raise PluginMistake(("policy.name", f"cannot load '{name}': {type(error).__name__}: {error}")) from error


def read_trace(name: str, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cumulative queries and cost [R] of a CSV file with the columns queries,cost. Raises ValueError."""
    try:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read '{name}': {error}") from None
    try:
        queries = np.array([float(row["queries"]) for row in rows])
        cost = np.array([float(row["cost"]) for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{name}' needs number columns queries,cost: {error}") from None
    if len(queries) < 2 or not (np.isfinite(queries).all() and np.isfinite(cost).all()):
        raise ValueError(f"'{name}' needs at least two rows of finite numbers")
    if np.any(np.diff(queries) <= 0) or np.any(np.diff(cost) < 0) or queries[0] < 0 or cost[0] < 0:
        raise ValueError(f"'{name}': queries must rise and cost must not fall from row to row")
    return queries, cost
