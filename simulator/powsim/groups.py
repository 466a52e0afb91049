"""The cells of a scenario: one group per population, one per campaign x device x number of accounts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from powsim import study
from powsim.devices import Device
from powsim.ledger import Service
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
    """Return what the operator knows: published values, or those of a bank, filled in."""
    bank = spec.priced_bank
    if bank is None:
        per_request, fit = spec.batch / 64, study.calibration(spec.name)  # table 5 is per 64 queries
        inference_s, metering_s = (per_request * seconds for seconds in study.service_times(spec.name))
        slope, intercept, mean = fit.slope, fit.intercept, fit.mean_per_query
    else:
        inference_s, metering_s = (
            spec.batch * seconds for seconds in (bank.bank.seconds_per_query, bank.bank.metering_s_per_query)
        )
        slope, intercept, mean = bank.mean_cost, 0.0, bank.mean_cost
    return Service(
        dataset=spec.name,
        batch=spec.batch,
        inference_s=inference_s if spec.inference_s is None else spec.inference_s,
        metering_s=metering_s if spec.metering_s is None else spec.metering_s,
        expected_slope=slope,
        expected_intercept=intercept,
        mean_cost=mean,
    )
