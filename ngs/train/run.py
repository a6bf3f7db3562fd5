"""One run from within: network, optimizer, data order, one epoch after the other, and its state.

It rests on the data, models, augmentation and optimizers beside it.
"""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from ngs.errors import InputError
from ngs.optim.torch import NGS
from ngs.records import Record
from ngs.train import models
from ngs.train.augment import alternate, batches, normalize, order_of, scaled
from ngs.train.average import WeightAverage
from ngs.train.checkpoint import Content
from ngs.train.config import TrainConfig
from ngs.train.data import Dataset, Split
from ngs.train.guard import Guard
from ngs.train.optimizers import (
    build_optimizer,
    evaluation_point,
    full_batch,
    learned_rate,
    learning_rates,
    momenta,
    stay_at_evaluation_point,
)
from ngs.train.policy import POLICIES
from ngs.train.pretrained import load_initial
from ngs.train.processes import Processes
from ngs.train.views import score_views

EVALUATION_BATCH = 500
ALTERNATE = 0x9E3779B9
"""Turns a seed into that of the first epoch's flips where flips alternate."""
WORST = 20
"""How many of its worst mistakes on the test images a record holds."""
SHOW_EVERY = 0.5
"""Seconds between two looks at the loss for the progress bar; on a GPU each look waits for it."""


class DivergenceError(RuntimeError):
    """A loss became infinite or NaN; the message says where and what to lower.

    Attributes:
        record: what :func:`ngs.train.loop.train` would have returned of the run; empty elsewhere.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.record: Record = {}


@dataclass
class Clock:
    """Wall time by part, in seconds."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside the block towards ``name``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin


