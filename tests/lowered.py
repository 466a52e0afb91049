"""Today's scenarios as plans of `simulate_ledgers`: how the engine can lower each group and each shipped policy."""

from __future__ import annotations

import math

import numpy as np

from powsim.groups import Group, curve_for, service_of
from powsim.ledger import Service
from powsim.meter import CostCurve, cost_bounds
from powsim.policy import AsPublished, Calibrated, Fixed, NoPuzzle, Policy
from powsim.population import group_key
from powsim.scenario import CampaignSpec, PopulationSpec, Scenario
from powsim.study.published import price_rule
from powsim_kernels.ledgers import Accounts, Clock, Curve, Devices, LedgerPlan, Price, Users


def price_of(policy: Policy, service: Service) -> Price:
    """Return a shipped policy, lowered."""
    every, partial = policy.queries_per_puzzle or service.batch, policy.partial_puzzle
    if isinstance(policy, NoPuzzle):
        return Price(every=every, partial=partial)
    if isinstance(policy, Fixed):
        return Price(policy.bits, every=every, partial=partial)
    if isinstance(policy, Calibrated):
        per_query = (policy.target_slowdown - 1.0) * service.seconds_per_query * policy.reference_hz
        return Price(
            math.log2(per_query),
            per_query=True,
            slope=math.log2(policy.base),
            expected_slope=(1.0 + policy.tolerance) * service.mean_cost,
            high=policy.max_bits,
            every=every,
            partial=partial,
        )
    assert isinstance(policy, AsPublished)
    rule = price_rule()
    # Bits are linear in ln(price): per decade when cut to integers, else log2 of price * solver_hz.
    per_decade = rule.bits_per_decade if policy.truncate_bits else math.log2(10)
    at_1s = rule.bits_at_1s if policy.truncate_bits else math.log2(policy.solver_hz)
    least = at_1s + per_decade * math.log10(rule.min_price_s)
    return Price(
        at_1s,
        slope=per_decade * math.log10(policy.base),
        expected_slope=service.expected_slope,
        expected_intercept=service.expected_intercept,
        two_sided=True,
        low=max(least, rule.min_bits) if policy.truncate_bits else least,
        high=at_1s + per_decade * math.log10(rule.max_price_s),
        whole=policy.truncate_bits,
        every=every,
        partial=partial,
    )


def curve(points: CostCurve) -> Curve:
    """Return a cost curve, what it does beyond its last point included."""
    half = min(len(points.queries) // 2, len(points.queries) - 2)
    rate = (points.cost[-1] - points.cost[half]) / (points.queries[-1] - points.queries[half])
    return Curve(points.queries, points.cost, float(rate))


def plan_of(scenario: Scenario, group: Group, seed: int) -> LedgerPlan:
    """Return the plan of one group."""
    service, spec = service_of(scenario.service), group.spec
    if isinstance(spec, CampaignSpec):
        who: Users | Accounts = Accounts(spec.queries, group.accounts)
        share = np.ones(1)
    else:
        assert isinstance(spec, PopulationSpec)
        asked = (spec.queries, 0.0, spec.queries) if isinstance(spec.queries, int) else None
        median, sigma, most = asked or (spec.queries.median, spec.queries.sigma, spec.queries.max)  # type: ignore[union-attr]
        low, high = cost_bounds(service.dataset)
        who = Users(median, sigma, most, spec.mean_shift, spec.mean_shift_sd, spec.drift_sd, low, high)
        share = np.array([spec.devices[device.name] for device in group.devices])
    devices = Devices(
        share,
        np.array([device.rate_low_hz for device in group.devices]),
        np.array([device.rate_high_hz for device in group.devices]),
        np.array([device.watts for device in group.devices]),
        np.array([-1.0 if device.usd_per_h is None else device.usd_per_h for device in group.devices]),
        scenario.prices.electricity_usd_per_kwh,
    )
    return LedgerPlan(
        group_key(seed, group.name),
        who,
        curve(curve_for(scenario, group.trace)),
        price_of(scenario.policy_object, service),
        Clock(service.seconds_per_query, service.batch, spec.request_every_s),
        devices,
        scenario.puzzle.sub_puzzles,
    )
