"""What a run's epochs say, for TensorBoard. The extra ``tensorboard`` brings it."""

from pathlib import Path
from types import TracebackType
from typing import Any

from ngs.records import Record


def scalars(row: Record) -> dict[str, float]:
    """Return the numbers of an epoch's row under the names that TensorBoard groups by."""
    found = {
        "loss/train": row["train_loss"],
        "accuracy/train": row["train_accuracy"],
        "learning rate/given": row["lr"],
        "seconds": row["seconds"],
    }
    if "learned_lr" in row:
        found["learning rate/learned"] = row["learned_lr"]
    if "refused" in row:
        found["refused steps"] = row["refused"]
    for name, value in row.get("validation", {}).items():
        found[f"{name}/validation"] = value
    return found


class Board:
    """Write the rows of a run into a folder that ``tensorboard --logdir`` shows.

    Args:
        folder: where; what an earlier part of the same run wrote stays.

    Raises:
        ImportError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "--tensorboard needs tensorboard: pip install 'ngs[tensorboard]'"
            ) from error
        self.writer: Any = SummaryWriter(str(folder))

    def __enter__(self) -> "Board":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    def __call__(self, row: Record) -> None:
        """Write one epoch."""
        for name, value in scalars(row).items():
            self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()
