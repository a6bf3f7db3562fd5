"""Claims about runs that begin with weights: what is loaded, refused, frozen, and freed late."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from few_images import few_images
from torch import nn

from ngs.errors import InputError
from ngs.train import data, loop, models
from ngs.train.config import TrainConfig
from ngs.train.models import build, head_name, replace_head, stage_groups, stages, train_last
from ngs.train.pretrained import load_initial, read_weights

TRAIN, TEST = 120, 60


@pytest.fixture(scope="module")
def small() -> data.Dataset:
    return few_images(TRAIN, TEST)


@pytest.fixture(autouse=True)
def no_other_data(small: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "load", lambda name, download=True: small)


def config(**changes: Any) -> TrainConfig:
    settings = {
        "model": "small",
        "side": 8,
        "epochs": 3,
        "batch_size": 20,
        "lr": 0.02,
        "device": "cpu",
        "precision": "float32",
    }
    return TrainConfig(**{**settings, **changes})


def weights_of(path: Path, **changes: Any) -> nn.Module:
    """Train a network for a moment and write its weights, as the command does."""
    network, _ = loop.train(config(epochs=1, **changes))
    loop.save_weights(network, path)
    return network


def values(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


# Stages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("convnet-narrow", 12),  # ten convolutions, two linear layers
        ("small", 6),
        ("fast", 8),
        ("resnet18", 10),  # stem, eight blocks, linear layer
        ("vit", 8),  # patches, six layers, linear layer
        ("torchvision-mobilenet_v3_small", 15),
    ],
)
def test_a_network_has_the_stages_that_one_would_count(name: str, count: int) -> None:
    network = build(name)
    found = stages(network)
    assert len(found) == count
    assert [network.get_submodule(head_name(network))] == found[-1]
    named = [p for stage in found for module in stage for p in module.parameters()]
    assert len(named) == len(set(named))
    loose = set(network.parameters()) - set(named)
    assert bool(loose) is (name == "vit")  # class token and positions


def test_a_normalisation_belongs_to_the_layer_before_it() -> None:
    kinds = [[type(m).__name__ for m in stage] for stage in stages(build("small"))]
    assert kinds == [["Conv2d", "BatchNorm2d"]] * 5 + [["Linear"]]


@pytest.mark.parametrize("name", ["small", "resnet18", "vit", "torchvision-squeezenet1_1"])
def test_a_new_head_is_fresh_and_all_else_stays(name: str) -> None:
    network = build(name).eval()
    before = values(network)
    replace_head(network, 3)
    head = head_name(network)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    for key, value in network.state_dict().items():
        if key.rpartition(".")[0] == head:
            assert value.shape[0] == 3
        else:
            assert torch.equal(value, before[key]), key
    with pytest.raises(InputError, match="classes must be 2 or more, got 1"):
        replace_head(network, 1)
    with pytest.raises(InputError, match="no linear layer"):
        replace_head(nn.ReLU(), 3)


@pytest.mark.parametrize("name", ["small", "fast", "vit"])
def test_only_the_last_stages_train(name: str) -> None:
    network = build(name).train()
    trained = {p for p in network.parameters() if p.requires_grad}
    everything = stages(network)
    for count in (1, 3, len(everything), 99, 0):
        train_last(network.train(), count, trained)
        free = everything[-count:] if count else everything
        wanted = {p for stage in free for module in stage for p in module.parameters()}
        if len(free) == len(everything):
            wanted = set(network.parameters())
        assert {p for p in network.parameters() if p.requires_grad} == wanted & trained
        for number, stage in enumerate(everything):
            for module in stage:
                assert module.training is (number >= len(everything) - len(free))


def test_rates_fall_by_the_decay_from_the_head_to_the_images() -> None:
    network = build("vit")
    groups = stage_groups(network, 0.8, 2.0)
    assert [group["lr"] for group in groups] == [0.8 / 2.0 ** (7 - k) for k in range(8)]
    listed = [p for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(network.parameters())
    first = {id(p) for p in groups[0]["params"]}
    assert {id(network.class_token), id(network.encoder.pos_embedding)} < first  # type: ignore[union-attr]
    with pytest.raises(InputError, match="stage-decay must be finite and above 0, got 0"):
        stage_groups(network, 0.8, 0.0)


# Weights to begin with --------------------------------------------------------------------------


def test_a_run_begins_with_the_weights_of_the_file(tmp_path: Path, small: data.Dataset) -> None:
    path = tmp_path / "w.pt"
    expected = values(weights_of(path))
    run = loop.set_up(config(init=str(path), seed=7))
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    fresh = loop.set_up(config(seed=7))
    assert not torch.equal(next(fresh.model.parameters()), next(run.model.parameters()))


def test_a_run_begins_with_the_parameters_of_an_unfinished_run(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.ckpt"
    steps = iter([False] * 8 + [True])
    with pytest.raises(loop.Stopped):
        loop.train(config(), checkpoint=path, stop=lambda: next(steps))
    saved = torch.load(path, weights_only=True)["state"]["model"]
    run = loop.set_up(config(init=str(path)))
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, saved[key]), key


def test_a_new_head_may_have_another_number_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    expected = values(weights_of(path, classes="0,1,2,3,4"))
    settings = config(init=str(path), new_head=True, classes="5,6,7", seed=7)
    found = loop.set_up(settings).model
    torch.manual_seed(7)
    fresh = build("small", classes=3).state_dict()
    for key, value in found.state_dict().items():
        source = fresh if key.startswith("classifier") else expected
        assert torch.equal(value, source[key]), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": "nowhere.pt"}, "there is no file nowhere.pt: name weights that a run has"),
        (
            {"init": "w.pt", "classes": "1,2"},
            r"shape \(10, 64\), and model small of \(2, 64\).*new",
        ),
        (
            {"init": "w.pt", "model": "convnet-narrow", "side": 32},
            "has no features.3.weight,",
        ),
        ({"init": "w.pt", "batch_norm": False}, "has no features.0.bias, which model small has"),
        ({"init": "torchvision"}, "for the models torchvision-..., got model small"),
        ({"init": "damaged.pt"}, "damaged.pt cannot be read: it is damaged, or holds no weights"),
        ({"init": "other.pt"}, "other.pt cannot be read: it is damaged, or holds no weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights_of(Path("w.pt"))
    content = bytearray(Path("w.pt").read_bytes())
    content[len(content) // 2] ^= 1  # torch itself would read it
    Path("damaged.pt").write_bytes(content)
    torch.save({"loss": 3.0}, "other.pt")
    with pytest.raises(InputError, match=message) as error:
        loop.set_up(config(**changes))
    assert "\n" not in str(error.value)


def test_layers_that_the_model_has_not_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    weights = weights_of(path).state_dict()
    torch.save({**weights, "second.weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match=r"has second.weight, which model small has not"):
        load_initial(build("small"), "small", str(path), new_head=False)


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    torch.save({"evil": print}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path / "w.pt")


class Hub:
    """A made-up download of torchvision's weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        torch.hub.set_dir(str(folder))
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[], Any] = lambda: None
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", self)

    def __call__(self, url: str, **options: Any) -> Any:
        self.asked.append({"url": url, **options})
        return self.answer()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    before = torch.hub.get_dir()
    yield Hub(monkeypatch, tmp_path / "hub")
    torch.hub.set_dir(before)


