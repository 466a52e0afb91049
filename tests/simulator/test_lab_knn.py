"""Exact k nearest neighbours: loops over fractions give the same, ties go to the lowest index, memory is bounded."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tracemalloc
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from powsim.lab import knn_votes, nearest, searches
from powsim.lab.knn import SEARCHES
from powsim_kernels import BackendUnavailable, PatePlan

MODULES = {"torch": "torch", "scikit-learn": "sklearn", "numpy": "numpy"}


def absent(name: str) -> bool:
    return importlib.util.find_spec(MODULES[name]) is None


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(absent(name), reason=f"{name} is not installed: pip install 'powsim[lab]'")


EVERY = pytest.mark.parametrize("search", [pytest.param(name, marks=needs(name)) for name in SEARCHES])
SMALLEST = 1 << 20


def truth(queries: np.ndarray, points: np.ndarray, k: int) -> list[list[int]]:
    """Return the neighbours by exact arithmetic, the lowest index first where distances are equal."""
    exact = [[Fraction(float(v)) for v in row] for row in points]
    found = []
    for row in queries:
        x = [Fraction(float(v)) for v in row]
        far = [(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)), i) for i, y in enumerate(exact)]
        found.append([i for _, i in sorted(far)[:k]])
    return found


def in_full(queries: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Return the neighbours by the documented float64 sums, one query at a time."""
    found = []
    for x in queries.astype(np.float64):
        far = np.zeros(len(points))
        for a, column in zip(x, points.astype(np.float64).T, strict=True):
            far += (a - column) ** 2
        found.append(np.lexsort((np.arange(len(points)), far))[:k])
    return np.array(found)


