"""Entropy, gap and count against the published code's numbers, SciPy and mpmath."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from powsim import meters

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors_mei.json").read_text())["utility_scores"]["vectors"]


def gap_code(logits: np.ndarray) -> np.ndarray:
    return meters.gap(logits, "code")


MEASURES = [meters.entropy, meters.gap, gap_code]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: str(len(v["logits"])))
def test_the_published_numbers(vector: dict) -> None:
    z = np.array([vector["logits"]])
    assert meters.entropy(z) == pytest.approx(vector["entropy_normalised"], rel=1e-12)
    assert meters.gap(z) == pytest.approx(vector["gap_paper_full_softmax"], rel=1e-12)
    assert meters.gap(z, "code") == pytest.approx(vector["gap_repo_top2_softmax"], rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 3), (300, 10), (700, 1000)])
def test_scipy_gives_the_same(rows: int, classes: int, dtype: type) -> None:
    z = (np.random.default_rng(classes).normal(size=(rows, classes)) * 4).astype(dtype)
    p = softmax(z.astype(np.float64), axis=1)
    top = np.sort(p, axis=1)
    assert meters.entropy(z) == pytest.approx(scipy_entropy(p, axis=1) / np.log(classes), rel=1e-12)
    assert meters.gap(z) == pytest.approx(1 - (top[:, -1] - top[:, -2]), rel=1e-12)
    two = np.sort(z.astype(np.float64), axis=1)[:, -2:]
    assert meters.gap(z, "code") == pytest.approx(1 - np.tanh((two[:, 1] - two[:, 0]) / 2), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    "row",
    [
        [0.0, -40.0, -41.0, -300.0],
        [700.0, 3.0, 2.0],
        [1e4, 1e4, -1e4],
        [1e300, 1e300 * (1 - 1e-15), 0.0],
        [-5.0, -5.0, -5.0, -5.0 - 1e-9],
        [800.0, 100.0],
    ],
    ids=str,
)
def test_mpmath_gives_the_same_where_nearly_nothing_or_everything_is_open(row: list[float]) -> None:
    with mpmath.workdps(400):
        z = [mpmath.mpf(v) for v in row]
        e = [mpmath.exp(v - max(z)) for v in z]
        p = sorted((v / sum(e) for v in e), reverse=True)
        h = -sum(v * mpmath.log(v) for v in p if v) / mpmath.log(len(row))
        two = sorted(z)[-2:]
        truth = [h, 1 - (p[0] - p[1]), 1 - mpmath.tanh((two[1] - two[0]) / 2)]
        for measure, value in zip(MEASURES, truth, strict=True):
            assert float(measure(np.array([row]))[0]) == pytest.approx(float(value), rel=2e-14)


@pytest.mark.parametrize("measure", MEASURES)
def test_ends_and_huge_logits(measure) -> None:  # type: ignore[no-untyped-def]
    huge = np.finfo(np.float64).max
    rows = np.array([[huge, -huge, -huge], [huge, huge, huge], [0.0, 0.0, 0.0], [-huge, -huge, -huge]])
    assert measure(rows).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert measure(np.float32([[3e38, -3e38]])).tolist() == [0.0]


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_do_not_influence_each_other_nor_does_the_order_of_classes(measure) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    z = rng.normal(size=(1001, 777)) * 5  # more than one piece
    whole = measure(z)
    assert whole[::97].tolist() == [measure(row)[0] for row in z[::97]]
    assert measure(z[:, rng.permutation(777)]) == pytest.approx(whole, rel=1e-13)
    assert measure(z + 1234.0) == pytest.approx(whole, rel=1e-10)
    assert measure(np.asfortranarray(z)).tolist() == whole.tolist()
    assert measure(np.empty((0, 5))).shape == (0,)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_row_is_named(measure, bad: float) -> None:  # type: ignore[no-untyped-def]
    z = np.zeros((5000, 100), np.float32)
    z[4321, 99] = z[4500, 0] = bad
    with pytest.raises(ValueError, match=r"logits\[4321\]"):
        measure(z)


@pytest.mark.parametrize("measure", [*MEASURES, meters.count])
def test_what_is_no_table_of_numbers_is_refused(measure) -> None:  # type: ignore[no-untyped-def]
    for wrong in ([[True, False]], [["a", "b"]], [[1j, 2j]]):
        with pytest.raises(TypeError, match="dtype"):
            measure(wrong)
    for shape in ((3, 1), (2, 3, 4), ()):
        with pytest.raises(ValueError, match="shape"):
            measure(np.zeros(shape))


def test_count_and_an_unknown_definition() -> None:
    assert meters.count(np.zeros((4, 3), np.int16)).tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="'top': choose one of paper, code"):
        meters.gap([[1.0, 2.0]], "top")
