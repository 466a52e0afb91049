"""The cells of a scenario: one group per population, one per campaign x device x number of accounts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from powsim import study
from powsim.devices import Device
from powsim.ledger import Service
from powsim.meter import CostCurve, curve_of, published_curve
from powsim.plugin import read_trace
from powsim.population import Identities, draw_campaign, draw_population, group_key
from powsim.scenario import CampaignSpec, PopulationSpec, Scenario, ServiceSpec


@dataclass(frozen=True)
class Group:
    """What the engine runs at once. The role is for reports; no stage before them receives it."""

    name: str
    role: str  # honest | campaign
    trace: str
    devices: tuple[Device, ...]
    spec: PopulationSpec | CampaignSpec
    accounts: int  # identities of a population, or of one repetition of a campaign
    replicas: int
    first: int = 0  # the first identity of a population, or repetition of a campaign, that is simulated

    def part(self, k: int, n: int) -> Group:
        """Return the k-th of n even parts: identities of a population, whole repetitions of a campaign.

        Every number is drawn by address, so the parts 0..n-1 are the whole, and those after are further ones like it.
        """
        if isinstance(self.spec, CampaignSpec):
            first, end = k * self.replicas // n, (k + 1) * self.replicas // n
            return replace(self, first=first, replicas=end - first)
        first, end = k * self.accounts // n, (k + 1) * self.accounts // n
        return replace(self, first=first, accounts=end - first)

    def draw(self, seed: int, backend: str = "auto") -> tuple[int, Identities]:
        """Return the group's random key and its identities."""
        key = group_key(seed, self.name)
        if isinstance(self.spec, CampaignSpec):
            return key, draw_campaign(
                key, self.spec.queries, self.accounts, self.replicas, self.devices[0], first=self.first, backend=backend
            )
        return key, draw_population(
            key,
            self.accounts,
            list(self.devices),
            [self.spec.devices[device.name] for device in self.devices],
            self.spec.volume,
            first=self.first,
            mean_shift=self.spec.mean_shift,
            mean_shift_sd=self.spec.mean_shift_sd,
            drift_sd=self.spec.drift_sd,
            backend=backend,
        )


def groups_of(scenario: Scenario) -> list[Group]:
    """Return the groups in the order of the scenario, populations first."""
    # Devices by name: the order in the file must not matter, since it does not enter the scenario's id.
    honest = [
        Group(name, "honest", spec.trace, tuple(map(scenario.device, sorted(spec.devices))), spec, spec.identities, 1)
        for name, spec in scenario.population.items()
    ]
    campaigns = [
        Group(
            f"{name}/{device}/x{n}",
            "campaign",
            spec.trace,
            (scenario.device(device),),
            spec,
            n,
            spec.replicas,
        )
        for name, spec in scenario.campaign.items()
        for device in spec.devices
        for n in spec.splits
    ]
    return honest + campaigns


def service_of(spec: ServiceSpec) -> Service:
    """Return what the operator knows, published values filled in."""
    inference_s, metering_s = study.service_times(spec.dataset)
    per_request = spec.batch / 64  # table 5 is per 64 queries
    fit = study.calibration(spec.dataset)
    return Service(
        dataset=spec.dataset,
        batch=spec.batch,
        inference_s=inference_s * per_request if spec.inference_s is None else spec.inference_s,
        metering_s=metering_s * per_request if spec.metering_s is None else spec.metering_s,
        expected_slope=fit.slope,
        expected_intercept=fit.intercept,
        mean_cost=fit.mean_per_query,
    )


def curve_for(scenario: Scenario, trace: str) -> CostCurve:
    """Return the cost curve of a published attack or of a CSV file."""
    if trace.endswith(".csv"):
        return curve_of(*read_trace(trace, scenario.folder))
    return published_curve(scenario.service.dataset, trace)