def initial_network(
    config: TrainConfig, data: Dataset, device: torch.device, *, download: bool = True
) -> nn.Module:
    """Return the network of a run as it is before the first step, on its device.

    Raises:
        InputError: it cannot be built, or the weights that it is to begin with cannot be had.
    """
    torch.manual_seed(config.seed)
    model = models.build(
        config.model,
        batch_norm=config.batch_norm,
        classes=len(data.classes),
        side=config.side,
    )
    if isinstance(model, models.FastNet):
        first = data.train.images[: models.FastNet.SAMPLE]
        model.prepare(normalize(first, data.mean, data.std))
    if config.init:
        options = {"new_head": config.new_head, "download": download}
        load_initial(model, config.model, config.init, **options)
    if config.precision == "float64":
        model = model.double()
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Run:
    """The moving parts of one run: network, optimizer, schedule, data order, and how far it is.

    Args:
        config: what to do.
        data: is moved to ``device``.
        model: lies on ``device`` already.
        device: where it trains.
        dtype: of the arithmetic inside the network.
        clock: collects the wall time by part.
        processes: those that train it together; none but this one by default.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        clock: Clock,
        processes: Processes | None = None,
    ) -> None:
        self.config, self.model, self.device, self.dtype = config, model, device, dtype
        self.clock, self.processes = clock, processes or Processes()
        self.processes.check(config)
        self.trained = {p for p in model.parameters() if p.requires_grad}
        self.parameters = models.parameter_count(model)
        self.train_mode(1)
        self.cost = models.cost(model, config.side, dtype)
        self.processes.shard(model)
        self.network = torch.compile(model) if config.compile else self.processes.wrap(model)
        self.data = replace(
            data,
            train=_to(data.train, device),
            validation=_to(data.validation, device),
            test=_to(data.test, device),
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        other = torch.Generator().manual_seed(config.seed ^ ALTERNATE)
        self.first_mirrored = torch.rand(len(data.train), generator=other) < 0.5
        self.batch_size, self.parts = config.batch_size, config.accumulate
        if full_batch(config):
            self.batch_size = len(data.train)
            self.parts *= math.ceil(len(data.train) / config.batch_size)
        self.images_at_once = math.ceil(self.batch_size / self.parts / self.processes.count)
        self.steps_per_epoch = math.ceil(len(data.train) / self.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.optimizer = build_optimizer(config, model, self.total_steps)
        self.lr = learning_rates(config, self.total_steps)
        self.momentum = momenta(config, self.total_steps)
        # The schedule is that of the last group; the others keep their ratio to it.
        groups = self.optimizer.param_groups
        self.ratios = [group["lr"] / groups[-1]["lr"] for group in groups]
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        self.average: WeightAverage | None = None
        if config.average > 0.0:
            self.average = WeightAverage(config, model, self.total_steps)
        self.guard: Guard | None = None
        if config.guard != "off":
            parts = [] if self.average is None else [self.average]
            self.guard = Guard(model, self.optimizer, POLICIES[config.guard], parts=parts)
        self.taken = True  # what the guard did with the last step
        self.compiled_for: set[object] = set()
        self.step = 0
        self.refused = 0
        self.rows: list[Record] = []
        self.processes.vary(config.seed, 0)
        self._begin_epoch()

    def train_mode(self, number: int) -> bool:
        """Set the network to what it is in epoch ``number``, from 1, with its frozen layers.

        Returns:
            Whether a parameter began to train, or stopped.
        """
        self.model.train()
        config = self.config
        training = [p.requires_grad for p in self.model.parameters()]
        if config.train_last:
            more = (number - 1) // config.unfreeze_every if config.unfreeze_every else 0
            models.train_last(self.model, config.train_last + more, self.trained)
        if isinstance(self.model, models.FastNet) and 0 < config.whitening_epochs < number:
            self.model.freeze()
            self._drop_frozen()
        return training != [p.requires_grad for p in self.model.parameters()]

    def _begin_epoch(self) -> None:
        """Forget the sums of the epoch before, and keep the state from which the next is drawn."""
        self.drawn_from = self.generator.get_state()
        self.loss_sum = torch.zeros((), device=self.device)
        self.right = torch.zeros((), device=self.device, dtype=torch.int64)
        self.seen, self.seconds = 0, 0.0

    def state(self) -> Content:
        """Return all that decides how the run goes on."""
        return {
            "model": self.processes.whole(self.model.state_dict()),
            "average": {} if self.average is None else self.average.state_dict(),
            "optimizer": self.processes.whole(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "guard": {} if self.guard is None else self.guard.state_dict(),
            "drawn_from": self.drawn_from,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "step": self.step,
            "refused": self.refused,
            "rows": self.rows,
            **self._sums(),
            "seconds": self.seconds,
            "clock": dict(self.clock.seconds),
        }

    def _sums(self) -> Content:
        """Return the sums of the epoch so far, over all processes."""
        sums = torch.stack((self.loss_sum.double(), self.right.double()))
        sums = torch.cat((sums, sums.new_tensor([self.seen])))
        loss, right, seen = self.processes.total(sums)
        return {"loss_sum": loss.float(), "right": right.long(), "seen": int(seen)}

    def load_state(self, state: Content) -> None:
        """Go to where :meth:`state` was called."""
        own = self.model.state_dict()
        parts = self.processes.parts_like
        self.model.load_state_dict({k: parts(v, own[k]) for k, v in state["model"].items()})
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(self._parts_of(state["optimizer"]))
        self.scaler.load_state_dict(state["scaler"])
        if self.guard is not None:
            self.guard.load_state_dict(state["guard"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self.generator.set_state(state["drawn_from"])
        self.drawn_from = state["drawn_from"]
        self.step, self.refused, self.rows = state["step"], state["refused"], state["rows"]
        self.seconds = state["seconds"]
        if self.processes.main:  # the others begin at 0, and the sums are those of all
            self.loss_sum = state["loss_sum"].to(self.device)
            self.right = state["right"].to(self.device)
            self.seen = state["seen"]
        self.processes.vary(self.config.seed, self.step)
        self.clock.seconds.update(state["clock"])

    def _parts_of(self, state: Content) -> Content:
        """Return an optimizer's state with this process's parts of what it remembers."""
        if not self.processes.sharded:
            return state
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        parts = self.processes.parts_like
        entries = {
            number: {
                key: parts(value, params[number]) if isinstance(value, torch.Tensor) else value
                for key, value in entry.items()
            }
            for number, entry in state["state"].items()
        }
        return {**state, "state": entries}

    def pass_over(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the training batches of epoch ``number``, from 1, from batch ``start`` on."""
        alternating = self.config.flip == "alternating"
        source = batches(
            self.data.train,
            self.batch_size,
            self.data.mean,
            self.data.std,
            generator=self.generator,
            augment=self.config.augmentation(),
            mirrored=alternate(self.first_mirrored, number) if alternating else None,
            start=start,
            part=self.processes.part,
        )
        low = number <= int(self.config.low_share * self.config.epochs)
        return self.sized(source, self.config.low_side if low else self.config.side)

    def sized(
        self, source: Iterator[tuple[torch.Tensor, torch.Tensor]], side: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of ``source`` with images of ``side`` pixels."""
        for images, labels in source:
            yield (images if images.shape[-1] == side else scaled(images, side)), labels

    def endless(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of one pass after the other."""
        for epoch in itertools.count(1):
            yield from self.pass_over(epoch)

    def epoch(self, bar: "tqdm[None]", after_step: Callable[[], None] = lambda: None) -> Record:
        """Pass over the training images, or over what is left of a pass; return the record's row.

        Args:
            bar: is moved on at every step.
            after_step: is called after every step, when the state is whole.
        """
        number = len(self.rows) + 1
        done = self.step - len(self.rows) * self.steps_per_epoch  # all, if it stopped after those
        begin, shown = time.perf_counter() - self.seconds, -math.inf
        if self.train_mode(number) and not self.config.compile:
            self.network = self.processes.wrap(self.model)
        source = self.pass_over(number, start=done)
        last = self.loss_sum, self.right, self.seen
        while True:
            with self.clock.part("data"):
                batch = next(source, None)
            if batch is None:
                break
            with self.clock.part(self._part(batch[0])):
                loss, correct = self.train_step(*batch)
                last = loss * len(batch[1]), correct, len(batch[1])
                if self.taken:
                    self.loss_sum += last[0]
                    self.right += last[1]
                    self.seen += last[2]
            now = time.perf_counter()
            if not bar.disable and now - shown > SHOW_EVERY:
                shown = now
                seen = max(self.seen, 1)
                bar.set_postfix_str(
                    f"epoch {number}, loss {float(self.loss_sum) / seen:.3f}, accuracy "
                    f"{int(self.right) / seen:.1%}, {self.seen / (now - begin):.0f} images/s"
                )
            bar.update()
            self.seconds = now - begin
            after_step()
        sums = self._sums()
        left_out = len(self.data.train) - sums["seen"]
        # The guard took no step of it: tell of the last one. All processes must agree that it is
        # so: one that goes on after the last step of an epoch has nothing in its own sums.
        if not sums["seen"]:
            self.loss_sum, self.right, self.seen = last
            sums = self._sums()
        seen = max(sums["seen"], 1)
        mean_loss = float(sums["loss_sum"]) / seen
        self._check_finite(mean_loss, f"the training loss became {mean_loss} in epoch {number}")
        row: Record = {
            "epoch": number,
            "lr": self.optimizer.param_groups[-1]["lr"],
            **learned_rate(self.optimizer),
            "train_loss": round(mean_loss, 5),
            "train_accuracy": round(int(sums["right"]) / seen, 5),
        }
        if left_out:
            row["left_out"] = left_out
        refused = int(getattr(self.optimizer, "refused", 0))
        if refused > self.refused:
            row["refused"] = refused - self.refused
            self.refused = refused
        if len(self.data.validation):
            measured = self.evaluate(self.data.validation)
            row["validation"] = {k: measured[k] for k in ("loss", "accuracy")}
        row["seconds"] = round(time.perf_counter() - begin, 2)
        self.rows.append(row)
        self._begin_epoch()
        return row

    def _drop_frozen(self) -> None:
        """Forget what the optimizer knows of parameters that do not train any more.

        Or NGS would go on shifting them by their last velocity whenever the iterate is asked for.
        """
        for parameter in self.model.parameters():
            if not parameter.requires_grad:
                self.optimizer.state.pop(parameter, None)

    def _part(self, images: torch.Tensor) -> str:
        """Return what the time of a step counts as: torch compiles anew for what it has not met."""
        met = (images.shape, sum(p.requires_grad for p in self.model.parameters()))
        new = self.config.compile and met not in self.compiled_for
        self.compiled_for.add(met)
        return "compile" if new else "train"

    def reached(self) -> bool:
        """Return whether the last epoch reached the validation accuracy that was the target."""
        if not (self.rows and self.config.target > 0.0):
            return False
        accuracy: float = self.rows[-1]["validation"]["accuracy"]
        return accuracy >= self.config.target

    def train_step(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one optimizer step; return mean loss and number of right answers before it."""
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = ratio * self.lr(self.step)
            if self.momentum is not None and not callable(group.get("momentum", self.momentum)):
                group["momentum"] = self.momentum(self.step)  # as torch's OneCycleLR would
        self.step += 1
        self.optimizer.zero_grad()
        self.processes.same_buffers(self.model)
        total, right = torch.zeros((), device=self.device), torch.zeros_like(labels[0])
        share = self._share_of_step(len(images))
        if self.guard is not None and self.step == 1:
            self.guard.check_start(images.chunk(self.parts)[0])
        parts = zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True)
        answers = []
        for some, their_labels in parts:
            loss, scores = self.loss(some, their_labels)
            loss = loss * (len(some) / len(images))
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            right += (scores.argmax(1) == their_labels).sum()
            answers.append((scores, their_labels))
        if self.guard is None:
            self.optimize()
        else:
            self.taken = self.guard.step(total, lambda: self._numbers(answers), self.optimize)
            if not self.taken:
                self._drop_frozen()  # older states may know what has been frozen since
        return total, right

    def _share_of_step(self, count: int) -> float:
        """Return what this process's mean loss counts, so that the mean over all is the batch's."""
        if self.processes.count == 1:
            return 1.0
        whole, steps = len(self.data.train), self.steps_per_epoch
        size = whole // steps + ((self.step - 1) % steps < whole % steps)
        return count * self.processes.count / size

    def _numbers(self, answers: list[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
        """Return the numbers of the images of this step in the data set, the largest loss first."""
        generator = torch.Generator()
        generator.set_state(self.drawn_from)
        parts = order_of(len(self.data.train), self.batch_size, generator)
        picked = parts[(self.step - 1) % self.steps_per_epoch]
        losses = [functional.cross_entropy(s, c, reduction="none") for s, c in answers]
        worst = torch.cat(losses).nan_to_num(torch.inf).argsort(descending=True, stable=True)
        picked, numbers = picked[worst.cpu()], self.data.train.numbers
        return [int(n) for n in (picked if numbers is None else numbers[picked])]

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean loss that is trained on, and the scores without their graph."""
        scores = self.scores(images)
        loss = functional.cross_entropy(scores, labels, label_smoothing=self.config.label_smoothing)
        return loss, scores.detach()

    def optimize(self) -> None:
        """Clip, step and average with the gradients that are there."""
        if self.config.max_norm > 0.0 and not isinstance(self.optimizer, NGS):  # which clips itself
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.after_step(self.step, self.optimizer)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """Return the network's scores, computed in the run's precision, in float32 at least."""
        images = images.contiguous(memory_format=torch.channels_last)
        if self.dtype is torch.float64:
            images = images.double()
        low = self.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(self.device.type, self.dtype, enabled=low):
            try:
                scores: torch.Tensor = self.network(images)
            except RuntimeError as error:
                if self.config.compile:
                    _explain_if_compiler_failed(error)
                raise
        return scores if self.dtype is torch.float64 else scores.float()

    def whole_network(self) -> nn.Module:
        """Return the network with whole parameters, where every process holds parts of them."""
        if not self.processes.sharded:
            return self.model
        state = self.processes.whole(self.model.state_dict())
        config = self.config
        network = models.build(
            config.model,
            batch_norm=config.batch_norm,
            classes=len(self.data.classes),
            side=config.side,
        )
        network = network.to(self.device, next(self.model.parameters()).dtype)
        network.load_state_dict(state)
        return network

    def evaluate(self, split: Split) -> Record:
        """Return loss, accuracy and confusion matrix (rows: true class) on a split.

        The parameters are those that the optimizer's method means to return (for NGS the iterate),
        or their mean where one is kept.
        """
        average = nullcontext() if self.average is None else self.average.held()
        try:
            with self.clock.part("evaluate"), evaluation_point(self.optimizer), average:
                return self._measure(split)
        finally:
            self.processes.gather_anew(self.model)

    def finish(self) -> Record:
        """Leave the network at what its optimizer returns, and measure it on the test set."""
        if self.guard is not None:
            self.guard.close()
        with self.clock.part("evaluate"):
            stay_at_evaluation_point(self.optimizer)
            if self.average is not None:
                self.average.keep()
            return self._measure(self.data.test, self.config.views, WORST)

    @torch.no_grad()
    def _measure(self, split: Split, views: str = "none", worst: int = 0) -> Record:
        if self.config.optimizer == "schedule-free" and self.config.batch_norm:
            self._recalibrate()
        self.model.eval()
        together = self.processes
        together.same_buffers(self.model)
        rows = []
        order = order_of(len(split), EVALUATION_BATCH, None)
        source = batches(split, EVALUATION_BATCH, self.data.mean, self.data.std, part=together.part)
        for images, labels in self.sized(source, self.config.side):
            scores = self.scores(images)
            losses = functional.cross_entropy(scores, labels, reduction="none")
            sure, answers = scores.softmax(1).max(1)
            seen = answers  # the answers with views
            if views != "none":
                seen = score_views(self.scores, images, views).argmax(1)
            rows.append(torch.stack((losses, sure, answers, seen)))
        places = torch.cat([together.part(picked) for picked in order])
        losses, sure, *numbers = together.gathered(torch.cat(rows, 1), places, len(split)).cpu()
        answers, seen = (column.long() for column in numbers)
        # The last step's damage shows here first: its loss was taken before it.
        loss, done = float(losses.double().sum()), math.ceil(self.step / self.steps_per_epoch)
        self._check_finite(loss, f"the loss on held-out images is {loss} after epoch {done}")
        classes, labels = len(self.data.classes), split.labels.cpu()
        cells = torch.bincount(labels * classes + answers, minlength=classes * classes)
        matrix = cells.view(classes, classes)
        found: Record = {
            "loss": round(loss / len(split), 5),
            "accuracy": round(int(matrix.diagonal().sum()) / len(split), 5),
            "confusion": matrix.tolist(),
        }
        if views != "none":
            found["views_accuracy"] = round(int((seen == labels).sum()) / len(split), 5)
        if worst:
            found["worst"] = _worst(labels, losses, answers, sure, count=worst)
        return found

    def _recalibrate(self) -> None:
        """Let batch normalisation see 50 batches, as Schedule-Free's authors advise.

        Its averages were taken at the points where the gradients were, far from the average that
        is evaluated. They start anew, so that a short epoch leaves nothing of them either.
        """
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        kept = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches seen
        self.train_mode(max(len(self.rows), 1))
        source = batches(
            self.data.train,
            self.config.batch_size,
            self.data.mean,
            self.data.std,
            generator=torch.Generator().manual_seed(self.config.seed),
            augment=self.config.augmentation(),
        )
        for images, _ in itertools.islice(self.sized(source, self.config.side), 50):
            self.scores(images)
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum

    def _check_finite(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            raise DivergenceError(
                f"{what}: lower --lr (it was {self.config.lr:g}), or keep batch normalisation on"
            )


def _worst(
    labels: torch.Tensor,
    losses: torch.Tensor,
    answers: torch.Tensor,
    sure: torch.Tensor,
    count: int,
) -> list[Record]:
    """Return the wrong answers of largest loss, the worst first, and how sure the network was."""
    losses = losses.where(answers != labels, -torch.inf)
    order = losses.argsort(descending=True, stable=True)[
        : min(count, int((answers != labels).sum()))
    ]
    return [
        {
            "image": int(i),
            "class": int(labels[i]),
            "answer": int(answers[i]),
            "probability": round(float(sure[i]), 4),
        }
        for i in order
    ]


def _to(split: Split, device: torch.device) -> Split:
    images = split.images.contiguous(memory_format=torch.channels_last)  # quick to take parts of
    return Split(images.to(device), split.labels.to(device), split.numbers)


def _explain_if_compiler_failed(error: RuntimeError) -> None:
    """Raise one clear line where torch's compiler has failed; it reports a page of its output."""
    from torch._dynamo.exc import ShortenTraceback  # takes a second to load

    if isinstance(error, ShortenTraceback):  # no compiler, one that fails, a GPU that is too old
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for mark in (" error:", "rror:", "") for line in lines if mark in line]
        telling.append(type(error).__name__)
        raise InputError(
            f"compile: torch cannot compile here ({telling[0][:200]}): train with --no-compile"
        ) from error