def clouds(kind: str, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m)
    if kind == "normal":
        return rng.normal(size=(n, d)), rng.normal(size=(m, d))
    if kind == "float32":
        return rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(m, d)).astype(np.float32)
    if kind == "grid":  # masses of equal distances, all of them exact
        return rng.integers(-2, 3, size=(n, d)), rng.integers(-2, 3, size=(m, d))
    if kind == "copies":
        return rng.normal(size=(n, d)), np.repeat(rng.normal(size=(m // 100 + 1, d)), 100, axis=0)[:m]
    if kind == "far":  # |x|^2 - 2xy + |y|^2 keeps no digit of these distances in float32, and few in float64
        return 1e7 + rng.normal(size=(n, d)), 1e7 + rng.normal(size=(m, d))
    if kind == "outlier":
        points = rng.normal(size=(m, d))
        points[m // 2] = 1e9
        return rng.normal(size=(n, d)), points
    if kind == "queries far":
        return 1e9 + rng.normal(size=(n, d)), rng.normal(size=(m, d))
    if kind == "shell":  # equal distances but for rounding, which differs between the forms
        points = rng.normal(size=(m, d))
        return 2e-14 * rng.normal(size=(n, d)), points / np.linalg.norm(points, axis=1, keepdims=True)
    assert kind == "tiny"
    return 1e-158 * rng.normal(size=(n, d)), 1e-158 * rng.normal(size=(m, d))


KINDS = ["normal", "float32", "grid", "copies", "far", "outlier", "queries far", "tiny", "shell"]


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_exact_arithmetic_gives_the_same(search: str, kind: str) -> None:
    queries, points = clouds(kind, 3, 230, 4)
    for k in (1, 7, 100, 230):
        got = nearest(queries, points, k, search=search)
        if kind not in ("tiny", "queries far", "shell"):  # there float64's own rounding decides
            assert got.tolist() == truth(queries, points, k)
        assert got.tolist() == in_full(queries, points, k).tolist()


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_points_and_queries_change_nothing(search: str, kind: str) -> None:
    queries, points = clouds(kind, 40, 9001, 3)
    expected = in_full(queries, points, 50)
    for memory in (SMALLEST, 256 << 20):
        assert (nearest(queries, points, 50, search=search, memory_bytes=memory) == expected).all()


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_votes_are_of_the_same_neighbours(search: str, kind: str) -> None:
    queries, points = clouds(kind, 40, 9001, 3)
    found = in_full(queries, points, 50)
    labels = np.arange(9001)  # each point a class of its own: votes say which points were found
    votes = knn_votes(queries, points, labels, 50, 9001, search=search)
    assert [np.flatnonzero(row).tolist() for row in votes] == np.sort(found, axis=1).tolist()


@EVERY
def test_votes_are_the_labels_of_the_neighbours(search: str) -> None:
    queries, points = clouds("float32", 33, 2000, 10)
    labels = np.random.default_rng(5).integers(0, 7, 2000).astype(np.uint8)
    votes = knn_votes(queries, points, labels, 30, 9, search=search)
    assert votes.dtype == np.int16
    assert votes.shape == (33, 9)
    for row, found in zip(votes, in_full(queries, points, 30), strict=True):
        assert dict(enumerate(row.tolist())) == {c: Counter(labels[found].tolist())[c] for c in range(9)}
    plan = PatePlan(30, 9, 2.0, clip=False, backend="reference")
    assert plan.logq(votes).shape == (33,)  # one row is a plan's input
    alone = [knn_votes(queries[i : i + 1], points, labels, 30, 9, search=search)[0].tolist() for i in range(0, 33, 8)]
    assert votes[::8].tolist() == alone
    assert knn_votes(queries[:0], points, labels, 30, 9, search=search).shape == (0, 9)


def test_many_neighbours_need_wider_votes() -> None:
    votes = knn_votes(np.zeros((1, 1)), np.zeros((40000, 1)), np.zeros(40000, np.int64), 40000, 2, search="numpy")
    assert (votes.dtype, votes.tolist()) == (np.int32, [[40000, 0]])


@needs("torch")
def test_tensors_give_tensors_and_a_lower_matmul_precision_changes_nothing() -> None:
    import torch

    queries, points = clouds("float32", 20, 500, 8)
    labels = np.arange(500) % 3
    expected = knn_votes(queries, points, labels, 9, 3, search="numpy")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        asked = torch.from_numpy(queries).requires_grad_()
        votes = knn_votes(asked, torch.from_numpy(points), torch.from_numpy(labels), 9, 3)
    finally:
        torch.set_float32_matmul_precision(before)
    assert isinstance(votes, torch.Tensor)
    assert votes.numpy().tolist() == expected.tolist()
    with pytest.raises(BackendUnavailable, match="leave device out"):
        nearest(queries, points, 3, device="meta")
    with pytest.raises(ValueError, match="no torch device"):
        nearest(queries, points, 3, device="nonsense")


@pytest.mark.gpu
@needs("torch")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_finds_the_same(kind: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    queries, points = clouds(kind, 200, 20000, 16)
    assert (nearest(queries, points, 60, device="cuda") == in_full(queries, points, 60)).all()


def test_memory_is_bounded() -> None:
    name = "numpy" if absent("scikit-learn") else "scikit-learn"
    rng = np.random.default_rng(0)
    queries, points = rng.normal(size=(3000, 2)), rng.normal(size=(30000, 2))
    nearest(queries[:1], points, 5, search=name)
    tracemalloc.start()
    try:
        knn_votes(queries if name != "numpy" else queries[:60], points, np.zeros(30000, int), 5, 2, search=name)
        wide = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        knn_votes(queries[:60], points, np.zeros(30000, int), 5, 2, search=name, memory_bytes=4 << 20)
        narrow = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    copies = 3 * points.nbytes + 2 * 30000 * 8
    assert wide < (256 << 20) + copies
    assert narrow < (4 << 20) + copies + (1 << 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.zeros((2, 3))}, "3 dimensions and points 2"),
        ({"queries": np.zeros(2)}, r"queries have shape \(2,\)"),
        ({"points": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "number of points, 0"),
        ({"points": np.zeros((5, 0)), "queries": np.zeros((5, 0))}, "dimensions"),
        ({"queries": np.array([[0, 0], [0, np.nan]])}, r"queries\[1\] holds a NaN"),
        ({"points": np.array([[0.0, 0]] * 4 + [[np.inf, 0]])}, r"points\[4\] holds"),
        ({"points": np.array([[0.0, 0]] * 4 + [[-1e151, 0]])}, "scale the embeddings"),
        ({"labels": np.array([0, 1, 2, 3, 0])}, r"labels\[3\] = 3 is not in 0..2"),
        ({"labels": np.array([0, -1, 2, 2, 0])}, r"labels\[1\] = -1"),
        ({"labels": np.zeros(4, int)}, r"one per point, \(5,\)"),
        ({"k": 0}, "k=0 must lie between 1 and the number of points, 5"),
        ({"k": 6}, "k=6"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"search": "faiss"}, "choose one of auto, torch, scikit-learn, numpy"),
        ({"search": "numpy", "device": "cuda"}, "needs search='torch'"),
        ({"memory_bytes": 1000}, "memory_bytes=1000"),
    ],
)
def test_bad_arguments_are_named(change: dict, message: str) -> None:
    good = {"queries": np.zeros((1, 2)), "points": np.zeros((5, 2)), "labels": np.zeros(5, int), "k": 2}
    with pytest.raises(ValueError, match=message):
        knn_votes(**{**good, "num_classes": 3, **change})


@pytest.mark.parametrize("change", [{"k": 2.0}, {"k": True}, {"labels": np.zeros(5)}, {"queries": [["a", "b"]]}])
def test_wrong_types_are_refused(change: dict) -> None:
    good = {"queries": np.zeros((1, 2)), "points": np.zeros((5, 2)), "labels": np.zeros(5, int), "k": 2}
    with pytest.raises(TypeError, match=r"integer|real numbers"):
        knn_votes(**{**good, "num_classes": 3, **change})


def test_a_missing_library_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for search in ("torch", "scikit-learn"):
        with pytest.raises(BackendUnavailable, match=rf"{search} is not installed: run `pip install 'powsim\[lab\]'`"):
            nearest(np.zeros((1, 1)), np.zeros((1, 1)), 1, search=search)
    assert nearest(np.zeros((1, 1)), np.zeros((1, 1)), 1).tolist() == [[0]]  # auto


def test_a_search_that_misses_neighbours_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound, not the library, answers for the result: candidates that are the farthest are noticed."""
    queries, points = clouds("normal", 20, 3000, 5)

    def worst(search: str, part: object, asked: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        far = ((asked[:, None] - (points - points.mean(axis=0))[None]) ** 2).sum(axis=2)
        index = np.argsort(far, axis=1)[:, -wanted:]
        return index, np.zeros(index.shape)

    monkeypatch.setattr(searches, "candidates", worst)
    monkeypatch.setattr(searches, "prepare", lambda *_: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    expected = in_full(queries, points, 9)
    assert (nearest(queries, points, 9, search="scikit-learn") == expected).all()
    labels = np.arange(3000) % 7
    votes = knn_votes(queries, points, labels, 9, 7, search="scikit-learn")
    assert votes.tolist() == [np.bincount(labels[row], minlength=7).tolist() for row in expected]


def test_importing_the_lab_loads_no_library() -> None:
    code = "import sys, powsim.lab; print(*[m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
