"""What every test shares: GPU tests are skipped, with the reason, where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from powsim.cli import run
from powsim_kernels import why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not("cuda")
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread: small networks wait for each other with more, and longest where others work too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command and returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call
