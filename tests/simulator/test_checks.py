"""The three checks of the published policy, against a few lines of plain Python each."""

from __future__ import annotations

import pytest

from oracles import least_squares, price_s, replay_rows, server_bits, straight_line, vectors
from powsim import study
from powsim.checks import Check, expected_slowdown, published_checks
from powsim.devices import catalogue
from powsim.policy import AsPublished, Calibrated, Fixed, NoPuzzle

SECONDS_PER_QUERY = (0.249 + 0.782) / 64  # table 5, CIFAR-10
ROWS = vectors()["calibration"]["datasets"]["cifar10"]["calibration_rows"]
FIT = least_squares(ROWS["queries"], ROWS["privacy"])


def released_hashes(queries: int) -> int:
    """Return the expected hashes of one CopyCat account: a puzzle per 1,000 queries by the released server."""
    series = study.trace("cifar10", "copycat")
    hashes = 0
    for n in range(1000, queries + 1, 1000):
        cost = straight_line(n, series.queries.tolist(), series.cost.tolist())
        hashes += 2 ** server_bits(price_s(cost - (FIT[0] * n + FIT[1])))
    return hashes


def checks() -> dict[str, Check]:
    return {check.name: check for check in published_checks()}


def test_the_three_checks_hold() -> None:
    assert list(checks()) == ["gpu-reprices-copycat", "sixteen-accounts", "two-percent-harder"]
    assert all(check.holds for check in checks().values())


def test_copycat_costs_three_times_ten_to_the_ten_hashes_and_next_to_nothing_on_eight_h100() -> None:
    hashes = released_hashes(30_000)
    assert round(hashes / 1e10) == 3
    node = catalogue()["8x-h100-sxm"]
    slowdown = 1 + hashes / (node.rate_low_hz * node.rate_high_hz) ** 0.5 / (30_000 * SECONDS_PER_QUERY)
    check = checks()["gpu-reprices-copycat"]
    assert check.value == pytest.approx(slowdown, rel=1e-12)
    assert (check.relation, check.limit) == ("<", 1.01)
    assert f"{hashes:.1e} hashes" in check.text
    assert f"{slowdown:.4f}x on 8x H100" in check.text


def test_sixteen_accounts_undo_the_price() -> None:
    # 30,000 over 16 is 1,875 each: every account meets one puzzle, after its first thousand queries.
    solver = catalogue()["paper-python-solver"]
    rate = (solver.rate_low_hz * solver.rate_high_hz) ** 0.5
    split = 1 + 16 * released_hashes(1000) / rate / (30_000 * SECONDS_PER_QUERY)
    alone = 1 + released_hashes(30_000) / rate / (30_000 * SECONDS_PER_QUERY)
    check = checks()["sixteen-accounts"]
    assert check.value == pytest.approx(split, rel=1e-12)
    assert (check.relation, check.limit) == ("<", 3.0)
    assert f"costs {split:.2f}x" in check.text
    assert f"instead of {alone:.0f}x" in check.text
    assert alone > 100


def test_two_percent_harder_data_breaks_the_promise() -> None:
    series = study.trace("cifar10", "standard")
    time_s = float(series.time_s[-1])
    harder = (1.02 * series.cost).tolist()
    released = replay_rows(series.released_queries.tolist(), harder, time_s, FIT) / time_s
    aligned = replay_rows(series.queries.tolist(), harder, time_s, FIT) / time_s
    usual = replay_rows(series.released_queries.tolist(), series.cost.tolist(), time_s, FIT) / time_s
    check = checks()["two-percent-harder"]
    assert check.value == pytest.approx(released, rel=1e-9)
    assert (check.relation, check.limit) == (">", 2.0)
    for number in (f"{released:.2f}x by the released replay", f"costs {usual:.2f}x", f"({aligned:.2f}x with"):
        assert number in check.text


@pytest.mark.parametrize(
    ("value", "relation", "limit", "holds"),
    [(1.0, "<", 2.0, True), (2.0, "<", 2.0, False), (3.0, ">", 2.0, True), (2.0, ">", 2.0, False)],
)
def test_a_check_holds_on_the_right_side_of_its_limit_alone(
    value: float, relation: str, limit: float, holds: bool
) -> None:
    check = Check("a", "b", value, relation, limit)
    assert check.holds is holds
    assert check.as_dict() == {
        "name": "a",
        "text": "b",
        "value": value,
        "relation": relation,
        "limit": limit,
        "holds": holds,
    }


def test_no_puzzles_are_no_slowdown() -> None:
    assert expected_slowdown(NoPuzzle(), "cifar10", "standard", 9000, 4, 1e6) == (1.0, 0.0)


def test_fixed_puzzles_cost_their_number_times_their_work() -> None:
    # 1,000 queries over 3 accounts are 334 + 333 + 333: six requests of 64 or less each.
    slowdown, hashes = expected_slowdown(Fixed(bits=10.0), "mnist", "copycat", 1000, 3, 2e5)
    assert hashes == 18 * 1024
    assert slowdown == pytest.approx(1 + 18 * 1024 / 2e5 / (1000 * 0.464 / 64), rel=1e-12)


def test_twice_the_rate_is_half_the_extra_time() -> None:
    policy = Calibrated()
    one, hashes = expected_slowdown(policy, "cifar10", "copycat", 9000, 2, 4e6)
    two, same_hashes = expected_slowdown(policy, "cifar10", "copycat", 9000, 2, 8e6)
    assert hashes == same_hashes
    assert one - 1 == pytest.approx(2 * (two - 1), rel=1e-12)


def test_identities_below_a_thousand_queries_meet_no_puzzle_of_the_published_policy() -> None:
    assert expected_slowdown(AsPublished(), "cifar10", "copycat", 30_000, 31, 1e6) == (1.0, 0.0)
