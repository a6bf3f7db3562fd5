"""Claims about the networks: what they are made of, and that the quick convolution is one."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ngs.errors import InputError
from ngs.train.models import LEAST_SIDE, MODELS, Conv3x3, ConvNet, SmallNet, build, parameter_count


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 3), (4, 4), (8, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_conv3x3_equals_torchs_convolution_forward_and_backward(
    bias: bool, size: tuple[int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = Conv3x3(3, 5, bias=bias).double()
    x = torch.randn(4, 3, *size, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    weight = torch.randn(4, 5, *size, dtype=torch.float64)  # of the loss: no two outputs alike
    wanted = [x, *layer.parameters()]

    y = layer(x)
    oracle = functional.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(y, oracle, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad((y * weight).sum(), wanted)
    expected = torch.autograd.grad((oracle * weight).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_conv3x3_is_one_matrix_product_on_small_maps_of_a_cpu(gradients: bool, bias: bool) -> None:
    # Speed hangs on it: torch may choose one small product an image, six times slower.
    class Products(TorchDispatchMode):
        def __torch_dispatch__(  # type: ignore[no-untyped-def]
            self, func, types, args=(), kwargs=None
        ):
            name = func.overloadpacket.__name__
            if "mm" in name or "conv" in name:
                used.append(name)
            return func(*args, **(kwargs or {}))

    used: list[str] = []
    layer, x = Conv3x3(3, 5, bias=bias), torch.rand(6, 3, 2, 2)
    with torch.set_grad_enabled(gradients), Products():
        layer(x)
    assert used == ["addmm" if bias else "mm"]
    used.clear()
    with torch.set_grad_enabled(gradients), Products():
        layer(torch.rand(6, 3, 8, 8))
    assert used == ["convolution"]


def test_conv3x3_holds_the_same_parameters_as_torchs_layer() -> None:
    ours, theirs = Conv3x3(3, 5).state_dict(), nn.Conv2d(3, 5, 3, padding=1).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_convnet_maps_images_to_ten_scores(batch_norm: bool, count: int) -> None:
    network = ConvNet(4, batch_norm)
    assert network(torch.rand(count, 3, 32, 32)).shape == (count, 10)


def test_convnet_takes_another_number_of_classes() -> None:
    assert ConvNet(4, classes=7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("width", [4, 16])
def test_convnet_has_ten_convolutions_in_pairs_that_double_in_width(width: int) -> None:
    network = ConvNet(width)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    widths = [width * 2**pair for pair in range(5) for _ in range(2)]
    assert [c.out_channels for c in convolutions] == widths
    assert [c.in_channels for c in convolutions] == [3, *widths[:-1]]
    linear = [(m.in_features, m.out_features) for m in network.modules() if type(m) is nn.Linear]
    assert linear == [(width * 16, width * 8), (width * 8, 10)]


def test_convnet_pools_once_after_each_pair() -> None:
    kinds = [type(m).__name__ for m in ConvNet(4, batch_norm=False).features]
    assert kinds == ["Conv3x3", "ReLU", "Conv3x3", "ReLU", "MaxPool2d"] * 5
    kinds = [type(m).__name__ for m in ConvNet(4, batch_norm=True).features]
    assert kinds == [*["Conv3x3", "BatchNorm2d", "ReLU"] * 2, "MaxPool2d"] * 5


def counted_by_hand(width: int, batch_norm: bool) -> int:
    widths = [3] + [width * 2**pair for pair in range(5) for _ in range(2)]
    total = 0
    for before, after in itertools.pairwise(widths):
        total += 9 * before * after + (2 * after if batch_norm else after)
    last = widths[-1]
    return total + last * (last // 2) + last // 2 + (last // 2) * 10 + 10


def test_full_convnet_has_19_377_098_parameters() -> None:
    network = build("convnet")
    assert parameter_count(network) == 19_377_098
    assert counted_by_hand(64, batch_norm=True) == 19_377_098


@pytest.mark.parametrize("batch_norm", [True, False])
def test_narrow_convnet_has_the_parameters_that_the_formula_gives(batch_norm: bool) -> None:
    network = build("convnet-narrow", batch_norm=batch_norm)
    assert parameter_count(network) == counted_by_hand(16, batch_norm)
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) is batch_norm


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("side", [32, 16, 8])
def test_smallnet_maps_images_of_every_side_to_ten_scores(side: int, batch_norm: bool) -> None:
    assert SmallNet(batch_norm=batch_norm)(torch.rand(3, 3, side, side)).shape == (3, 10)


def test_smallnet_has_the_layers_that_its_description_says() -> None:
    kinds = [type(m).__name__ for m in SmallNet(batch_norm=False).features]
    one, pool = ["Conv2d", "ReLU"], ["MaxPool2d"]
    assert kinds == one + pool + one * 2 + pool + one * 2
    kinds = [type(m).__name__ for m in SmallNet().features]
    one = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds == one + pool + one * 2 + pool + one * 2
    features = SmallNet().eval().features
    assert features(torch.rand(1, 3, 32, 32)).shape == (1, 64, 8, 8)
    assert SmallNet(widths=(4, 5, 6), classes=7)(torch.rand(2, 3, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(("batch_norm", "expected"), [(True, 70_618), (False, 70_410)])
def test_smallnet_has_the_parameters_counted_by_hand(batch_norm: bool, expected: int) -> None:
    widths = [3, 16, 32, 32, 64, 64]
    total = 64 * 10 + 10
    for before, after in itertools.pairwise(widths):
        total += 9 * before * after + (2 * after if batch_norm else after)
    assert total == expected
    assert parameter_count(build("small", batch_norm=batch_norm)) == expected


def test_smallnet_starts_from_hes_initialisation() -> None:
    torch.manual_seed(0)
    last = [m for m in SmallNet(widths=(64, 64)).modules() if isinstance(m, nn.Conv2d)][-1]
    assert last.weight.std().item() == pytest.approx(math.sqrt(2.0 / (9 * 64)), rel=0.02)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_smallnet_learns_twenty_images_by_heart(batch_norm: bool) -> None:
    torch.manual_seed(0)
    network = SmallNet(batch_norm=batch_norm)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    images, labels = torch.randn(20, 3, 8, 8), torch.arange(20) % 10
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_the_least_side_is_the_smallest_that_a_network_can_map(name: str) -> None:
    network = build(name).eval()
    for side in (32, 16, 8):
        images = torch.rand(1, 3, side, side)
        if side >= LEAST_SIDE.get(name, 0):
            assert network(images).shape == (1, 10)
        else:
            with pytest.raises((RuntimeError, AssertionError)):
                network(images)


def test_parameter_count_leaves_out_what_is_not_trained() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6


def test_a_seed_fixes_the_initial_weights() -> None:
    def first_weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build("convnet-narrow").parameters())

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


def test_unknown_model_is_refused_with_the_names_there_are() -> None:
    names = ["convnet", "convnet-narrow", "small", "fast", "resnet18", "vit"]
    with pytest.raises(InputError, match=f"{', '.join(names)}, or torchvision- .*got 'resnet'"):
        build("resnet")
    assert list(MODELS) == names


def test_resnet18_has_the_stem_for_small_images_and_the_parameters_counted_by_hand() -> None:
    network = build("resnet18").eval()
    seen = []
    for group in (network.conv1, network.layer1, network.layer4):
        group.register_forward_hook(lambda module, args, out: seen.append(out.shape[1:]))  # type: ignore[operator,union-attr]
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert seen == [(64, 32, 32), (64, 32, 32), (512, 4, 4)]
    total, channels = 3 * 64 * 9 + 2 * 64, 64
    for out in (64, 64, 128, 128, 256, 256, 512, 512):
        total += 9 * channels * out + 9 * out * out + 4 * out
        total += channels * out + 2 * out if channels != out else 0
        channels = out
    assert parameter_count(network) == total + 512 * 10 + 10 == 11_173_962


def test_the_transformer_has_the_parameters_counted_by_hand() -> None:
    width, hidden = 192, 768
    layer = 4 * (width * width + width) + 2 * width * hidden + hidden + width + 4 * width
    around = 48 * width + width + width + 65 * width + 2 * width + 10 * width + 10
    assert parameter_count(build("vit")) == 6 * layer + around


@pytest.mark.parametrize("name", [*MODELS, "torchvision-mobilenet_v3_small"])
@pytest.mark.parametrize("classes", [2, 10, 17])
def test_every_network_takes_another_number_of_classes(name: str, classes: int) -> None:
    network = build(name, classes=classes).eval()
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, classes)


def test_networks_of_torchvision_are_built_by_their_own_names() -> None:
    network = build("torchvision-vit_b_16", classes=4, side=64).eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 4)
    with pytest.raises(InputError, match=r"resnet18, .*got 'torchvision-resnet19'"):
        build("torchvision-resnet19")
    with pytest.raises(InputError, match="needs batch normalisation"):
        build("torchvision-resnet18", batch_norm=False)
    with pytest.raises(InputError, match="cannot be built for images of 8 pixels"):
        build("torchvision-vit_b_16", side=8)
