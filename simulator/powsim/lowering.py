"""A group of a scenario as a plan of the kernel `simulate_ledgers`, and the kernel's rows as an outcome."""

from __future__ import annotations

import numpy as np

from powsim.groups import Group
from powsim.ledger import Service
from powsim.meter import CostCurve
from powsim.outcome import Outcome
from powsim.population import group_key
from powsim.scenario import CampaignSpec, Scenario
from powsim.sources import bounds_for, source_for
from powsim_kernels.ledgers import Accounts, Clock, Curve, Devices, LedgerPlan, LedgerRows, Price, Users


def plan_of(scenario: Scenario, service: Service, price: Price, group: Group, seed: int) -> LedgerPlan:
    """Return the plan of a group, whichever part of it is to be simulated. Raises ValueError for one that is too large.

    price: the policy, lowered.
    """
    spec = group.spec
    if isinstance(spec, CampaignSpec):
        who: Users | Accounts = Accounts(spec.queries, group.accounts)
        share = np.ones(1)
    else:
        volume, (low, high) = spec.volume, bounds_for(scenario)
        who = Users(
            volume.median, volume.sigma, volume.maximum, spec.mean_shift, spec.mean_shift_sd, spec.drift_sd, low, high
        )
        share = np.array([spec.devices[device.name] for device in group.devices])
    devices = Devices(
        share,
        np.array([device.rate_low_hz for device in group.devices]),
        np.array([device.rate_high_hz for device in group.devices]),
        np.array([device.watts for device in group.devices]),
        np.array([-1.0 if device.usd_per_h is None else device.usd_per_h for device in group.devices]),
        scenario.prices.electricity_usd_per_kwh,
    )
    clock = Clock(
        service.seconds_per_query,
        service.batch,
        spec.request_every_s,
        spec.think_s * (price.every / service.batch),  # the kernel pauses between puzzles, callers between requests
        parallel=scenario.puzzle.parallel,
        starts_within_s=spec.starts_within_s,
    )
    found = source_for(scenario, group.trace)
    source = Curve(found.queries, found.cost, found.rate) if isinstance(found, CostCurve) else found
    return LedgerPlan(group_key(seed, group.name), who, source, price, clock, devices, scenario.puzzle.sub_puzzles)


def identities_of(group: Group) -> tuple[int, int]:
    """Return the kernel's numbers (begin, end) of the group's identities: accounts one repetition after the other."""
    if isinstance(group.spec, CampaignSpec):
        return group.first * group.accounts, (group.first + group.replicas) * group.accounts
    return group.first, group.first + group.accounts


def outcome_of(rows: LedgerRows, service: Service) -> Outcome:
    """Return rows of the kernel as an outcome."""
    return Outcome(
        identity=rows.identity,
        replica=rows.replica,
        device=rows.device,
        rate_hz=rows.rate_hz,
        queries=rows.queries,
        cost=rows.cost,
        puzzles=rows.puzzles,
        work=rows.work,
        hashes=rows.hashes,
        inference_s=np.asarray(rows.queries * (service.inference_s / service.batch), dtype=np.float64),
        service_s=rows.service_s,
        solve_s=rows.solve_s,
        elapsed_s=rows.elapsed_s,
        energy_j=rows.energy_j,
        cost_usd=rows.cost_usd,
    )
