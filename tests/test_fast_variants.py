"""Claims about the variants of the fast recipe that chapter 16 compares: what each takes out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tool import load_tool

from ngs.train import data, models, offline

ROOT = Path(__file__).resolve().parents[1]
variants = load_tool("fast_variants")


def test_plain_layers_compute_the_same_network() -> None:
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    ours, plain = models.FastNet().double(), variants.PlainLayers().double()
    plain.load_state_dict(ours.state_dict())
    found, expected = plain(images), ours(images)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for network, scores in ((ours, expected), (plain, found)):
        scores.square().sum().backward()
        assert network.classifier.weight.grad is not None
    grads = zip(ours.parameters(), plain.parameters(), strict=True)
    for one, other in ((a.grad, b.grad) for a, b in grads if a.grad is not None):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    kinds = {type(layer).__name__ for layer in plain.features}
    assert kinds == {"Conv2d", "MaxPool2d", "BatchNorm2d", "GELU", "Flatten"}


def test_random_filters_are_not_prepared_and_train() -> None:
    network = variants.RandomFilters()
    before = network.whiten.weight.clone()
    network.prepare(torch.randn(8, 3, 32, 32))
    assert torch.equal(network.whiten.weight, before)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert network.whiten.weight.grad is not None


def test_the_default_start_passes_nothing_on() -> None:
    for network in (variants.DefaultStart(), variants.Bare()):
        x = torch.randn(1, 24, 6, 6)
        assert (network.features[1](x)[:, :24] - x).abs().max() > 0.1


def test_none_of_the_eight_takes_back_what_the_eight_take_back() -> None:
    names = list(variants.VARIANTS)
    eight = names[1 : names.index("none of the eight")]
    assert len(eight) == 8
    together = {k: v for name in eight for k, v in variants.VARIANTS[name][0].items()}
    assert variants.VARIANTS["none of the eight"][0] == together


def test_every_variant_takes_out_something_and_the_recipe_nothing() -> None:
    recipe, *others = variants.VARIANTS.values()
    assert recipe == ({}, models.FastNet)
    base = asdict(variants.RECIPE)
    for changes, network in others:
        assert all(base[name] != value for name, value in changes.items())
        assert changes or network is not models.FastNet


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = offline.generate(90, seed=3)
    parts = (images[:60], labels[:60], images[60:], labels[60:])
    found = data._dataset("cifar10", offline.CLASSES, *parts, source="a few")
    monkeypatch.setattr(variants, "load", lambda name: found)
    monkeypatch.setattr("ngs.train.loop.load", lambda name, download=True: found)
    short = {
        "epochs": 1,
        "low_share": 0.0,
        "low_side": 0,
        "batch_size": 20,
        "precision": "float32",
        "device": "cpu",
    }
    shorter = variants.replace(variants.RECIPE, **short, validation=20, views="none")
    monkeypatch.setattr(variants, "RECIPE", shorter)
    preset = {**variants.PRESETS["fast"], **short, "views": "none"}
    monkeypatch.setitem(variants.PRESETS, "fast", preset)
    monkeypatch.setitem(models.MODELS, "fast", models.MODELS["fast"])


def test_what_is_recorded_is_not_run_again(few: None, tmp_path: Path, capsys: Any) -> None:
    out, some = tmp_path / "variants.jsonl", ["the recipe", "no label smoothing"]
    chosen = {name: variants.VARIANTS[name] for name in some}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "VARIANTS", chosen)
        for seeds in ("0", "0,1"):
            done = CliRunner().invoke(
                variants.main, ["accuracy", "--seeds", seeds, "--out", str(out)]
            )
            assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["variant"], r["config"]["seed"]) for r in records] == [
        ("the recipe", 0), ("no label smoothing", 0), ("the recipe", 1), ("no label smoothing", 1),
    ]  # fmt: skip
    assert [r["config"]["label_smoothing"] for r in records] == [0.2, 0.0, 0.2, 0.0]


def test_the_published_recipe_has_torchs_optimizer_and_plain_layers(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    plain = variants.PlainLayers
    monkeypatch.setattr(variants, "PlainLayers", lambda: built.append(plain()) or built[-1])
    out = tmp_path / "published.jsonl"
    monkeypatch.setitem(variants.PRESETS["fast"], "train_images", 20)
    done = CliRunner().invoke(variants.main, ["published", "--out", str(out)])
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    config = record["config"]
    assert (record["variant"], config["optimizer"]) == ("published", "sgd-nesterov")
    assert (config["epochs"], config["low_share"], config["low_side"]) == (10, 0.0, 0)
    assert [type(network) for network in built] == [plain]


def test_the_levers_compute_the_same_network_step_by_step() -> None:
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    ours = models.FastNet().double()
    for network in (variants.PlainLayers(), variants.Trimmed(), variants.Frozen()):
        network = network.double()
        network.load_state_dict(ours.state_dict())
        torch.testing.assert_close(network(images), ours(images), rtol=1e-10, atol=1e-12)


def test_the_levers_are_timed_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {name: lever for name, lever in variants.LEVERS.items() if "compiled" not in name}
    monkeypatch.setattr(variants, "LEVERS", quick)
    out = tmp_path / "levers.jsonl"
    typed = ["levers", "--rounds", "2", "--batch-size", "4", "--out", str(out)]
    done = CliRunner().invoke(variants.main, typed)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    assert [row["name"] for row in record["rows"]] == list(quick)
    assert record["rows"][0]["ratio"] == 1.0
    assert all(row["median_ms"] > 0.0 for row in record["rows"])


def test_a_variant_that_diverges_is_recorded_and_the_study_goes_on(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(config: Any, **more: Any) -> Any:
        raise variants.DivergenceError("the loss became nan")

    monkeypatch.setattr(variants, "train", lost)
    out = tmp_path / "variants.jsonl"
    for _ in range(2):
        done = CliRunner().invoke(variants.main, ["accuracy", "--seeds", "0", "--out", str(out)])
        assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["variant"] for r in records] == list(variants.VARIANTS)
    assert all(r["failed"] == "the loss became nan" for r in records)
