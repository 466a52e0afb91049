"""The small network: any usual image size, the same weights from the same generator, nothing global, and it learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from powsim.lab.nets import small_cnn, small_mlp


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 9, 13)])
def test_it_takes_the_usual_sizes(shape: tuple[int, int, int]) -> None:
    net = small_cnn(shape, 7, torch.Generator().manual_seed(0))
    assert net(torch.rand(5, *shape)).shape == (5, 7)


def test_images_do_not_influence_each_other() -> None:
    net = small_cnn((1, 16, 16), 10, torch.Generator().manual_seed(0))
    x = torch.rand(6, 1, 16, 16)
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]))


@pytest.mark.parametrize("made", [partial(small_cnn, (1, 16, 16), 10), partial(small_mlp, 128, 10)])
def test_weights_come_from_the_generator_and_leave_the_global_one_alone(made: Callable[..., torch.nn.Module]) -> None:
    before = torch.get_rng_state()
    a, b, c = (made(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


def test_one_hidden_layer_is_a_matrix_a_ramp_and_a_matrix() -> None:
    net = small_mlp(5, 3, torch.Generator().manual_seed(0), hidden=7)
    x = np.random.default_rng(0).standard_normal((4, 5))
    first, base, last, end = (p.detach().double().numpy() for p in net.parameters())
    assert first.shape == (7, 5)
    wanted = np.maximum(x @ first.T + base, 0) @ last.T + end
    np.testing.assert_allclose(net(torch.from_numpy(x).float()).detach(), wanted, atol=1e-5)


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="7x16 are too small: 8x8"):
        small_cnn((1, 7, 16), 10, torch.Generator())


def test_it_learns_digits() -> None:
    digits = load_digits()
    x = torch.tensor((digits.images / 16)[:, None], dtype=torch.float32)
    y = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)
    net = small_cnn((1, 8, 8), 10, generator)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        rows = torch.randint(1200, (64,), generator=generator)
        loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert np.mean((net(x[1200:]).argmax(1) == y[1200:]).numpy()) >= 0.9
