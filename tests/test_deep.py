"""Claims about the deep networks of chapter 17: their weights have the size that was asked for."""

import pytest
import torch
from torch import nn

from ngs.train.deep import WIDTH, DeepLayer, deep_network


@pytest.mark.parametrize("c", [1 / 3, 1.0, 2.0, 4.0])
def test_a_layer_multiplies_the_mean_square_by_half_of_c(c: float) -> None:
    x = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with torch.no_grad():
        factors = [float(DeepLayer(c)(x).square().mean() / x.square().mean()) for _ in range(30)]
    assert sum(factors) / len(factors) == pytest.approx(c / 2, rel=0.03)


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other, third = (deep_network(3, lambda: DeepLayer(2.0), seed) for seed in (1, 1, 2))
    x = torch.randn(4, WIDTH)
    assert torch.equal(one(x), other(x))
    assert not torch.equal(one(x), third(x))
    assert one(x).shape == (4, 10)


def test_options_do_what_they_say() -> None:
    x = torch.randn(50, WIDTH)
    plain = DeepLayer(2.0, residual=True, branch=0.0)
    assert torch.equal(plain(x), x)
    normalised = DeepLayer(100.0, activation=nn.Identity(), norm=True)(x).detach()
    assert float(normalised.square().mean()) == pytest.approx(1.0, rel=1e-3)
    dropped = DeepLayer(2.0, activation=nn.Identity(), dropout=0.5)(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert DeepLayer(1.0).linear.bias is None
    assert DeepLayer(1.0, bias=True).linear.bias is not None
