"""The figure of a comparison: accuracy against epochs and against seconds, a line per optimizer.

It rests on matplotlib through :mod:`ngs.figures`, and on the comparison beside it.
"""

import io
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ngs.figures import use_style
from ngs.records import Record
from ngs.train.checkpoint import write_whole
from ngs.train.compare import Tuned, chosen_by, tuned

DASHES = ("-", "--", ":", "-.")
"""How lines are drawn, one after the other, once the colours of the house style are used up."""


@dataclass(frozen=True)
class Curve:
    """The accuracy of one optimizer at one learning rate after every epoch.

    Attributes:
        label: the optimizer, its learning rate, and how many of its runs diverged.
        seconds: of training up to the end of each epoch, the mean over the seeds; measuring on the
            images held out counts.
        mean: accuracy in %, over the seeds that did not diverge.
        low: the lowest among them.
        high: the highest.
    """

    label: str
    seconds: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def curve(best: Tuned, by: str) -> Curve:
    """Return the curve of an optimizer; without a single point where all its runs diverged.

    Args:
        best: the optimizer at its best learning rate.
        by: ``"validation"`` or ``"training"``, the accuracy that is shown.
    """
    runs = [record["epochs"] for record in best.runs.values() if "failed" not in record]
    failed = len(best.runs) - len(runs)
    label = f"{best.optimizer}, lr {best.lr:g}"
    if failed:
        label += f" ({failed} of {len(best.runs)} diverged)"
    epochs = list(zip(*runs, strict=False))  # a run that reached its target has fewer
    values = [[100.0 * _accuracy(row, by) for row in rows] for rows in epochs]
    spent = [statistics.fmean(row["seconds"] for row in rows) for rows in epochs]
    return Curve(
        label=label,
        seconds=list(itertools.accumulate(spent)),
        mean=[statistics.fmean(v) for v in values],
        low=[min(v) for v in values],
        high=[max(v) for v in values],
    )


def draw(records: Iterable[Record], optimizers: Sequence[str]) -> Figure:
    """Return two panels: accuracy against epochs, and against seconds of training.

    Each optimizer has the learning rate that is best by the accuracy shown: that on the images held
    out, or on the training images where none were. A band spans the seeds.

    Args:
        records: of the runs.
        optimizers: their optimizers, in the order of the legend.
    """
    records = list(records)
    by = chosen_by(records)
    curves = [curve(best, by) for best in tuned(records, optimizers)]
    with mpl.rc_context():
        use_style()
        colors = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
        figure = Figure(figsize=(9.0, 3.6 + 0.12 * len(curves)))  # the legend grows downwards
        left, right = figure.subplots(1, 2, sharey=True)
        for number, one in enumerate(curves):
            color = colors[number % len(colors)]
            dashes = DASHES[number // len(colors) % len(DASHES)]
            _line(left, range(1, len(one.mean) + 1), one, color, dashes)
            _line(right, one.seconds, one, color, dashes)
        left.set_xlabel("epochs")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set_ylabel(f"{by} accuracy (%)")
        right.set_xlabel("seconds of training")
        right.set_xlim(left=0.0)
        # Below both panels: inside one, the legend would lie over the lines.
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all, in the format that the name ends in.

    Raises:
        OSError: it cannot be written.
    """
    file = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".")
    with mpl.rc_context({"savefig.facecolor": "white", "svg.hashsalt": "ngs"}):
        # No date inside, so that the same records give the same file.
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    write_whole(path, file.getvalue())


def _line(panel: Axes, x: Sequence[float], one: Curve, color: str, dashes: str) -> None:
    panel.plot(x, one.mean, label=one.label, marker=".", color=color, linestyle=dashes)
    panel.fill_between(x, one.low, one.high, color=color, alpha=0.15, linewidth=0.0)


def _accuracy(row: Record, by: str) -> float:
    return float(row["validation"]["accuracy"] if by == "validation" else row["train_accuracy"])
