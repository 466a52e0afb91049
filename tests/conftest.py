"""What every test shares: GPU tests are skipped, with the reason, where there is no GPU."""

from __future__ import annotations

import pytest

from powsim_kernels import why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not("cuda")
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))
