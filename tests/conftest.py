"""What every test shares: GPU tests are skipped, with the reason, where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from powsim.cli import run
from powsim_kernels import why_not

# Small networks and matrices wait for each other with more threads, longest where other tests run beside them. Torch
# and BLAS look when they are loaded, here or in a process that a test starts.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not("cuda")
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command and returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call
