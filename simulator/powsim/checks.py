"""Three checks of the published policy, computed from its own rules in expectation; `powsim run` prints them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from powsim import paper, study
from powsim.devices import catalogue
from powsim.groups import service_of
from powsim.meter import ledger_for, published_curve
from powsim.paper import ReplayRules
from powsim.policy import AsPublished, Policy
from powsim.scenario import ServiceSpec

COPYCAT_QUERIES = 30_000
HONEST_QUERIES = 9_000


@dataclass(frozen=True)
class Check:
    """A number that the published policy gives, against the limit that it is expected to respect or to break."""

    name: str
    text: str
    value: float
    relation: str  # how `value` is expected to stand to `limit`: "<" or ">"
    limit: float

    @property
    def holds(self) -> bool:
        """Return whether the expectation is met."""
        return self.value < self.limit if self.relation == "<" else self.value > self.limit

    def as_dict(self) -> dict[str, object]:
        """Return plain values, `holds` included."""
        return {**asdict(self), "holds": self.holds}


def expected_slowdown(
    policy: Policy, dataset: str, attack: str, queries: int, accounts: int, rate_hz: float
) -> tuple[float, float]:
    """Return time with puzzles over time without, in expectation, and the expected hashes of all accounts.

    The queries are split evenly over the accounts, which one solver of `rate_hz` serves.
    """
    service = service_of(ServiceSpec.model_validate({"dataset": dataset}))
    split = queries // accounts + (np.arange(accounts) < queries % accounts)
    every = policy.queries_per_puzzle or service.batch
    ledger = ledger_for(split, every, policy.partial_puzzle, published_curve(dataset, attack))
    hashes = float(np.where(ledger.due, policy.price(ledger, service), 0.0).sum())
    return 1.0 + hashes / rate_hz / (queries * service.seconds_per_query), hashes


def published_checks() -> list[Check]:
    """Return the checks: a GPU node re-prices CopyCat, 16 accounts, and an honest user with 2 % harder data."""
    policy = AsPublished()
    node, solver = catalogue()["8x-h100-sxm"], catalogue()["paper-python-solver"]
    alone, hashes = expected_slowdown(policy, "cifar10", "copycat", COPYCAT_QUERIES, 1, solver.rate_hz)
    on_node, _ = expected_slowdown(policy, "cifar10", "copycat", COPYCAT_QUERIES, 1, node.rate_hz)
    split, _ = expected_slowdown(policy, "cifar10", "copycat", COPYCAT_QUERIES, 16, solver.rate_hz)
    honest = study.trace("cifar10", "standard")
    released = {
        name: paper.replay(honest, rules, cost_scale=1.02) / float(honest.time_s[-1])
        for name, rules in (
            ("as released", ReplayRules()),
            ("counted right", ReplayRules(aligned=True)),
            ("per request", ReplayRules(aligned=True, per_batch=True)),
        )
    }
    usual = paper.replay(honest) / float(honest.time_s[-1])
    return [
        Check(
            "gpu-reprices-copycat",
            f"CIFAR-10 CopyCat, {COPYCAT_QUERIES:,} queries, is {hashes:.1e} hashes: {alone:.0f}x on the paper's "
            f"solver, {on_node:.4f}x on 8x H100",
            on_node,
            "<",
            1.01,
        ),
        Check(
            "sixteen-accounts",
            f"the same attack over 16 accounts costs {split:.2f}x on the paper's own solver instead of {alone:.0f}x",
            split,
            "<",
            3.0,
        ),
        Check(
            "two-percent-harder",
            f"an honest user whose {HONEST_QUERIES:,} CIFAR-10 queries cost 2 % more than average pays "
            f"{released['as released']:.2f}x by the released replay, average costs {usual:.2f}x "
            f"({released['counted right']:.2f}x with its queries counted right, {released['per request']:.1f}x with a "
            f"puzzle per request)",
            released["as released"],
            ">",
            2.0,
        ),
    ]
