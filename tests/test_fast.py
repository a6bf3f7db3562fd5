"""Claims about the network `fast`: its layers, its whitening filters, its start, its two groups."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from ngs.errors import InputError
from ngs.train.models import (
    ConvBeforePool,
    ConvNet,
    FastNet,
    PixelGELU,
    SmallNet,
    bias_groups,
    build,
    parameter_count,
)


def correlated_images(n: int, seed: int = 0) -> torch.Tensor:
    """Return ``(n, 3, 32, 32)`` images of mean 0; neighbouring pixels and colours go together."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 3, 34, 34, generator=generator)
    smooth = functional.avg_pool2d(noise, 3, stride=1)
    mixed = torch.einsum("ij,njhw->nihw", torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]]), smooth)
    return mixed / mixed.std()


def patches_of(images: torch.Tensor) -> torch.Tensor:
    """Return every 2x2 patch, one by one, ``(n * 31 * 31, 12)``."""
    rows = [
        images[:, :, i : i + 2, j : j + 2].flatten(1)
        for i in range(images.shape[2] - 1)
        for j in range(images.shape[3] - 1)
    ]
    return torch.cat(rows).double()


def prepared(images: torch.Tensor, widths: tuple[int, ...] = (24, 32, 32)) -> FastNet:
    torch.manual_seed(0)
    network = FastNet(widths)
    network.prepare(images)
    return network


