"""A user's own parts: policies by import path or file, traces by CSV file. The shipped ones use the same door."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import importlib
import inspect
import io
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, create_model

from powsim.devices import closest
from powsim.files import read_file
from powsim.ledger import Ledger, Service
from powsim.policy import SHIPPED, Policy
from powsim.text import shown

MOST_QUERIES = 10**9
LARGEST_TRACE = 64 << 20
MOST_COST_PER_QUERY = 1e12


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Run code of the user's own: what it prints goes to stderr, whatever it raises becomes a ValueError."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:  # a user's file may fail in any way; the reason is passed on
        raise ValueError(f"{what}: {type(error).__name__}: {str(error)[:200]}") from error


def price(policy: Policy, ledger: Ledger, service: Service) -> NDArray[np.float64]:
    """Return the work that a policy asks, float64 [A, P]. Raises ValueError for whatever is not."""
    with foreign("the policy failed"):
        answer = np.asarray(policy.price(ledger, service))
    if answer.dtype.kind not in "biuf":
        raise ValueError(f"the policy returned work of type {answer.dtype}: numbers of hashes are needed")
    if answer.shape != ledger.cost.shape:
        raise ValueError(f"the policy returned work of shape {answer.shape} for a ledger of {ledger.cost.shape}")
    return answer.astype(np.float64)


class PluginMistake(ValueError):
    """Something that a scenario names cannot be had; `mistakes` holds (path, text) pairs."""

    def __init__(self, *mistakes: tuple[str, str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("; ".join(f"{path}: {text}" for path, text in mistakes))


def build_policy(table: dict[str, Any], folder: Path) -> Policy:
    """Return the policy of a [policy] table: `name`, and arguments. Raises PluginMistake with every mistake."""
    names = ("queries_per_puzzle", "partial_puzzle", "price")
    policy, (every, partial, pricing) = build_part(table, folder, SHIPPED, names, kind="policy")
    name = table["name"]
    if not isinstance(every, int | np.integer) or isinstance(every, bool) or not 0 <= every <= MOST_QUERIES:
        needed = f"a whole number from 0 to {MOST_QUERIES:,} is needed"
        raise PluginMistake(("policy.name", f"'{name}' has queries_per_puzzle {shown(every)}: {needed}"))
    if not isinstance(partial, bool) or not callable(pricing):
        raise PluginMistake(
            ("policy.name", f"'{name}' needs a bool partial_puzzle and a method price: see powsim.Policy")
        )
    built: Policy = policy
    return built


def build_part(
    table: dict[str, Any],
    folder: Path,
    known: Mapping[str, Any],
    attributes: tuple[str, ...],
    *,
    kind: str,
    where: str | None = None,
    key: str = "name",
) -> tuple[Any, list[Any]]:
    """Return the object that a table describes, a shipped one or the user's own, and its named attributes or None.

    `key` names it, the other entries are arguments; mistakes are told under `where`, by default `kind`. Raises
    PluginMistake with every mistake.
    """
    where = where or kind
    arguments = {name: value for name, value in table.items() if name != key}
    name, at = table.get(key), f"{where}.{key}"
    if not isinstance(name, str):
        raise PluginMistake((at, f"is missing: choose one of {', '.join(known)}, or 'file.py:Class'"))
    cls = known[name] if name in known else find_part(name, folder, known, kind, at)
    if not callable(cls):
        raise PluginMistake((at, f"'{name}' is of type {type(cls).__name__}, which is not callable: name a class"))
    try:
        with foreign(f"cannot build '{name}'"):
            hints = get_type_hints(cls, include_extras=True) if dataclasses.is_dataclass(cls) else None
        checked = arguments if hints is None else _checked(cls, hints, arguments, where)
        _refuse_odd(arguments, where)
        with foreign(f"cannot build '{name}'"):
            part = cls(**checked)
            return part, [getattr(part, attribute, None) for attribute in attributes]
    except PluginMistake:
        raise
    except ValueError as error:
        raise PluginMistake((where, str(error))) from error


def _refuse_odd(arguments: dict[str, Any], where: str) -> None:
    """Raise PluginMistake for arguments that JSON cannot hold: results repeat them."""

    def fine(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(fine, value.values()))
        if isinstance(value, list):
            return all(map(fine, value))
        return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))

    bad = [key for key, value in arguments.items() if not fine(value)]
    if bad:
        raise PluginMistake(
            *((f"{where}.{key}", "only finite numbers, texts, lists and tables are taken") for key in bad)
        )


def _checked(cls: Any, hints: dict[str, Any], arguments: dict[str, Any], where: str) -> dict[str, Any]:
    """Return arguments for a dataclass, checked against its annotations."""
    parameters = inspect.signature(cls).parameters
    # Names of our own with the dataclass's as aliases: pydantic keeps some names, and underscores, for itself.
    fields: dict[str, Any] = {
        f"f{number}": (_type_of(hints[name]), Field(alias=name, **_default(cls, parameter)))
        for number, (name, parameter) in enumerate(parameters.items())
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        model = create_model(cls.__name__, __config__=config, **fields).model_validate(arguments)
    except ValidationError as error:
        mistakes = []
        for e in error.errors(include_url=False):
            path = ".".join((where, *map(str, e["loc"])))
            if e["type"] == "extra_forbidden":
                near = closest(str(e["loc"][0]), parameters)
                mistakes.append((path, "unknown key" + (f"; did you mean {near[0]}?" if near else "")))
            else:
                mistakes.append((path, f"{e['msg']} (got {shown(e['input'])})"))
        raise PluginMistake(*mistakes) from None
    return {name: getattr(model, f"f{number}") for number, name in enumerate(parameters)}


def _type_of(hint: Any) -> Any:
    """Return the type of an annotation; an InitVar carries it inside."""
    return hint.type if isinstance(hint, dataclasses.InitVar) else hint


def _default(cls: Any, parameter: inspect.Parameter) -> dict[str, Any]:
    """Return what stands for an argument that is not given, in pydantic's words."""
    field = cls.__dataclass_fields__[parameter.name]
    if field.default_factory is not dataclasses.MISSING:
        return {"default_factory": field.default_factory}
    return {} if parameter.default is parameter.empty else {"default": parameter.default}


