"""Identities: each number against a scalar draw from its address, the laws, and what a draw may not depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy import stats

from oracles import uniform_at
from powsim import population
from powsim.devices import Device, catalogue
from powsim.groups import groups_of
from powsim.population import (
    DEVICE,
    DRIFT,
    RATE,
    SHIFT,
    TRIES,
    VOLUME,
    Identities,
    Volume,
    draw_campaign,
    draw_population,
    group_key,
)
from powsim.scenario import parse_scenario

KEY = 0xFEED_BEEF_0000_2026
# A correct law is rejected with this chance; the key is fixed, so that no test flickers.
LEVEL = 1e-4
NORMAL = NormalDist()


def device(name: str, low: float, high: float) -> Device:
    return dataclasses.replace(catalogue()["rtx-4090"], name=name, rate_low_hz=low, rate_high_hz=high)


DEVICES = [device("slow", 1e5, 2e6), device("fixed", 3e6, 3e6), device("fast", 1e9, 1e10)]
SHARES = [0.5, 0.2, 0.3]


def people(count: int = 20_000, **more: Any) -> Identities:
    given: dict[str, Any] = {
        "volume": Volume(1500.0, 1.0, 9000),
        "mean_shift": 0.01,
        "mean_shift_sd": 0.02,
        "drift_sd": 0.05,
        "devices": DEVICES,
        "shares": SHARES,
        "key": KEY,
    } | more
    return draw_population(
        given.pop("key"), count, given.pop("devices"), given.pop("shares"), given.pop("volume"), **given
    )


def same(left: Identities, right: Identities) -> None:
    for field in dataclasses.fields(Identities):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name), err_msg=field.name)


def test_a_groups_key_is_the_head_of_the_hash_of_seed_and_name() -> None:
    for seed, name in ((0, "web"), (7, "copycat/rtx-4090/x16"), (2**63 - 1, "a")):
        digest = hashlib.sha256(f"powsim/{seed}/{name}".encode()).digest()
        assert group_key(seed, name) == int.from_bytes(digest[:8], "big")
    assert group_key(1, "web") != group_key(2, "web") != group_key(2, "api")


def test_every_quantity_has_a_stream_of_its_own() -> None:
    assert len({VOLUME, DEVICE, RATE, SHIFT, DRIFT, TRIES}) == 6


def test_every_number_equals_a_scalar_draw_from_its_address() -> None:
    drawn = people(300)
    for who in range(0, 300, 7):
        u = {stream: uniform_at(KEY, stream, who, 0, 0) for stream in (VOLUME, DEVICE, RATE, SHIFT, DRIFT)}
        which = 0 if u[DEVICE] <= 0.5 else 1 if u[DEVICE] <= 0.7 else 2
        low, high = DEVICES[which].rate_low_hz, DEVICES[which].rate_high_hz
        size = round(1500 * np.exp(NORMAL.inv_cdf(u[VOLUME])))
        assert int(drawn.identity[who]) == who
        assert int(drawn.replica[who]) == 0
        assert int(drawn.device[who]) == which
        assert float(drawn.rate_hz[who]) == pytest.approx(low * (high / low) ** u[RATE], rel=1e-13)
        assert int(drawn.queries[who]) == min(max(size, 1), 9000)
        assert float(drawn.shift[who]) == pytest.approx(0.01 + 0.02 * NORMAL.inv_cdf(u[SHIFT]), rel=1e-9, abs=1e-12)
        assert float(drawn.drift[who]) == pytest.approx(0.05 * NORMAL.inv_cdf(u[DRIFT]), rel=1e-9, abs=1e-12)


def test_devices_are_drawn_by_their_shares() -> None:
    drawn = people(50_000)
    counts = np.bincount(drawn.device, minlength=3)
    assert stats.chisquare(counts, 50_000 * np.array(SHARES)).pvalue > LEVEL
    # Shares need not sum to one exactly: only their ratios count, and no identity falls off the end.
    doubled = people(50_000, shares=[1.0, 0.4, 0.6])
    assert int((doubled.device != drawn.device).sum()) < 5
    assert set(np.unique(people(5000, devices=DEVICES[:1], shares=[0.3]).device)) == {0}


def test_rates_are_log_uniform_within_each_devices_range() -> None:
    drawn = people(50_000)
    for index, chosen in enumerate(DEVICES):
        rates = drawn.rate_hz[drawn.device == index]
        low, high = chosen.rate_low_hz, chosen.rate_high_hz
        assert rates.min() >= low
        assert rates.max() <= high * (1 + 1e-12)
        if high > low:
            assert stats.kstest(np.log(rates / low) / np.log(high / low), "uniform").pvalue > LEVEL


def test_volumes_are_log_normal_within_one_and_the_maximum() -> None:
    # At a median of a million, rounding to whole queries is far below what the test can see.
    drawn = people(50_000, volume=Volume(1e6, 0.7, 10**9))
    assert stats.kstest(np.log(drawn.queries / 1e6) / 0.7, "norm").pvalue > LEVEL
    cut = people(50_000, volume=Volume(3.0, 2.0, 10))
    assert cut.queries.min() == 1
    assert cut.queries.max() == 10
    # P(at the maximum): ln(9.5 / 3) / 2 deviations and more; at one: everything that rounds to 1 or 0.
    for value, chance in ((10, 1 - NORMAL.cdf(np.log(9.5 / 3) / 2)), (1, NORMAL.cdf(np.log(1.5 / 3) / 2))):
        share = float((cut.queries == value).mean())
        assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 50_000) ** 0.5)


def test_a_volume_without_spread_is_a_number() -> None:
    assert np.all(people(100, volume=Volume(640, 0.0, 640)).queries == 640)


def test_shift_and_drift_are_normal_with_the_given_mean_and_spread() -> None:
    drawn = people(50_000)
    assert stats.kstest((drawn.shift - 0.01) / 0.02, "norm").pvalue > LEVEL
    assert stats.kstest(drawn.drift / 0.05, "norm").pvalue > LEVEL
    for left, right in ((drawn.shift, drawn.drift), (drawn.shift, np.log(drawn.queries)), (drawn.drift, drawn.device)):
        assert abs(float(np.corrcoef(left, right)[0, 1])) < 4 / 50_000**0.5
    still = people(100, mean_shift=0.0, mean_shift_sd=0.0, drift_sd=0.0)
    assert not still.shift.any()
    assert not still.drift.any()


@pytest.mark.parametrize("u", [1.0, 1 - 2.0**-53, 2.0**-53])
def test_the_luckiest_and_unluckiest_draws_are_finite(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "uniform", lambda who, **more: np.full(np.shape(who), u))
    for sigma in (0.0, 1.0):
        drawn = people(3, volume=Volume(100.0, sigma, 10**6))
        for field in dataclasses.fields(Identities):
            assert np.isfinite(getattr(drawn, field.name)).all(), field.name
        assert np.all((drawn.device >= 0) & (drawn.device < 3))
        assert np.all((drawn.queries >= 1) & (drawn.queries <= 10**6))
        # 53 bits reach 8.3 deviations.
        assert np.all(np.abs(drawn.shift) < 0.01 + 0.02 * 8.5)


def test_the_first_identities_are_the_same_however_many_there_are() -> None:
    whole = people(2000)
    for count in (1, 17, 1999):
        same(people(count), whole.rows(np.arange(count)))


def test_other_settings_leave_the_other_numbers_alone() -> None:
    base, other = people(500), people(500, volume=Volume(77.0, 0.1, 99), drift_sd=0.0)
    for name in ("device", "rate_hz", "shift"):
        np.testing.assert_array_equal(getattr(base, name), getattr(other, name))


def test_backends_draw_the_same_people() -> None:
    same(people(50, backend="reference"), people(50, backend="cpu"))


def table(**more: Any) -> dict[str, Any]:
    devices = {"rtx-4090": 1.0}
    return {
        "name": "x",
        "service": {"dataset": "cifar10"},
        "policy": {"name": "none"},
        "population": {"web": {"identities": 50, "queries": {"median": 100.0, "sigma": 1.0}, "devices": devices}},
        "campaign": {"theft": {"trace": "copycat", "queries": 1000, "devices": ["rtx-4090"], "identities": 3}},
    } | more


def test_more_groups_change_no_ones_identities() -> None:
    small = groups_of(parse_scenario(table()))
    large = table()
    large["population"] = {"aaa": large["population"]["web"], **large["population"]}
    large["campaign"] = {
        "another": {**large["campaign"]["theft"], "devices": ["rtx-4090", "laptop-native"]},
        "theft": {**large["campaign"]["theft"], "identities": [1, 3, 7]},
    }
    found = {group.name: group for group in groups_of(parse_scenario(large))}
    for group in small:
        key, identities = group.draw(5)
        other_key, others = found[group.name].draw(5)
        assert key == other_key == group_key(5, group.name)
        same(identities, others)


def test_group_names_and_so_their_draws_differ() -> None:
    groups = groups_of(parse_scenario(table()))
    assert [group.name for group in groups] == ["web", "theft/rtx-4090/x3"]
    assert groups[0].draw(5)[0] != groups[1].draw(5)[0]


@pytest.mark.parametrize(("queries", "accounts"), [(1000, 1), (1000, 3), (7, 7), (1001, 16), (20_000_000, 64)])
def test_a_campaign_splits_its_queries_evenly_and_loses_none(queries: int, accounts: int) -> None:
    drawn = draw_campaign(KEY, queries, accounts, 4, DEVICES[0])
    split = drawn.queries.reshape(4, accounts)
    assert np.all(split.sum(axis=1) == queries)
    assert np.all(split.max(axis=1) - split.min(axis=1) <= 1)
    assert np.all(split >= 1)
    np.testing.assert_array_equal(drawn.identity.reshape(4, accounts), np.tile(np.arange(accounts), (4, 1)))
    np.testing.assert_array_equal(drawn.replica.reshape(4, accounts), np.repeat(np.arange(4), accounts).reshape(4, -1))
    assert not drawn.shift.any()
    assert not drawn.drift.any()
    assert not drawn.device.any()


def test_accounts_of_a_repetition_share_one_device_and_repetitions_do_not() -> None:
    drawn = draw_campaign(KEY, 1000, 5, 400, DEVICES[0])
    rates = drawn.rate_hz.reshape(400, 5)
    assert np.all(rates == rates[:, :1])
    assert len(np.unique(rates[:, 0])) == 400
    for replica in (0, 1, 399):
        u = uniform_at(KEY, RATE, 0, replica, 0)
        assert float(rates[replica, 0]) == pytest.approx(1e5 * 20**u, rel=1e-13)
    assert stats.kstest(np.log(rates[:, 0] / 1e5) / np.log(20), "uniform").pvalue > LEVEL


def test_the_first_repetitions_are_the_same_however_many_there_are() -> None:
    whole = draw_campaign(KEY, 1000, 5, 40, DEVICES[0])
    same(draw_campaign(KEY, 1000, 5, 7, DEVICES[0]), whole.rows(np.arange(35)))


def test_rows_are_the_given_ones_in_the_given_order() -> None:
    whole = people(10)
    picked = whole.rows(np.array([9, 0, 0]))
    assert picked.identity.tolist() == [9, 0, 0]
    assert picked.rate_hz.tolist() == whole.rate_hz[[9, 0, 0]].tolist()
