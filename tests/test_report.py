"""Claims about the figure of a run: what it shows, whose data it takes, how it is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from ngs import cli
from ngs.train import curves, data, offline, report


@pytest.fixture
def few() -> data.Dataset:
    images, labels = offline.generate(60, seed=3)
    parts = (images[:20], labels[:20], images[20:], labels[20:])
    return data._dataset("offline", offline.CLASSES, *parts, source="a few")


def record_of(few: data.Dataset, mistakes: int = 12, **changes: Any) -> dict[str, Any]:
    labels = few.test.labels.tolist()
    counts = np.eye(10, dtype=int) * 7
    counts[2, 5] = 3
    worst = [
        {"image": i, "class": labels[i], "answer": (labels[i] + 1) % 10, "probability": 0.5}
        for i in range(mistakes)
    ]
    return {
        "config": {
            "dataset": "offline",
            "model": "small",
            "optimizer": "ngs",
            "lr": 0.1,
            "seed": 4,
        },
        "epochs": [
            {"epoch": 1, "train_accuracy": 0.2, "validation": {"accuracy": 0.3}},
            {"epoch": 2, "train_accuracy": 0.4, "validation": {"accuracy": 0.5}},
        ],
        "test": {"accuracy": 0.6125, "confusion": counts.tolist(), "worst": worst},
        **changes,
    }


def panels(figure: Figure) -> tuple[Any, Any, list[Any]]:
    above, below = figure.subfigs
    left, right = above.axes
    return left, right, [panel for panel in below.axes if panel.images]


def test_it_shows_the_epochs_the_confusion_and_the_pictures_of_the_record(
    few: data.Dataset,
) -> None:
    left, right, pictures = panels(report.draw(record_of(few), few))
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.lines}
    assert drawn == {
        "training": pytest.approx([20.0, 40.0]),
        "validation": pytest.approx([30.0, 50.0]),
        "test, 61.25 %": pytest.approx([61.25]),
    }
    numbers = [int(text.get_text()) for text in right.texts]
    assert numbers == np.array(record_of(few)["test"]["confusion"]).flatten().tolist()
    shown = np.asarray(right.images[0].get_array())
    assert shown[2, 5] == shown.max() == 3  # of the mistakes, not of the right answers
    assert [label.get_text() for label in right.get_yticklabels()] == list(few.classes)
    assert len(pictures) == 12
    for number, panel in enumerate(pictures):
        pixels = few.test.images[number].permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(panel.images[0].get_array()), pixels)
        name = few.classes[int(few.test.labels[number])]
        other = few.classes[(int(few.test.labels[number]) + 1) % 10]
        assert panel.get_title() == f"{name}\n→ {other} 50%"


def test_a_run_without_mistakes_or_validation_has_a_figure_too(few: data.Dataset) -> None:
    record = record_of(few, mistakes=0, epochs=[{"epoch": 1, "train_accuracy": 1.0}])
    left, _, pictures = panels(report.draw(record, few))
    assert [line.get_label() for line in left.lines] == ["training", "test, 61.25 %"]
    assert pictures == []


def test_data_that_the_record_was_not_measured_on_are_refused(few: data.Dataset) -> None:
    record = record_of(few)
    record["test"]["worst"][3]["class"] = (record["test"]["worst"][3]["class"] + 1) % 10
    with pytest.raises(ValueError, match="not the test images"):
        report.draw(record, few)
    record = record_of(few)
    record["test"]["worst"][0]["image"] = 40
    with pytest.raises(ValueError, match="not the test images"):
        report.draw(record, few)


TYPED = ["train", "--model", "small", "--side", "8", "--epochs", "1", "--train-images", "60"]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([*TYPED, "--batch-size", "30", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def quick(few: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = offline.generate(120, seed=3)
    split = (parts[0][:80], parts[1][:80], parts[0][80:], parts[1][80:])
    monkeypatch.setattr(offline, "train_and_test", lambda: split)


def test_the_command_draws_it_beside_the_weights(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--report", "--out", str(tmp_path)) == 0
    weights, drawn = tmp_path.glob("*.pt"), tmp_path.glob("*.png")
    assert [p.name for p in drawn] == [f"{p.stem}-report.png" for p in weights]
    assert capsys.readouterr().out.splitlines()[-1].startswith("report: ")
    assert call("--seed", "1", "--out", str(tmp_path)) == 0
    assert len(list(tmp_path.glob("*.pt"))) == 2
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_where_it_cannot_be_written_the_run_is_kept_and_one_line_says_so(
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(figure: Figure, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(curves, "save", full)
    assert call("--report", "--out", str(tmp_path)) == 1
    assert "the run is kept, but its report cannot be written" in capsys.readouterr().err
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 1
    assert len(list(tmp_path.glob("*.pt"))) == 1