NAME = "torchvision-squeezenet1_1"


def test_torchvisions_weights_are_checked_and_read_without_running_code(hub: Hub) -> None:
    theirs = build(NAME, classes=1000).state_dict()
    hub.answer = lambda: theirs
    network = build(NAME, classes=3)
    load_initial(network, NAME, "torchvision", new_head=True)
    assert hub.asked[0]["check_hash"] is hub.asked[0]["weights_only"] is True
    assert torch.equal(network.state_dict()["features.0.weight"], theirs["features.0.weight"])
    with pytest.raises(InputError, match=r"classifier.1.weight of shape \(1000.*--new-head"):
        load_initial(network, NAME, "torchvision", new_head=False)


def test_without_network_it_says_which_file_to_put_where(hub: Hub, tmp_path: Path) -> None:
    def refuse() -> None:
        raise URLError("no route to host")

    hub.answer = refuse
    network = build(NAME, classes=3)
    with pytest.raises(InputError, match=r"could not be fetched .*no route to host") as error:
        load_initial(network, NAME, "torchvision", new_head=True)
    message = str(error.value)
    assert "\n" not in message
    assert "squeezenet1_1-" in message
    assert str(tmp_path / "hub" / "checkpoints") in message
    with pytest.raises(InputError, match="downloading was not allowed"):
        load_initial(network, NAME, "torchvision", new_head=True, download=False)
    assert len(hub.asked) == 1


