"""Votes of the k nearest points: the teachers of private-kNN, exact, in bounded memory, on a CPU or a GPU.

A library finds somewhat more than k candidates fast, by |x|^2 - 2xy + |y|^2 in float64. That form cancels, so
a bound on its rounding says for each query whether the k nearest are sure. Where they are not, candidates are measured
again by the sum of squared differences; and where a point outside of them could still belong to the k nearest (masses
of equal distances, points far outside), that query is measured against every point. So rounding never decides: the
result is the same with every library, device and memory limit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.lab import searches
from powsim_kernels import BackendUnavailable

SEARCHES = ("torch", "scikit-learn", "numpy")
LARGEST = 1e150  # squared distances of larger values overflow
LEAST_MEMORY = 1 << 20
TINY = 1e-290  # rounding near the smallest numbers is absolute


def knn_votes(
    queries: Any,
    points: Any,
    labels: Any,
    k: int,
    num_classes: int,
    *,
    search: str = "auto",
    device: str | None = None,
    memory_bytes: int = 256 << 20,
) -> Any:
    """Return how often each class stands among the labels of each query's k nearest points: [N, C], rows sum to k.

    queries [N, D], points [M, D]: float32, float64 or integers; labels [M]: integers in 0..num_classes-1. The votes are
    int16 (int32 where k > 32767): an array, or a tensor on the queries' device where `queries` is a torch tensor. They
    go into `PatePlan(k, num_classes, sigma, clip=False)`, the published private-kNN cost (Dziedzic et al. 2022,
    appendix B.5; there embeddings are the log-softmax of the victim's logits).

    Distances are L2: float64 sums of squared differences, added in the order of the dimensions. Of points equally far
    the one with the lowest index is nearer. search: "torch", "scikit-learn" or "numpy" (every distance in full, slow);
    "auto" takes the first that is installed. device: torch's name of one, e.g. "cuda"; default where the queries are.
    memory_bytes bounds what is held beside inputs, float64 copies of the points and votes.
    Raises ValueError naming the argument, TypeError, BackendUnavailable where a library or device is missing.
    """
    if not 2 <= _integer("num_classes", num_classes) <= 2**31:
        raise ValueError(f"num_classes={num_classes} must be at least 2")
    task = _task(queries, points, k, search, device, memory_bytes)
    of_points = np.asarray(_host(labels))
    if of_points.dtype.kind not in "iu":
        raise TypeError(f"labels have dtype {of_points.dtype}: integers are needed")
    if of_points.shape != (len(task.points),):
        raise ValueError(f"labels have shape {of_points.shape}: one per point, ({len(task.points)},), is needed")
    bad = (of_points < 0) | (of_points >= num_classes)
    if bad.any():
        raise ValueError(f"labels[{int(np.argmax(bad))}] = {of_points[bad][0]} is not in 0..{num_classes - 1}")
    of_points = of_points.astype(np.int64)
    votes = np.empty((len(task.queries), num_classes), np.int16 if k < 2**15 else np.int32)
    step = max(1, memory_bytes // (8 * 8 * num_classes))
    for begin, found in task.run(ordered=False):
        for at in range(0, len(found), step):
            some = of_points[found[at : at + step]]
            cell = some + num_classes * np.arange(len(some))[:, None]
            counts = np.bincount(cell.ravel(), minlength=len(some) * num_classes)
            votes[begin + at : begin + at + len(some)] = counts.reshape(len(some), num_classes)
    return searches.as_tensor(votes, queries) if searches.is_tensor(queries) else votes


def nearest(
    queries: Any,
    points: Any,
    k: int,
    *,
    search: str = "auto",
    device: str | None = None,
    memory_bytes: int = 256 << 20,
) -> NDArray[np.int64]:
    """Return the indices of the k nearest points, int64 [N, k], the nearest first; rules and errors of `knn_votes`."""
    task = _task(queries, points, k, search, device, memory_bytes)
    out = np.empty((len(task.queries), k), np.int64)
    for begin, found in task.run(ordered=True):
        out[begin : begin + len(found)] = found
    return out


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r} must be an integer")
    return int(value)


def _host(values: Any) -> Any:
    return values.detach().cpu().numpy() if searches.is_tensor(values) else values


def _matrix(name: str, values: Any) -> NDArray[np.generic]:
    array = np.asarray(_host(values))
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} have dtype {array.dtype}: real numbers are needed")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} have shape {array.shape}: [{name}, dimensions] is needed")
    step = max(1, (1 << 20) // array.shape[1])
    for begin in range(0, len(array), step):
        good = (np.abs(array[begin : begin + step].astype(np.float64)) <= LARGEST).all(axis=1)
        if not good.all():
            row = begin + int(np.argmin(good))
            raise ValueError(f"{name}[{row}] holds a NaN, or a value beyond {LARGEST:g}: scale the embeddings")
    return array


def _task(queries: Any, points: Any, k: int, search: str, device: str | None, memory_bytes: int) -> _Task:
    asked, given = _matrix("queries", queries), _matrix("points", points)
    if asked.shape[1] != given.shape[1]:
        raise ValueError(f"queries have {asked.shape[1]} dimensions and points {given.shape[1]}: they must agree")
    if not 1 <= _integer("k", k) <= len(given):
        raise ValueError(f"k={k} must lie between 1 and the number of points, {len(given)}")
    if _integer("memory_bytes", memory_bytes) < LEAST_MEMORY:
        raise ValueError(f"memory_bytes={memory_bytes} must be at least {LEAST_MEMORY}")
    if device is None and searches.is_tensor(queries) and search in ("auto", "torch"):
        device = str(queries.device)
    return _Task(asked, given, int(k), _choose(search, device), device, memory_bytes)


def _choose(search: str, device: str | None) -> str:
    """Return the library to use, or raise BackendUnavailable with what to do."""
    if search not in ("auto", *SEARCHES):
        raise ValueError(f"unknown search {search!r}: choose one of auto, {', '.join(SEARCHES)}")
    if device is not None and search not in ("auto", "torch"):
        raise ValueError(f"device={device!r} needs search='torch', not {search!r}")
    missing = {
        "torch": importlib.util.find_spec("torch") is None,
        "scikit-learn": importlib.util.find_spec("sklearn") is None,
        "numpy": False,
    }
    if search == "auto" and device is None:
        search = next(name for name in SEARCHES if not missing[name])
    elif search == "auto":
        search = "torch"
    if missing[search]:
        raise BackendUnavailable(f"{search} is not installed: run `pip install 'powsim[lab]'`")
    if search == "torch":
        searches.check_device(device or "cpu")
    return search


@dataclass(frozen=True, eq=False)
class _Task:
    """One search, checked."""

    queries: NDArray[np.generic]  # [N, D]
    points: NDArray[np.generic]  # [M, D]
    k: int
    search: str
    device: str | None
    memory_bytes: int

    def run(self, ordered: bool) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield (first query, indices [n, k]) until every query is done; the nearest first, or in any order."""
        values = self.memory_bytes // 8
        wanted = min(self.k + max(16, self.k // 8), len(self.points))
        # A piece of points, and of queries so that their distances, with what sorting needs, stay within the memory.
        width = min(len(self.points), max(wanted, values // 32))
        rows = max(1, min(values // (6 * (width + 3 * wanted)), 1 << 14))
        points = np.array(self.points, np.float64, order="C")
        middle = points.mean(axis=0)
        centred, by_dimension = points - middle, np.ascontiguousarray(points.T)
        norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        pieces = []
        for low in range(0, len(points), width):
            high = min(low + width, len(points))
            part = searches.prepare(self.search, centred[low:high], self.device)
            pieces.append((low, by_dimension[:, low:high], part, norms[low:high].max()))
        for begin in range(0, len(self.queries), rows):
            asked = np.array(self.queries[begin : begin + rows], np.float64, order="C")
            if not ordered and len(pieces) == 1 and self.search != "numpy" and wanted < len(points):
                yield begin, self._sets(asked, asked - middle, *pieces[0], wanted)
                continue
            best: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None
            for low, columns, part, farthest in pieces:
                best = self._merge(best, asked, asked - middle, low, columns, part, farthest, wanted)
            if best is not None:
                yield begin, best[1]

    def _sets(
        self,
        asked: NDArray[np.float64],
        shifted: NDArray[np.float64],
        low: int,
        columns: NDArray[np.float64],
        part: Any,
        farthest: float,
        wanted: int,
    ) -> NDArray[np.int64]:
        """Return the k nearest of all points in any order: as they seem, where no rounding can have swapped two."""
        index, seen = searches.candidates(self.search, part, shifted, wanted)
        out = index[:, : self.k].copy()
        sure = seen[:, self.k] - seen[:, self.k - 1] > 2.0 * _slack(shifted, farthest)
        some = np.flatnonzero(~sure)
        if len(some):
            out[some] = self._merge(None, asked[some], shifted[some], low, columns, part, farthest, wanted)[1]
        return out

    def _merge(
        self,
        best: tuple[NDArray[np.float64], NDArray[np.int64]] | None,
        asked: NDArray[np.float64],
        shifted: NDArray[np.float64],
        low: int,
        columns: NDArray[np.float64],
        part: Any,
        farthest: float,
        wanted: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the k nearest of those known and of one piece of the points: distances and indices [n, k]."""
        width, wanted = columns.shape[1], min(wanted, columns.shape[1])
        if self.search == "numpy" or wanted == width:
            return self._all(best, asked, low, columns)
        index, seen = searches.candidates(self.search, part, shifted, wanted)
        index = np.sort(index, axis=1)
        distance = _distances(asked, columns, index)
        out = _select(self.k, best, distance, index + low)
        # Whatever was left out seems at least as far as the last candidate.
        open_ = np.flatnonzero(~(seen[:, -1] - _slack(shifted, farthest) > out[0][:, -1]))
        step = max(1, self.memory_bytes // (8 * 6 * (width + self.k)))
        for begin in range(0, len(open_), step):
            some = open_[begin : begin + step]
            known = None if best is None else (best[0][some], best[1][some])
            out[0][some], out[1][some] = self._all(known, asked[some], low, columns)
        return out

    def _all(
        self,
        best: tuple[NDArray[np.float64], NDArray[np.int64]] | None,
        asked: NDArray[np.float64],
        low: int,
        columns: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the k nearest of those known and of every point of a piece, each measured in full."""
        index = np.broadcast_to(np.arange(low, low + columns.shape[1]), (len(asked), columns.shape[1]))
        return _select(self.k, best, _distances(asked, columns, None), index)


def _slack(shifted: NDArray[np.float64], farthest: float) -> NDArray[np.float64]:
    """Return by how much a distance [n] may seem wrong: both forms err by a few roundings per dimension at most."""
    reach = np.sqrt(np.einsum("ij,ij->i", shifted, shifted)) + farthest
    slack: NDArray[np.float64] = (4.0 * shifted.shape[1] + 32.0) * 2.0**-52 * reach**2 + TINY
    return slack


def _distances(
    asked: NDArray[np.float64], columns: NDArray[np.float64], index: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return squared distances [n, m] of queries [n, D] to points [D, m], or to those of index [n, m]."""
    total = np.zeros((len(asked), columns.shape[1]) if index is None else index.shape)
    for value, column in zip(asked.T, columns, strict=True):
        step = value[:, None] - (column if index is None else column[index])
        step *= step
        total += step
    return total


def _select(
    k: int,
    best: tuple[NDArray[np.float64], NDArray[np.int64]] | None,
    distance: NDArray[np.float64],
    index: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the k least of known and new ones, sorted; both come with indices that rise where distances are equal."""
    if best is not None:  # known ones have lower indices, and stand in front
        distance = np.concatenate((best[0], distance), axis=1)
        index = np.concatenate((best[1], index), axis=1)
    if distance.shape[1] < 4 * k:
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    else:
        order = np.empty((len(distance), k), np.int64)
        kth = np.partition(distance, k - 1, axis=1)[:, k - 1]
        for row, (far, most) in enumerate(zip(distance, kth, strict=True)):
            near = np.flatnonzero(far <= most)
            order[row] = near[np.argsort(far[near], kind="stable")[:k]]
    return np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)