def find_part(name: str, folder: Path, known: Mapping[str, Any], kind: str, at: str) -> Any:
    """Return what "package.module:Class" or "file.py:Class" names; raises PluginMistake, told under `at`."""
    module_name, colon, attribute = name.rpartition(":")
    if not colon:
        near = closest(name, known)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise PluginMistake(
            (at, f"unknown {kind} '{name}'{hint}: choose one of {', '.join(known)}, or 'file.py:Class'")
        )
    try:
        with foreign(f"cannot load '{name}'"):
            module = (
                _module_of(folder / module_name)
                if module_name.endswith(".py")
                else importlib.import_module(module_name)
            )
            return getattr(module, attribute)
    except ValueError as error:
        raise PluginMistake((at, str(error))) from error


def _module_of(path: Path) -> ModuleType:
    """Return a module made from a file."""
    unique = f"powsim_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    # Compiled here, not imported: Python's bytecode cache would miss a change within a second, and leave files behind.
    code = compile(path.read_bytes(), str(path), "exec")
    module = ModuleType(unique)
    module.__file__ = str(path)
    sys.modules[unique] = module  # dataclasses look their own module up there
    exec(code, module.__dict__)
    return module


def read_trace(name: str, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cumulative queries and cost [R] of a CSV file with the columns queries,cost. Raises ValueError."""
    try:
        text = read_file(folder / name, LARGEST_TRACE).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"cannot read '{name[:200]}': {str(error)[:200]}") from None
    try:
        queries = np.array([float(row["queries"]) for row in rows])
        cost = np.array([float(row["cost"]) for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{name}' needs number columns queries,cost: {str(error)[:200]}") from None
    if len(queries) < 2 or not (np.isfinite(queries).all() and np.isfinite(cost).all()):
        raise ValueError(f"'{name}' needs at least two rows of finite numbers")
    if np.any(np.diff(queries) <= 0) or np.any(np.diff(cost) < 0) or queries[0] < 0 or cost[0] < 0:
        raise ValueError(f"'{name}': queries must rise and cost must not fall from row to row")
    with np.errstate(over="ignore"):
        steepest = float(np.max(np.diff(cost) / np.diff(queries)))
    if steepest > MOST_COST_PER_QUERY:
        raise ValueError(f"'{name}': {steepest:g} of cost per query exceeds {MOST_COST_PER_QUERY:g}")
    return queries, cost
