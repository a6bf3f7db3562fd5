"""A run as one figure: its epochs, what it confuses, and its worst mistakes as pictures.

It rests on matplotlib through :mod:`ngs.figures`, and on the records and the data beside it.
"""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from ngs.figures import COLORS, use_style
from ngs.records import Record
from ngs.train.data import Dataset

COLUMNS = 10
"""Pictures in a row."""


def draw(record: Record, data: Dataset) -> Figure:
    """Return the figure of a run.

    Left, the accuracy of every epoch; right, the confusion matrix of the test images (rows:
    true class), coloured by mistakes alone; below, the wrong answers that cost the most.

    Args:
        record: of the run, see :func:`ngs.train.loop.train`.
        data: the test images that it was measured on, at the size that the network saw.
    """
    with mpl.rc_context():
        use_style()
        rows = -(-len(record["test"]["worst"]) // COLUMNS)
        figure = Figure(figsize=(10.0, 4.6 + 1.35 * rows))
        grid = figure.add_gridspec(2, 1, height_ratios=(4.6, max(1.35 * rows, 0.01)))
        above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        left, right = above.subplots(1, 2, width_ratios=(1.0, 1.15))
        curves(left, record)
        confusion(right, record, data.classes)
        figure.suptitle(_title(record), fontsize=11)
        if rows:
            mistakes(below, record, data)
    return figure


def curves(panel: Axes, record: Record) -> None:
    """Draw the accuracy of every epoch, and that on the test images at the end."""
    epochs = [row["epoch"] for row in record["epochs"]]
    training = [100.0 * row["train_accuracy"] for row in record["epochs"]]
    panel.plot(epochs, training, "o-", markersize=4, color=COLORS["train"], label="training")
    if "validation" in record["epochs"][-1]:
        held = [100.0 * row["validation"]["accuracy"] for row in record["epochs"]]
        panel.plot(epochs, held, "s--", markersize=4, color=COLORS["nesterov"], label="validation")
    last = 100.0 * record["test"]["accuracy"]
    label = f"test, {last:.2f} %"
    panel.plot(epochs[-1], last, "*", markersize=13, color=COLORS["test"], label=label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set(xlabel="epoch", ylabel="accuracy (%)")
    panel.legend(loc="lower right")


def confusion(panel: Axes, record: Record, classes: tuple[str, ...]) -> None:
    """Draw the confusion matrix; the colour shows the mistakes, the diagonal the right answers."""
    counts = np.array(record["test"]["confusion"])
    wrong = counts - np.diag(np.diag(counts))
    panel.imshow(wrong, cmap="Oranges")
    for i, j in np.ndindex(counts.shape):
        color = "white" if wrong[i, j] > 0.6 * max(1, wrong.max()) else "black"
        panel.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7, color=color)
    panel.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    panel.set_yticks(range(len(classes)), classes, fontsize=8)
    panel.set(xlabel="answer", ylabel="true class")
    panel.grid(visible=False)


def mistakes(figure: FigureBase, record: Record, data: Dataset) -> None:
    """Draw the wrong answers of largest loss, the worst first, with the answer and its certainty.

    Raises:
        ValueError: the data are not those of the record.
    """
    worst = record["test"]["worst"]
    labels = data.test.labels.tolist()
    if any(row["image"] >= len(labels) or labels[row["image"]] != row["class"] for row in worst):
        raise ValueError("these are not the test images that the record was measured on")
    rows = -(-len(worst) // COLUMNS)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for panel in panels:
        panel.axis("off")
    for panel, row in zip(panels, worst, strict=False):
        panel.imshow(data.test.images[row["image"]].permute(1, 2, 0).cpu().numpy())
        said = f"{data.classes[row['answer']]} {row['probability']:.0%}"
        panel.set_title(f"{data.classes[row['class']]}\n→ {said}", fontsize=7)


def _title(record: Record) -> str:
    config = record["config"]
    return (
        f"{config['dataset']}, {config['model']}, {config['optimizer']}, lr {config['lr']:g}, "
        f"seed {config['seed']}: the worst mistakes are below, true class → answer"
    )
