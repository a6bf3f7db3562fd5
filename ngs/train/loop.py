"""The training loop: one run from a configuration to a record, saved on the way.

It rests on the run, the checkpoints and the records beside it.
"""

import os
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ngs.errors import InputError
from ngs.records import Record
from ngs.train import models
from ngs.train.checkpoint import (
    fingerprint,
    packed,
    part_of,
    read_checkpoint,
    write_checkpoint,
    write_whole,
)
from ngs.train.config import OWN_SIDE, TrainConfig
from ngs.train.data import Dataset, load
from ngs.train.memory import keep_freed_memory
from ngs.train.optimizers import check_installed, state_copies, stay_at_evaluation_point
from ngs.train.policy import Event, StoppedByGuardError
from ngs.train.processes import Processes
from ngs.train.records import bfloat16_units, provenance
from ngs.train.run import Clock, DivergenceError, Run, initial_network


def train(
    config: TrainConfig,
    *,
    download: bool = True,
    data: Dataset | None = None,
    say: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    checkpoint: Path | None = None,
    save_every: float = 60.0,
    stop: Callable[[], bool] | None = None,
    watch: Callable[[Record], None] | None = None,
    processes: Processes | None = None,
) -> tuple[nn.Module, Record]:
    """Train a network and measure it once on the test set.

    With a ``checkpoint`` the run goes on from that file where there is one. On a CPU it then ends
    with the very weights of a run that was never stopped. The file stays when the run is done:
    whoever keeps the result deletes it.

    Args:
        config: what to do.
        download: whether CIFAR-10 may be fetched.
        data: the data set that ``config`` names, if the caller has loaded it already.
        say: is handed a line of news for people after every epoch, and a few before the first;
            a progress bar shows on a terminal's standard error as well.
        warn: is handed what went wrong and does not end the run; ``say`` by default.
        checkpoint: file that the run is saved in, see :mod:`ngs.train.checkpoint`; ``None`` for
            none.
        save_every: seconds from one save to the next.
        stop: is asked after every step; when it says yes, the run is saved and stops.
        watch: is handed the row of the record after every epoch.
        processes: those that train the network together, see :func:`ngs.train.processes.join`; each
            calls this function with the same settings. The first of them reads and writes the
            checkpoint, which one process can go on from as well as several.

    Returns:
        The trained network and the record of the run (see :mod:`ngs.train.records`): configuration,
        provenance, every epoch, the test accuracy with the confusion matrix (rows: true class), and
        wall time by part.

    Raises:
        InputError: the data cannot be had, or do not fit the configuration; or the checkpoint
            cannot be used.
        Stopped: ``stop`` said so.
        DivergenceError: a loss, in training or on held-out images, became infinite or NaN.
        StoppedByGuardError: the guard that ``config`` asks for has ended the run.
        ImportError: the optimizer belongs to a package that is not installed.
    """
    check_installed(config.optimizer)
    say = say or (lambda line: None)
    processes = processes or Processes()
    run = set_up(config, download=download, data=data, processes=processes)
    data, model, device, dtype = run.data, run.model, run.device, run.dtype
    holders = processes.count if processes.sharded else 1
    memory = run.cost.memory(run.images_at_once, state_copies(config), holders)
    record: Record = {
        "kind": "train",
        "config": asdict(config),
        **provenance(device),
        "precision": str(dtype).removeprefix("torch."),
        "parameters": run.parameters,
        "multiply_adds": run.cost.multiply_adds,
        "memory": memory,
        "images": {k: len(getattr(data, k)) for k in ("train", "validation", "test")},
    }
    saver = Saver(run, checkpoint, save_every, stop or (lambda: False), say, warn or say)
    say(f"data: {data.name}, {data.source}")
    frozen = f", {run.cost.parameters:,} of them trained at first" if config.train_last else ""
    say(f"model: {config.model}, {record['parameters']:,} parameters{frozen}")
    say(_needs(run.cost, memory))
    say(f"device: {record['device']}, {record['threads']} threads, {record['precision']}")
    if processes.together:
        record["processes"] = {
            "count": processes.count,
            "engine": processes.engine,
            "backend": processes.backend,
        }
        say(f"processes: {processes.count}, {processes.engine}, {processes.backend}")
    if run.guard is not None:
        run.guard.tell = lambda event: _tell(event, warn or say)
    saver.load(data)
    steps = {"total": run.total_steps, "initial": run.step}
    quiet = None if processes.main else True  # None shows it on a terminal alone
    with (
        tqdm(**steps, unit="step", disable=quiet, leave=False) as bar,
        warnings.catch_warnings(),
    ):
        # One warning a step would bury everything else; the row of the epoch counts them.
        warnings.filterwarnings("ignore", "NGS refused a step", RuntimeWarning)
        try:
            while len(run.rows) < config.epochs and not run.reached():
                row = run.epoch(bar, saver.after_step)
                if watch is not None:
                    watch(row)
                with tqdm.external_write_mode():
                    say(_line(row, config.epochs))
            test = run.finish()
        except (DivergenceError, StoppedByGuardError) as error:
            error.record = {**record, **_past(run, saver), "failed": str(error)}
            if isinstance(error, StoppedByGuardError) and run.guard is not None:
                run.guard.recovery.put_back()
                stay_at_evaluation_point(run.optimizer)
                error.network = model
            raise
    return run.whole_network(), {**record, **_past(run, saver), "test": test}


