"""What each identity has leaked so far: PATE costs of its queries, added up while they come."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim.text import shown
from powsim_kernels import PatePlan
from powsim_kernels.pate.conversion import check_delta, surcharge

ACCOUNTINGS = ("composed-rdp", "sum-epsilon")
FORMAT = "powsim-monitor-1"
OF_PLAN = (
    *("num_voters", "num_classes", "sigma", "orders", "threshold", "sigma1"),
    *("mechanism", "clip", "screening"),
)
BUFFER_VALUES = 1 << 18  # Renyi costs held at once
LONG = 8  # queries of one identity in a piece from which on a sum along them is quicker than one across identities

Identity = int | str


class Monitor:
    """Running eps of every identity under one plan; batches may be cut and mixed as they come, `a + b` merges.

    accounting: "composed-rdp" adds Renyi costs and converts the sum (a true composition); "sum-epsilon" adds the eps of
    single queries, as published. delta and conversion as in `powsim_kernels.rdp_to_eps`. Memory does not grow with
    queries; an identity takes 8 L bytes composed, 8 bytes summed. Votes lie on the host.
    Costs depend on private votes: showing them to the identity, or to anybody, leaks.
    """

    def __init__(
        self, plan: PatePlan, delta: float, *, accounting: str = "composed-rdp", conversion: str = "improved"
    ) -> None:
        if accounting not in ACCOUNTINGS:
            raise ValueError(f"unknown accounting {accounting!r}: choose one of {', '.join(ACCOUNTINGS)}")
        self.plan, self.delta, self.accounting, self.conversion = plan, check_delta(delta), accounting, conversion
        self._extra = surcharge(plan.grid, self.delta, conversion)
        self._slots: dict[Identity, int] = {}
        self._queries = np.zeros(0, np.int64)
        self._spent = np.zeros((0, plan.grid.size if accounting == "composed-rdp" else 1))

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def identities(self) -> list[Identity]:
        """The identities in the order in which they came; all arrays [A] follow it."""
        return list(self._slots)

    @property
    def queries(self) -> NDArray[np.int64]:
        """How many queries each identity asked: int64 [A]."""
        return self._queries[: len(self)].copy()

    @property
    def spent(self) -> NDArray[np.float64]:
        """What each identity spent: Renyi costs float64 [A, L] composed, summed eps [A, 1] summed."""
        return self._spent[: len(self)].copy()

    def slots(self, identities: Identity | Sequence[Identity] | NDArray[Any]) -> NDArray[np.int64]:
        """Return where the given identities stand in arrays [A], int64 [N]; -1 for one that never asked."""
        names, codes = _coded(identities)
        return np.array([self._slots.get(name, -1) for name in names], np.int64)[codes]

    def eps(self, identities: Identity | Sequence[Identity] | NDArray[Any] | None = None) -> NDArray[np.float64]:
        """Return the eps so far of all identities [A], or of the given ones [N]; 0 for one that never asked."""
        if identities is None:
            return self._converted(self._spent[: len(self)])
        slots = self.slots(identities)
        eps = np.zeros(len(slots))
        known = slots >= 0
        eps[known] = self._converted(self._spent[slots[known]])
        return eps

    def add(
        self,
        identities: Identity | Sequence[Identity] | NDArray[Any],
        votes: Any,
        *,
        realised: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Add queries, and return the eps of each query's identity after it: float64 [N].

        identities: one of N integers or texts per row, or a single one for all rows; 1 and "1" are two identities.
        votes [N, C] and realised [N] as in `PatePlan.rdp`. Bad input raises as there and changes nothing.
        """
        array = np.asarray(votes)
        rows = len(self.plan.logq(array))  # names the first bad row of all
        array = array.reshape(rows, self.plan.num_classes)
        if realised is not None and np.shape(realised) != (rows,):
            raise ValueError(f"realised has shape {np.shape(realised)}: one per row, ({rows},), is needed")
        single = isinstance(identities, int | str | np.integer)
        names, codes = _coded(identities)
        if single:
            codes = np.zeros(rows, np.int64)
        if len(codes) != rows:
            raise ValueError(
                f"{len(codes)} identities for {rows} rows of votes: one per row, or a single one, is needed"
            )
        if rows == 0:
            return np.empty(0)
        known = np.array([self._slots.get(name, -1) for name in names], np.int64)
        spent = np.zeros((len(names), self._spent.shape[1]))
        spent[known >= 0] = self._spent[known[known >= 0]]
        eps = np.empty(rows)
        step = max(1, BUFFER_VALUES // self.plan.grid.size)
        for begin in range(0, rows, step):
            cut = slice(begin, begin + step)
            costs = self.plan.rdp(array[cut], realised=None if realised is None else np.asarray(realised)[cut])
            if self.accounting == "sum-epsilon":
                costs = np.maximum((costs + self._extra).min(axis=1), 0.0)[:, None]
            self._compose(codes[cut], costs, spent, eps[cut])
        self._keep(names, known, spent, np.bincount(codes, minlength=len(names)))
        return eps

    def _compose(
        self, codes: NDArray[np.int64], costs: NDArray[np.float64], spent: NDArray[np.float64], eps: NDArray[np.float64]
    ) -> None:
        """Add costs [n, W] to spent [G, W] one after another, which no cut of the batch changes; fill eps [n]."""
        order = np.argsort(codes, kind="stable")
        begins = np.append(0, np.flatnonzero(np.diff(codes[order])) + 1)
        lengths = np.diff(np.append(begins, len(order)))
        for begin, length in zip(begins[lengths > LONG], lengths[lengths > LONG], strict=True):
            rows = order[begin : begin + length]
            path = costs[rows]
            path[0] += spent[codes[rows[0]]]
            np.cumsum(path, axis=0, out=path)
            spent[codes[rows[0]]] = path[-1]
            eps[rows] = self._converted(path)
        begins, lengths = begins[lengths <= LONG], lengths[lengths <= LONG]
        for turn in range(lengths.max(initial=0)):  # the first query of each, the second of each that has one, ...
            rows = order[begins[lengths > turn] + turn]
            groups = codes[rows]
            spent[groups] += costs[rows]
            eps[rows] = self._converted(spent[groups])

    def _converted(self, spent: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.accounting == "sum-epsilon":
            return spent[:, 0].copy()
        eps: NDArray[np.float64] = np.maximum((spent + self._extra).min(axis=1), 0.0)
        return eps

    def _keep(
        self, names: list[Identity], known: NDArray[np.int64], spent: NDArray[np.float64], asked: NDArray[np.int64]
    ) -> None:
        """Set what these identities spent; room grows by half, so that adding stays cheap."""
        fresh = np.flatnonzero(known < 0)
        held = len(self)
        slots = known.copy()
        slots[fresh] = held + np.arange(len(fresh))
        if held + len(fresh) > len(self._queries):
            room = max(held + len(fresh), held + held // 2, 16)
            queries, spending = np.zeros(room, np.int64), np.zeros((room, self._spent.shape[1]))
            queries[:held], spending[:held] = self._queries[:held], self._spent[:held]
            self._queries, self._spent = queries, spending
        self._queries[slots] += asked
        self._spent[slots] = spent
        self._slots.update((names[i], int(slots[i])) for i in fresh)

    def __add__(self, other: Monitor) -> Monitor:
        mine, theirs = self.settings(), other.settings()
        for name, value in mine.items():
            if theirs[name] != value:
                raise ValueError(f"monitors of different {name} do not merge: {shown(value)} and {shown(theirs[name])}")
        both = Monitor(self.plan, self.delta, accounting=self.accounting, conversion=self.conversion)
        for part in (self, other):
            names = part.identities
            known = np.array([both._slots.get(name, -1) for name in names], np.int64)
            spent = part.spent
            spent[known >= 0] += both._spent[known[known >= 0]]
            both._keep(names, known, spent, part.queries)
        return both

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, as plain values."""
        of_plan = {name: getattr(self.plan, name) for name in OF_PLAN}
        of_plan["orders"] = self.plan.grid.tolist()
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in of_plan.items()}
        return {**plain, "delta": self.delta, "accounting": self.accounting, "conversion": self.conversion}

    def save(self, path: str | Path) -> None:
        """Write the state to an npz file, whole or not at all; what stood there is replaced. Raises OutputError."""
        from powsim.target import staged

        about = {"format": FORMAT, **self.settings()}
        texts = {"settings": about, "identities": self.identities}  # as JSON: no pickle, and no text loses its end
        held = {name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in texts.items()}
        with staged(Path(path), force=True, option="path") as temporary, temporary.open("wb") as file:
            np.savez(file, queries=self.queries, spent=self.spent, allow_pickle=False, **held)

    @classmethod
    def load(cls, path: str | Path, *, backend: str = "auto", threads: int | None = None) -> Monitor:
        """Return the monitor that `save` wrote, to go on with. Raises ValueError for what is no such file, OSError."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as held:
                settings, identities = (json.loads(held[name].tobytes()) for name in ("settings", "identities"))
                queries, spent = held["queries"], held["spent"]
            if settings.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            plan = PatePlan(**{name: settings.pop(name) for name in OF_PLAN}, backend=backend, threads=threads)
            monitor = cls(plan, settings.pop("delta"), **settings)
            names, _ = _coded(identities)
            shape = (len(identities), monitor._spent.shape[1])
            if len(names) != len(identities) or queries.shape != shape[:1] or spent.shape != shape:
                raise ValueError("its arrays do not fit each other")
            if queries.dtype != np.int64 or spent.dtype != np.float64 or (queries < 1).any() or (spent < 0).any():
                raise ValueError("it holds counts or costs that cannot be")
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{shown(str(path), 300)} is no saved monitor: {error}") from error
        monitor._keep(names, np.full(len(names), -1, np.int64), spent, queries)
        return monitor


def _coded(identities: Any) -> tuple[list[Identity], NDArray[np.int64]]:
    """Return the different identities in the order of their first row, and which of them each row is, int64 [N]."""
    if isinstance(identities, int | str | np.integer):
        identities = [identities]
    if isinstance(identities, np.ndarray) and identities.dtype.kind in "iuU" and identities.ndim == 1:
        values, first, code = np.unique(identities, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return [value.item() for value in values[order]], rank[code]
    if np.ndim(identities) != 1 and not isinstance(identities, list | tuple):
        raise ValueError(f"identities have shape {np.shape(identities)}: one per row is needed")
    found: dict[Identity, int] = {}
    codes = np.empty(len(identities), np.int64)
    for row, name in enumerate(identities):
        plain = name.item() if isinstance(name, np.generic) else name
        if not isinstance(plain, int | str) or isinstance(plain, bool):
            raise TypeError(f"identities[{row}] = {shown(plain)} is neither an integer nor a text")
        codes[row] = found.setdefault(plain, len(found))
    return list(found), codes
