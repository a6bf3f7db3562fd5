"""Claims about what a network is said to cost, against counting by hand and against real steps."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from ngs.errors import InputError
from ngs.train.config import OPTIMIZERS, TrainConfig
from ngs.train.models import ConvNet, build, cost
from ngs.train.optimizers import PEERS, build_optimizer, state_copies


def linear(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 8 * 8, 20, bias), nn.ReLU(), nn.Linear(20, 5, bias)
    )


def test_multiply_adds_of_linear_layers_are_their_weights() -> None:
    found = cost(linear(), 8)
    assert found.multiply_adds == 192 * 20 + 20 * 5
    assert found.parameters == 192 * 20 + 20 + 20 * 5 + 5
    assert found.weights == found.gradients == 4 * found.parameters


def test_activations_are_what_a_backward_pass_needs() -> None:
    # Both layers keep their input; the ReLU keeps its output, which is the second one's input.
    assert cost(linear(), 8).activations == 4 * (192 + 20)


def test_multiply_adds_of_a_convolution_are_its_weights_at_every_place() -> None:
    network = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1, stride=2), nn.Flatten())
    assert cost(network, 16).multiply_adds == 8 * 8 * 3 * 7 * 9


def test_multiply_adds_of_the_transformer_counted_by_hand_with_its_attention() -> None:
    tokens, width, hidden = 65, 192, 768
    layer = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    assert cost(build("vit"), 32).multiply_adds == 64 * 48 * width + 6 * layer + 10 * width


def test_known_networks_cost_what_is_printed_of_them_elsewhere() -> None:
    # 0.56 G for the ResNet of 18 layers with a stem for small images, 1.8 G for torchvision's at
    # 224 pixels (its own table: 1.81 GFLOPS).
    assert cost(build("resnet18"), 32).multiply_adds / 1e9 == pytest.approx(0.56, abs=0.005)
    whole = build("torchvision-resnet18", classes=1000, side=224)
    assert cost(whole, 224).multiply_adds / 1e9 == pytest.approx(1.81, abs=0.005)


def test_frozen_layers_need_no_gradient_and_keep_no_activations() -> None:
    network = linear()
    for p in network[1].parameters():
        p.requires_grad_(False)
    found = cost(network, 8)
    assert found.parameters == 20 * 5 + 5
    assert found.gradients == 4 * found.parameters
    assert found.weights == cost(linear(), 8).weights
    assert found.activations == 4 * 20


def test_half_precision_halves_the_activations_of_convolutions() -> None:
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(8)))
    full, half = (cost(network, 16, dtype).activations for dtype in (torch.float32, torch.bfloat16))
    assert full == 4 * 8 * 3 * 16 * 16
    assert half == full / 2


def test_counting_leaves_the_network_and_the_random_numbers_as_they_are() -> None:
    network = nn.Sequential(
        OrderedDict(body=ConvNet(4), drop=nn.Dropout(0.5), norm=nn.BatchNorm1d(10))
    )
    network.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    random = torch.get_rng_state()
    cost(network, 32)
    assert torch.equal(torch.get_rng_state(), random)
    assert not network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_images_that_a_network_cannot_take_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="cannot take images of 8 pixels") as error:
        cost(ConvNet(4), 8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_memory_of_the_optimizer_is_that_of_its_state(optimizer: str, average: float) -> None:
    if optimizer in PEERS:
        pytest.importorskip(PEERS[optimizer])
    if optimizer == "schedule-free" and average:
        pytest.skip("schedule-free keeps an average of its own")
    settings = TrainConfig(optimizer=optimizer, average=average, lr=1e-3)
    network = nn.Linear(400, 100)
    built = build_optimizer(settings, network, 100)
    for _ in range(3):
        built.zero_grad()
        network(torch.randn(7, 400)).square().sum().backward()
        built.step()
    state = sum(
        value.nbytes
        for entry in built.state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    )
    own = sum(p.nbytes for p in network.parameters())
    assert state / own == pytest.approx(state_copies(settings) - (average > 0.0), abs=0.01)
    needs = cost(linear(), 8).memory(32, state_copies(settings))
    assert needs["optimizer"] == state_copies(settings) * needs["gradients"]
    assert needs["activations"] == 32 * 4 * 212
