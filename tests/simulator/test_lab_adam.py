"""Adam is torch's Adam."""

from __future__ import annotations

import torch

from powsim.lab.adam import Adam


def test_steps_are_those_of_torch() -> None:
    """Double precision, a changing rate, and a parameter without gradients."""
    random = torch.Generator().manual_seed(3)
    start = [torch.randn(size, generator=random, dtype=torch.float64) for size in ((7, 5), (5,), (3,))]
    mine, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    ours, known = Adam(mine, 0.1), torch.optim.Adam(theirs, lr=0.1)
    for step in range(30):
        rate = 0.1 / (1 + step)
        ours.rate = rate
        known.param_groups[0]["lr"] = rate
        known.zero_grad()
        for own in (mine, theirs):
            ((own[0] @ own[1]).tanh().sum() + (own[1] ** 4).sum()).backward()
        ours.step()
        known.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert mine[0].grad is None  # forgotten
    assert torch.equal(mine[2], start[2])