# Frozen, and freed late -------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["ngs", "ngs-factor", "sgd-nesterov", "adam"])
def test_what_is_frozen_stays_to_the_bit_and_the_head_learns(
    optimizer: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    before = values(weights_of(path))
    network, record = loop.train(config(init=str(path), train_last=1, optimizer=optimizer))
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) is (not key.startswith("classifier")), key
    assert record["parameters"] == models.parameter_count(build("small"))
    assert record["memory"]["gradients"] == 4 * (64 * 10 + 10)


def test_every_few_epochs_one_more_stage_begins_to_train(small: data.Dataset) -> None:
    run = loop.set_up(config(train_last=1, unfreeze_every=2, epochs=6))
    seen = []
    for number in range(1, 7):
        run.train_mode(number)
        seen.append(sum(stage[0].weight.requires_grad for stage in stages(run.model)))  # type: ignore[union-attr]
    assert seen == [1, 1, 2, 2, 3, 3]


def test_a_stage_that_is_freed_late_takes_the_step_of_a_fresh_one() -> None:
    # Its velocity is zero and its clock at 0, whatever the others have done since.
    run = loop.set_up(config(train_last=1, unfreeze_every=1, schedule="constant", momentum=0.9))
    source = run.endless()
    for _ in range(5):
        run.train_step(*next(source))
    late = stages(run.model)[-2][0].weight
    assert isinstance(late, nn.Parameter)
    assert late not in run.optimizer.state or not run.optimizer.state[late]
    run.train_mode(2)
    before = late.detach().clone()
    images, labels = next(source)
    run.train_step(images, labels)
    assert late.grad is not None
    # y_1 = y_0 - eta (1 + beta) (g + lambda y_0): the first look-ahead step from rest.
    gradient = late.grad + run.config.weight_decay * before
    expected = before - run.config.lr * 1.9 * gradient
    torch.testing.assert_close(late.detach(), expected, rtol=1e-5, atol=1e-7)
    with run.optimizer.at_iterate():  # type: ignore[attr-defined]
        torch.testing.assert_close(
            late.detach(), before - run.config.lr * gradient, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("optimizer", ["ngs-factor", "adam"])
def test_a_run_that_frees_stages_goes_on_from_its_checkpoint_to_the_same_weights(
    optimizer: str, tmp_path: Path
) -> None:
    changes = {"train_last": 1, "unfreeze_every": 1, "stage_decay": 2.6, "epochs": 4}
    settings = config(optimizer=optimizer, lr=0.01, **changes)
    whole, record = loop.train(settings)
    path = tmp_path / "c.ckpt"
    for stop_after in (3, 9, 8):
        steps = iter([False] * stop_after + [True])
        with pytest.raises(loop.Stopped):
            loop.train(settings, checkpoint=path, stop=lambda steps=steps: next(steps))  # type: ignore[misc]
    parted, other = loop.train(settings, checkpoint=path)
    for key, value in parted.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key
    assert other["parts"] == 4
    assert [row["train_loss"] for row in other["epochs"]] == [
        row["train_loss"] for row in record["epochs"]
    ]


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_stages_keep_their_ratio_under_a_schedule(schedule: str) -> None:
    run = loop.set_up(config(stage_decay=2.0, schedule=schedule))
    source = run.endless()
    for _ in range(4):
        run.train_step(*next(source))
        rates = [group["lr"] for group in run.optimizer.param_groups]
        assert rates == pytest.approx([rates[-1] / 2.0**k for k in (5, 4, 3, 2, 1, 0)])
        assert rates[-1] == pytest.approx(run.lr(run.step - 1))


# Classes, sides and settings --------------------------------------------------------------------


def test_a_run_learns_the_classes_that_it_is_given_in_their_order(small: data.Dataset) -> None:
    part = small.only((7, 2, 5))
    assert part.classes == tuple(small.classes[k] for k in (7, 2, 5))
    for split, whole in ((part.train, small.train), (part.test, small.test)):
        assert split.numbers is not None
        assert set(split.labels.tolist()) == {0, 1, 2}
        assert torch.equal(split.images, whole.images[split.numbers])
        old = whole.labels[split.numbers]
        assert torch.equal(torch.tensor([7, 2, 5])[split.labels], old)
        assert len(split) == sum(int((whole.labels == k).sum()) for k in (7, 2, 5))
    assert small.only(()) is small
    with pytest.raises(InputError, match="numbers from 0 to 9 for offline, got 3, 10"):
        small.only((3, 10))
    _, record = loop.train(config(classes="7,2,5", epochs=1, validation=10))
    assert len(record["test"]["confusion"]) == 3
    assert record["images"]["test"] == len(part.test)
    assert record["images"]["train"] == len(part.train) - 10


def test_images_are_scaled_up_after_augmentation_for_training_and_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes = []
    scores = loop.Run.scores

    def spy(self: loop.Run, images: torch.Tensor) -> torch.Tensor:
        shapes.append((self.model.training, *images.shape[1:]))
        return scores(self, images)

    monkeypatch.setattr(loop.Run, "scores", spy)
    loop.train(config(side=64, epochs=1, train_images=40))
    assert set(shapes) == {(True, 3, 64, 64), (False, 3, 64, 64)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": "3"}, "classes must be the numbers of two or more different classes"),
        ({"classes": "3,3"}, "two or more different classes .*got '3,3'"),
        ({"classes": "cat,dog"}, "got 'cat,dog'"),
        ({"new_head": True}, "new-head is for weights that a run begins with: give --init too"),
        ({"unfreeze_every": 2}, "give --train-last 1, say, with unfreeze-every 2"),
        ({"train_last": -1}, "train-last must be 0 or more, got -1"),
        ({"stage_decay": 0.0}, "stage-decay must be finite and above 0, got 0.0"),
        ({"stage_decay": 2.0, "optimizer": "prodigy"}, "stage-decay needs one of ngs, .*prodigy"),
        ({"stage_decay": 2.0, "bias_scale": 3.0}, "leave one at 1, got 2 and 3"),
        ({"model": "vit", "side": 64}, "side must be 32 for model vit, got 64"),
        ({"model": "resnet18", "batch_norm": False}, "model resnet18 needs batch normalisation"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_double_precision_trains_in_double_precision() -> None:
    network, record = loop.train(config(precision="float64", epochs=1))
    assert record["precision"] == "float64"
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    close, _ = loop.train(config(epochs=1))
    for key, value in close.state_dict().items():
        exact = network.state_dict()[key].double()
        torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=1e-4)


def test_records_of_before_have_the_defaults_of_the_new_settings() -> None:
    new = {"classes", "init", "new_head", "train_last", "unfreeze_every", "stage_decay"}
    old = {k: v for k, v in dataclasses.asdict(config()).items() if k not in new}
    assert TrainConfig(**old) == config()