@pytest.mark.parametrize("count", [1, 3])
def test_it_maps_images_to_ten_scores(count: int) -> None:
    assert build("fast")(torch.rand(count, 3, 32, 32)).shape == (count, 10)
    assert FastNet((24, 25, 26), classes=7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_it_has_the_layers_that_its_description_says() -> None:
    network = FastNet()
    kinds = [type(m).__name__ for m in network.features]
    first = ["ConvBeforePool", "MaxPool2d", "BatchNorm2d", "PixelGELU"]
    group = [*first, "Conv2d", "BatchNorm2d", "PixelGELU"]
    assert kinds == ["PixelGELU", *group * 3, "AdaptiveMaxPool2d", "Flatten"]
    pools = [m.kernel_size for m in network.features if isinstance(m, nn.MaxPool2d)]
    assert pools == [2, 2, 2]
    assert network.whiten.kernel_size == (2, 2)
    convolutions = [m for m in network.features if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 256, 256, 256, 256]
    assert all(c.kernel_size == (3, 3) and c.padding == (1, 1) for c in convolutions)
    assert all(c.bias is None for c in [*convolutions, network.classifier])


@pytest.mark.parametrize(
    ("side", "widths"), [(32, [31, 15, 7, 3, 1]), (24, [23, 11, 5, 2, 1]), (16, [15, 7, 3, 1])]
)
def test_its_maps_are_half_as_wide_after_every_pooling(side: int, widths: list[int]) -> None:
    network = FastNet().eval()
    x = network.whiten(torch.rand(1, 3, side, side))
    sides = [x.shape[-1]]
    for layer in network.features[:-1]:
        x = layer(x)
        if not isinstance(layer, ConvBeforePool):
            sides.append(x.shape[-1])
    assert [side for side, _ in itertools.groupby(sides)] == widths


@pytest.mark.parametrize("shape", [(7, 7), (8, 8), (7, 8), (10, 5)])
def test_a_convolution_before_pooling_leaves_out_only_what_the_pooling_drops(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    lean = ConvBeforePool(3, 4, 3, padding=1).double()
    plain = nn.Conv2d(3, 4, 3, padding=1).double()
    plain.load_state_dict(lean.state_dict())
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    h, w = shape
    assert lean(x).shape == (2, 4, h - h % 2, w - w % 2)
    found, expected = (functional.max_pool2d(layer(x), 2) for layer in (lean, plain))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)
    found, expected = (
        torch.autograd.grad((y**2).sum(), (x, *layer.parameters()))
        for y, layer in ((found, lean), (expected, plain))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_its_gelu_is_torchs(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    torch.testing.assert_close(PixelGELU()(x), functional.gelu(x), rtol=0.0, atol=1e-14)


def test_freezing_leaves_the_bias_without_gradient_and_changes_no_score() -> None:
    network, images = FastNet((24, 24, 24)), torch.rand(2, 3, 32, 32)
    network(images).sum().backward()
    assert network.whiten.bias is not None
    assert network.whiten.bias.grad is not None
    before = network(images)
    network.freeze()
    assert network.whiten.bias.grad is None
    assert torch.equal(network(images), before)
    network(images).sum().backward()
    assert network.whiten.bias.grad is None
    assert network.classifier.weight.grad is not None


def test_it_has_the_parameters_counted_by_hand() -> None:
    whitening_bias, biases, last = 24, 2 * (64 + 256 + 256), 256 * 10
    filters = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 + 256 * 256 + 256 * 256)
    assert whitening_bias + filters + biases + last == 1_971_352  # the paper says 1.97 million
    assert parameter_count(build("fast")) == 1_971_352


def test_batch_normalisation_trains_its_bias_alone_and_remembers_three_fifths() -> None:
    norms = [m for m in FastNet().modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert (norm.momentum, norm.eps) == (0.4, 1e-12)
        assert not norm.weight.requires_grad
        assert norm.bias.requires_grad
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))


def test_whitened_patches_have_covariance_one() -> None:
    images = correlated_images(60)
    network = prepared(images)
    patches = patches_of(images)
    filters = network.whiten.weight[:12].flatten(1).double()
    raw = patches.T @ patches / len(patches)
    assert torch.linalg.cond(raw) > 50.0  # there was something to whiten
    white = patches @ filters.T
    covariance = white.T @ white / len(white)
    # eps takes s / (s + eps) from a direction of variance s, so least of all from the largest
    values = torch.linalg.eigvalsh(raw).flip(0)
    expected = torch.diag(values / (values + 5e-4))
    torch.testing.assert_close(covariance, expected, rtol=1e-4, atol=1e-5)
    assert (covariance - torch.eye(12)).abs().max() < 0.05


def test_the_other_twelve_filters_are_the_negatives() -> None:
    weight = prepared(correlated_images(8)).whiten.weight
    assert torch.equal(weight[12:], -weight[:12])


def test_a_larger_eps_damps_directions_of_little_variance() -> None:
    images = correlated_images(8)
    network = prepared(images)
    plain = network.whiten.weight.clone()
    network.prepare(images, eps=1.0)
    ratio = network.whiten.weight.flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    values = torch.linalg.eigvalsh(patches_of(images).T @ patches_of(images)).flip(0) / (8 * 961)
    expected = ((values + 5e-4) / (values + 1.0)).sqrt().float()
    torch.testing.assert_close(ratio, torch.cat((expected, expected)), rtol=1e-4, atol=1e-6)


def test_prepare_gives_the_same_filters_again_and_in_any_order_of_images() -> None:
    images = correlated_images(40)
    first = prepared(images).whiten.weight
    assert torch.equal(first, prepared(images).whiten.weight)
    shuffled = images[torch.randperm(40)].contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(first, prepared(shuffled).whiten.weight, rtol=1e-5, atol=1e-6)


def test_prepare_takes_more_images_than_one_part_of_them() -> None:
    images = correlated_images(30)
    many = images.repeat(18, 1, 1, 1)  # 540: one part and a smaller one
    found = prepared(many).whiten.weight
    torch.testing.assert_close(found, prepared(images).whiten.weight, rtol=1e-5, atol=1e-6)


def test_the_sign_of_an_eigenvector_does_not_hang_on_rounding() -> None:
    # What eigh returns may be turned around; the filters may not.
    images = correlated_images(20)
    expected = prepared(images).whiten.weight
    eigh = torch.linalg.eigh

    def turned(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = eigh(matrix)
        return values, vectors * torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "eigh", turned)
        assert torch.equal(prepared(images).whiten.weight, expected)


def test_the_filters_stay_frozen_in_training_and_their_bias_does_not() -> None:
    network = prepared(correlated_images(8))
    weight, bias = network.whiten.weight.clone(), network.whiten.bias.clone()
    scales = [m.weight.clone() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    optimizer = torch.optim.SGD(bias_groups(network, 0.01, 0.1), momentum=0.9, nesterov=True)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    for _ in range(2):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert torch.equal(network.whiten.weight, weight)
    assert not torch.equal(network.whiten.bias, bias)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.equal(m.weight, was) for m, was in zip(norms, scales, strict=True))
    assert all(not torch.equal(m.bias, torch.zeros_like(m.bias)) for m in norms)


def test_convolutions_start_by_passing_their_input_through() -> None:
    for layer in FastNet().features:
        if isinstance(layer, nn.Conv2d):
            x = torch.randn(2, layer.in_channels, 8, 8)
            y = layer(x)
            torch.testing.assert_close(y[:, : layer.in_channels], x)
            others = y[:, layer.in_channels :]
            assert others.numel() == 0 or others.std() > 0.1
    assert torch.equal(FastNet().whiten.bias, torch.zeros(24))


def test_scores_are_a_ninth_of_the_linear_layers() -> None:
    network = FastNet().eval()
    seen: list[torch.Tensor] = []
    network.classifier.register_forward_hook(lambda layer, given, out: seen.append(out))
    scores = network(torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(scores, seen[0] / 9.0)


def test_it_learns_ten_images_by_heart() -> None:
    images, labels = correlated_images(10), torch.arange(10)
    network = prepared(images)
    optimizer = torch.optim.SGD(bias_groups(network, 0.5, 0.0), momentum=0.85, nesterov=True)
    for _ in range(25):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_without_batch_normalisation_it_is_refused_in_one_line() -> None:
    with pytest.raises(
        InputError, match="model fast needs batch normalisation: leave it on"
    ) as error:
        build("fast", batch_norm=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["fast", "convnet-narrow", "small"])
def test_bias_groups_hold_every_trained_parameter_once(name: str) -> None:
    network = build(name)
    biases, rest = bias_groups(network, 0.5, 0.02, 16.0)
    assert (biases["lr"], biases["weight_decay"]) == (8.0, 0.00125)
    assert (rest["lr"], rest["weight_decay"]) == (0.5, 0.02)
    names = {id(p): key for key, p in network.named_parameters()}
    norms = [key for key, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert [names[id(p)] for p in biases["params"]] == [f"{key}.bias" for key in norms]
    trained = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(id(p) for group in (biases, rest) for p in group["params"]) == sorted(trained)


def test_a_step_shrinks_biases_and_the_rest_by_the_same_factor() -> None:
    network = FastNet()
    optimizer = torch.optim.SGD(bias_groups(network, 0.1, 0.5, 64.0))
    trained = [p for p in network.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in trained:
            p.fill_(1.0)
            p.grad = torch.zeros_like(p)
    optimizer.step()
    for p in trained:
        torch.testing.assert_close(p, torch.full_like(p, 1.0 - 0.1 * 0.5))


def test_bias_groups_refuse_what_they_cannot_do() -> None:
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="bias_scale must be larger than 0 and finite, got"):
            bias_groups(FastNet(), 0.1, 0.1, scale)
    for network in (SmallNet(batch_norm=False), ConvNet(4, batch_norm=False)):
        with pytest.raises(InputError, match="no bias of a batch normalisation"):
            bias_groups(network, 0.1, 0.1)
