"""The engine on an imagined GPU: runs and sweeps give the CPU's bits; what has no GPU twin says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nogpu.fake_cupy import Machine
from nogpu.machine import install
from powsim import load_scenario, simulate
from powsim.outcome import Outcome
from powsim.sweeps.streaming import simulate_totals
from powsim_kernels import BackendUnavailable

__all__ = ["install"]  # a fixture
Install = Callable[..., Machine]
SMALL = ["population.web.identities=150", "server.replicas=2", "server.seconds=20.0"]


def test_a_run_with_a_gate_and_a_sweeps_totals_have_the_cpus_bits(install: Install) -> None:
    machine = install()
    made = load_scenario("gate", SMALL)
    got, right = (simulate(made, backend=backend) for backend in ("cuda", "cpu"))
    assert machine.launched
    for a, b in zip(got.outcomes, right.outcomes, strict=True):
        for name in Outcome.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert got.gate == right.gate
    one, other = (simulate_totals(made, backend=backend) for backend in ("cuda", "cpu"))
    for name, totals in one.items():
        assert totals.counts == other[name].counts
        assert totals.sums == other[name].sums


def test_a_policy_in_python_has_no_gpu(install: Install) -> None:
    install()
    with pytest.raises(BackendUnavailable, match="no cuda twin yet: use one of auto, reference, cpu"):
        simulate(load_scenario("gate", [*SMALL, "policy.name=own_policies:OwnFixed"]), backend="cuda")