def _tell(event: Event, warn: Callable[[str], None]) -> None:
    with tqdm.external_write_mode():
        warn(event.line())


def _past(run: Run, saver: "Saver") -> Record:
    """Return what the record tells of the run so far."""
    wall, cpu = saver.spent()
    return {
        "run": saver.run_id,
        "parts": saver.parts,
        "epochs": run.rows,
        **({} if run.guard is None else {"guard": [asdict(e) for e in run.guard.events]}),
        "seconds": {k: round(v, 2) for k, v in run.clock.seconds.items()},
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
    }


def set_up(
    config: TrainConfig,
    *,
    download: bool = True,
    data: Dataset | None = None,
    processes: Processes | None = None,
) -> Run:
    """Return a run before its first step; see :func:`train` for the arguments.

    Raises:
        InputError: the device is not there, or the data cannot be had or do not fit.
    """
    clock = Clock()
    device = pick_device(config.device)
    dtype = pick_dtype(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    processes = processes or Processes()
    with clock.part("load"):
        with processes.main_first():
            data = data or load(config.dataset, download=download)
        data = prepared(config, data)
    if config.batch_size > len(data.train):
        raise InputError(
            f"batch-size must be at most the {len(data.train):,} training images of {data.name}, "
            f"got {config.batch_size}"
        )
    with processes.main_first():
        model = initial_network(config, data, device, download=download)
    return Run(config, data, model, device, dtype, clock, processes)


def prepared(config: TrainConfig, data: Dataset) -> Dataset:
    """Return what a run learns from and is tested on, of a whole data set.

    Raises:
        InputError: there are not as many images, or no such classes.
    """
    data = data.only(config.chosen_classes()).hold_out(config.validation)
    return data.reduced(config.train_images, min(config.side, OWN_SIDE))


class Saver:
    """Save a run from time to time, and go on from what was saved.

    Args:
        run: what to save.
        path: where; ``None`` for nowhere.
        every: seconds from one save to the next.
        stop: says whether the run is to stop.
        say: is handed a line of news for people.
        warn: is handed a line where a checkpoint cannot be written.

    Attributes:
        run_id: names the run; it stays when the run goes on.
        parts: into how many processes the run was cut.
        wall: seconds that the parts before this one took, as far as they are saved.
        cpu: seconds of processor time, likewise.
    """

    def __init__(
        self,
        run: "Run",
        path: Path | None,
        every: float,
        stop: Callable[[], bool],
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.run, self.path, self.every, self.stop = run, path, every, stop
        self.say, self.warn = say, warn
        self.run_id, self.parts, self.wall, self.cpu = uuid.uuid4().hex, 1, 0.0, 0.0
        self.saved = self.begin = time.perf_counter()
        self.cpu_begin = time.process_time()
        self.data = ""

    def load(self, data: Dataset) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            InputError: it is damaged, or of other settings or data.
        """
        if self.path is None:
            return
        together = self.run.processes
        if together.main:
            part_of(self.path).unlink(missing_ok=True)  # of a process killed while it wrote
        self.data = fingerprint(data)
        (there,) = together.any(self.path.is_file())
        if not there:
            return
        if not self.path.is_file():
            raise InputError(
                f"another process found the checkpoint {self.path}, this one has no such file: "
                "give an --out that all machines share"
            )
        content = read_checkpoint(self.path, self.run.config)
        if content["data"] != self.data:
            raise InputError(
                f"checkpoint {self.path} was made with other data: delete it to start anew, or "
                "give another --out"
            )
        precision = str(self.run.dtype).removeprefix("torch.")
        if content["precision"] != precision:
            raise InputError(
                f"checkpoint {self.path} was made in {content['precision']}, and this machine "
                f"would go on in {precision}: go on where it was made, or delete it to start anew"
            )
        self.run.load_state(content["state"])
        self.run_id, self.parts = content["run"], content["parts"] + 1
        self.wall, self.cpu = content["wall"], content["cpu"]
        self.say(
            f"going on from {self.path} after step {self.run.step:,} of {self.run.total_steps:,}"
        )

    def spent(self) -> tuple[float, float]:
        """Return the seconds of the run so far, and those of processor time, of all its parts."""
        wall, cpu = time.perf_counter() - self.begin, time.process_time() - self.cpu_begin
        return self.wall + wall, self.cpu + cpu

    def after_step(self) -> None:
        """Save where it is time, and stop where that is wanted.

        Raises:
            Stopped: the run was asked to stop.
        """
        due = time.perf_counter() - self.saved > self.every
        asked, due = self.run.processes.any(self.stop(), due)
        if self.path is not None and (asked or due):
            self.save(self.path)
        if asked:
            raise Stopped

    def save(self, path: Path) -> None:
        """Write the checkpoint; where that fails, say so and let the run go on."""
        wall, cpu = self.spent()
        content = {
            "data": self.data,
            "precision": str(self.run.dtype).removeprefix("torch."),
            "run": self.run_id,
            "parts": self.parts,
            "wall": wall,
            "cpu": cpu,
            "state": self.run.state(),  # all processes together
        }
        try:
            if self.run.processes.main:
                write_checkpoint(path, self.run.config, content)
        except OSError as error:
            self.warn(f"the checkpoint cannot be written: {error}; the run goes on without")
        self.saved = time.perf_counter()


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """The run was asked to stop, and has; its checkpoint, if it keeps one, has all of it."""


def pick_device(name: str) -> torch.device:
    """Return the device that ``name`` stands for.

    Raises:
        InputError: that device is not on this machine.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        there = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise InputError(f"device {name} is not available here; available: auto, {there}")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the arithmetic of the network that ``name`` stands for on ``device``."""
    if name == "float64" and device.type == "mps":
        raise InputError("precision float64 is not available on mps: take float32, or device cpu")
    if name == "auto":
        name = "bfloat16" if _fast_in_bfloat16(device) else "float32"
    found: torch.dtype = getattr(torch, name)
    return found


def _fast_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 by itself, and not by imitation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(bfloat16_units())


def save_weights(model: nn.Module, path: os.PathLike[str]) -> None:
    """Write the network's ``state_dict`` so that ``path`` is either whole or not there.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(Path(path), packed(model.state_dict()))


def _needs(cost: models.Cost, memory: dict[str, int]) -> str:
    parts = ", ".join(f"{_millions(size)} of {name}" for name, size in memory.items())
    return (
        f"cost: {_millions(cost.multiply_adds)} million multiply-adds forward for an image, "
        f"{_millions(sum(memory.values()))} MB for a step ({parts})"
    )


def _millions(number: int) -> str:
    return f"{number / 1e6:,.0f}" if number >= 1e7 else f"{number / 1e6:.2g}"


def _line(row: Record, epochs: int) -> str:
    line = (
        f"epoch {row['epoch']:>2}/{epochs}  loss {row['train_loss']:.4f}  "
        f"train accuracy {row['train_accuracy']:.2%}"
    )
    if "refused" in row:
        line += f"  {row['refused']} steps refused (gradient not finite)"
    if "left_out" in row:
        line += f"  {row['left_out']:,} images left out"
    if "validation" in row:
        line += f"  validation accuracy {row['validation']['accuracy']:.2%}"
    return f"{line}  {row['seconds']:.0f} s"
