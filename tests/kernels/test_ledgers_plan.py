"""Plans of ledgers: what does not fit is refused with the value, the limit and the cure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ledger_plans import plan
from powsim_kernels.ledgers import Accounts, Bank, Clock, Curve, Devices, Price, Users
from powsim_kernels.ledgers.layout import INTEGERS, NUMBERS, pack

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Curve([0, 1, 1], [0, 1, 2], 1.0), "begin at 0 and rise"),
    (lambda: Curve([1.0, 2.0], [0.0, 1.0], 1.0), "begin at 0 and rise"),
    (lambda: Curve([0.0, math.nan], [0.0, 1.0], 1.0), "NaN"),
    (lambda: Curve([0.0, 1.0], [0.0], 1.0), "one for one"),
    (lambda: Curve([], [], 1.0), "one for one"),
    (lambda: Curve([0.0, 1.0], [0.0, math.inf], 1.0), "infinite cost"),
    (lambda: Curve([0.0], [0.0], math.inf), "curve.rate=inf"),
    (lambda: Bank([]), "bank of 0 rows"),
    (lambda: Bank([1.0, -1.0]), "negative or infinite"),
    (lambda: Bank([[1.0, 2.0]]), "1 axes"),
    (lambda: Bank(np.ones((3, 2)), [1.0]), "2 columns"),
    (lambda: Bank(np.ones((3, 17)), np.ones(17)), "17 orders exceed 16"),
    (lambda: Bank(np.ones(10), recordings=3), "recordings=3 does not divide 10 rows"),
    (lambda: Bank(np.ones(10), recordings=-1), "bank.recordings=-1"),
    (lambda: Bank(np.ones(10), recordings=2, block=6), "block=6 does not fit recordings of 5 queries"),
    (lambda: Bank(np.ones(10), recordings=2, block=0), "block=0 does not fit"),
    (lambda: Price(every=0), "price.every=0"),
    (lambda: Price(math.inf), "base_bits=inf"),
    (lambda: Price(slope=math.nan), "price.slope=nan"),
    (lambda: Price(low=3.0, high=2.0), "must not exceed price.high"),
    (lambda: Price(band_edges=[1.0, 1.0], band_bits=[0.0, 1.0, 2.0]), "rising"),
    (lambda: Price(band_edges=[1.0], band_bits=[0.0]), "one number of bits more"),
    (lambda: Price(band_edges=np.arange(17.0), band_bits=np.zeros(18)), "up to 16"),
    (lambda: Price(load_bits=[]), "load_bits"),
    (lambda: Price(load_bits=[math.inf, 0.0]), "load_bits"),
    (lambda: Price(load_step_s=0.0), "load_step_s=0.0 must be above 0"),
    (lambda: Price(decay_s=-1.0), "decay_s=-1.0 must be above 0"),
    (lambda: Clock(0.0), "seconds_per_query=0.0"),
    (lambda: Clock(1.0, think_s=-1.0), "think_s=-1.0"),
    (lambda: Clock(1.0, request_every_s=math.inf), "request_every_s=inf"),
    (lambda: Devices([], [], [], [], []), "0 devices"),
    (lambda: Devices([1.0], [2.0], [1.0], [1.0], [1.0]), "not above devices.high_hz"),
    (lambda: Devices([1.0], [0.0], [1.0], [1.0], [1.0]), "must be above 0"),
    (lambda: Devices([0.0], [1.0], [1.0], [1.0], [1.0]), "above 0: leave out"),
    (lambda: Devices([1.0], [1.0], [1.0], [1.0, 2.0], [1.0]), "watts has 2 rows"),
    (lambda: Devices([1.0], [1.0], [1.0], [math.inf], [1.0]), "must be finite"),
    (lambda: Users(-1.0), "median=-1.0"),
    (lambda: Users(1.0, 11.0), "sigma=11.0"),
    (lambda: Users(1.0, maximum=0), "maximum=0"),
    (lambda: Users(1.0, low=2.0, high=1.0), "must not exceed users.high"),
    (lambda: Accounts(3, 4), "accounts.queries=3"),
    (lambda: Accounts(3, 0), "accounts.accounts=0"),
    (lambda: plan(sub_puzzles=0), "sub_puzzles=0"),
    (lambda: replace(plan(), key=2**64), "key=18446744073709551616"),
    (lambda: plan(Price(20.0), who=Users(1e9), sub_puzzles=16), "raise price.every"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Price(every=2.5),
        lambda: Clock(0.01, batch=2.5),
        lambda: Users(10.0, maximum=3.5),
        lambda: Accounts(10.5),
        lambda: Accounts(10, 2.5),
        lambda: plan(sub_puzzles=1.5),
    ],
)
def test_counts_are_whole_numbers(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="is not a whole number"):
        make()


def test_a_number_without_a_least_one_is_only_to_be_finite() -> None:
    with pytest.raises(ValueError, match=r"curve\.rate=nan does not fit: give a finite number$"):
        Curve.constant(math.nan)


def test_arrays_are_copied_and_cannot_be_written() -> None:
    cost = np.array([1.0, 2.0])
    bank = Bank(cost)
    cost[0] = 9.0
    assert bank.cost.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        bank.cost[0] = 3.0


def test_a_constant_is_a_curve_of_one_point() -> None:
    assert pack(plan(source=Curve.constant(2.5))).integers[INTEGERS.index("points")] == 1


def test_packing_fills_every_name() -> None:
    for source in ("trace", "bank", "renyi", "recorded"):
        packed = pack(plan("all", source, "thinking"))
        assert packed.numbers.shape == (len(NUMBERS),)
        assert packed.integers.shape == (len(INTEGERS),)
        places = [int(packed.integers[INTEGERS.index(name)]) for name in INTEGERS if name.startswith("at_")]
        assert all(0 <= place <= packed.table.size for place in places)
        assert places == sorted(places)


def test_infinite_limits_are_packed_as_finite_ones() -> None:
    # 2^bits must stay a normal number in every twin.
    packed = pack(plan(Price()))
    assert packed.numbers[NUMBERS.index("low")] == -1000.0
    assert packed.numbers[NUMBERS.index("high")] == 1000.0
