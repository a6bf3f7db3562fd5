"""The settings of a training run, checked before anything is loaded or written.

It rests on :mod:`ngs.train.data` and :mod:`ngs.train.models` for the names they know.
"""

import math
from dataclasses import dataclass
from typing import Any

from ngs.errors import InputError
from ngs.train.augment import Augmentation
from ngs.train.data import DATASETS
from ngs.train.models import FIXED_SIDE, LEAST_SIDE, check
from ngs.train.views import VIEWS

OPTIMIZERS = (
    "ngs",
    "ngs-rescaled",
    "ngs-factor",
    "ngs-factor-rescaled",
    "sgd",
    "sgd-nesterov",
    "sgd-plain",
    "gradient-descent",
    "adam",
    "nadam",
    "hypergradient",
    "prodigy",
    "schedule-free",
)
"""Optimizers that a run can name; ``ngs train --help`` says what each is."""
WITH_GROUPS = tuple(name for name in OPTIMIZERS if name.startswith(("ngs", "sgd")))
"""Optimizers that can have parameter groups of their own learning rate."""
WITH_RATES = (*WITH_GROUPS, "adam", "nadam")
"""Optimizers whose learning rate can be another one in every stage of the network."""
LEARNERS = ("ngs-factor", "ngs-factor-rescaled", "hypergradient", "prodigy")
"""Optimizers that learn their learning rate, or a factor of it."""
SCHEDULES = ("cosine", "triangle", "onecycle", "constant")
"""Shapes of the learning rate over a run."""
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "float64")
"""Arithmetic of the network; ``auto`` takes what is fast on the device."""
GUARDS = ("off", "watch", "act")
"""What the guard does: nothing, report, or report and mend."""
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Where a run trains; ``auto`` takes an accelerator where there is one."""
SIDES = (8, 16, 32, 64, 96, 128, 224)
"""Widths in pixels to which images can be brought."""
OWN_SIDE = 32
"""Width of the images of every data set."""
COUNTS = (
    ("epochs", 1),
    ("batch_size", 1),
    ("factor_every", 1),
    ("accumulate", 1),
    ("lookahead", 0),
    ("whitening_epochs", 0),
    ("validation", 0),
    ("train_images", 0),
    ("train_last", 0),
    ("unfreeze_every", 0),
)
"""Settings that are counts, and the least that each may be."""
LOWEST_SIDE = 4
"""Smallest images of the epochs on small images, for networks that have no bound of their own."""
WARMUP = 0.15
"""Share of the steps over which the cosine schedule's learning rate rises."""
TRIANGLE = (0.2, 0.23, 0.07)
"""Of the triangular schedule: first rate over largest, share of the rise, last over largest."""
CYCLED_MOMENTUM = (0.95, 0.85)
"""Highest and lowest momentum of the one-cycle schedule, those of torch's OneCycleLR."""


@dataclass(frozen=True)
class TrainConfig:
    r"""What a run does.

    Attributes:
        dataset: ``"offline"``, ``"cifar10"`` or ``"tensors"``.
        model: a name of :data:`ngs.train.models.MODELS`, or ``torchvision-`` and one of
            torchvision's own, ``"torchvision-resnet50"``.
        classes: numbers of the classes to learn and to test, with commas; ``""`` for all ten.
        init: a file of weights to begin with, or ``"torchvision"``, see
            :func:`ngs.train.pretrained.load_initial`; ``""`` for a fresh network.
        new_head: whether the last layer begins fresh in spite of ``init``.
        train_last: how many of the network's stages train, those nearest to the scores (see
            :func:`ngs.train.models.stages`); the others stay as they are. 0 for all.
        unfreeze_every: epochs after which one more stage trains, 0 for never.
        stage_decay: ratio of the learning rates of two neighbouring stages, the one nearer to the
            scores having the larger; 1 for one rate. See :func:`ngs.train.models.stage_groups`.
        epochs: passes over the training images, 1 or more.
        batch_size: images a step, from 1 to the number of training images.
        optimizer: ``"ngs"``, exact Nesterov; ``"ngs-factor"``, with the acceleration factor;
            ``-rescaled`` after either, with velocities that follow the learning rate;
            ``"sgd"``, torch's heavy ball; ``"sgd-nesterov"``, torch's Nesterov form;
            ``"sgd-plain"``, without momentum; ``"gradient-descent"``, without momentum and on the
            gradient of the whole training set, one step an epoch; ``"adam"`` and ``"nadam"``,
            torch's, whose first beta is ``momentum``, under a one-cycle schedule too;
            ``"hypergradient"``, Baydin et al.'s, which ignores the schedule after the first step;
            ``"prodigy"`` and ``"schedule-free"``, peers that need the extra ``peers``.
        lr: largest learning rate of the schedule, above 0. Prodigy's authors advise 1.
        momentum: coefficient in [0, 1); Prodigy has its own, and so has a one-cycle schedule.
            ``"sgd-plain"`` and ``"gradient-descent"`` have none.
        weight_decay: 0 or more, on every parameter, coupled.
        schedule: ``"cosine"`` (15 % linear warm-up, then half a cosine to 0), ``"onecycle"``
            (learning rate and momentum as torch's OneCycleLR has them, ``lr`` being the largest),
            ``"triangle"`` (straight from 0.2 to 1 times ``lr`` over 23 % of the steps, straight
            down to 0.07 times, as airbench94 has it) or ``"constant"``.
        factor_every: steps from one look at the factor to the next after the first 100, 1 or more;
            for the optimizers that have a factor.
        batch_norm: whether the network normalises its batches.
        augment: whether images are shifted, mirrored and cut out as the next three say.
        shift: largest shift in pixels of a 32x32 image, 0 to 15.
        flip: ``"random"``, ``"alternating"`` or ``"none"``, see
            :class:`ngs.train.augment.Augmentation`.
        cutout: side of the square that is set to the mean colour, in pixels of a 32x32 image; 0
            for none.
        label_smoothing: share of the target that is spread evenly over all classes, in [0, 1).
        accumulate: parts in which a batch goes through the network, 1 or more; the gradient is that
            of the whole batch (batch normalisation sees the parts).
        max_norm: longest gradient; a longer one is scaled down to it. 0 for no clipping.
        average: decay per step of the running mean of the weights that is evaluated and kept, in
            [0, 1); 0 for none. Without ``lookahead`` it is a mean of iterates.
        lookahead: 0, or the number of steps after which the weights go back to their running mean,
            each time; needs ``average``, and the mean is then one of look-ahead points. See
            :class:`ngs.train.average.WeightAverage`.
        bias_scale: what the learning rate of batch normalisation's biases is multiplied by, and
            their weight decay divided by; 1 for one group of parameters.
        whitening_epochs: epochs after which the bias of the whitening layer of model ``fast`` stays
            as it is, and its part of the backward pass is saved; 0 for never.
        low_share: share of the epochs, rounded down and at the beginning, that see images scaled
            down to ``low_side`` pixels; in [0, 1].
        low_side: see ``low_share``; 0 where that is 0.
        views: test-time views whose scores are averaged, ``"none"``, ``"mirror"`` or
            ``"mirror-shift"``, see :mod:`ngs.train.views`; the record has both accuracies.
        guard: ``"off"``; ``"watch"``, which reports anomalies of training steps; ``"act"``, which
            skips, clips, rolls back or stops as well, see :class:`ngs.train.guard.Guard`. Not in
            float16, whose scaler leaves steps out itself.
        target: validation accuracy at which training stops, in (0, 1]; 0 for never.
        compile: whether ``torch.compile`` compiles the network.
        validation: training images held out and measured after every epoch; 0 trains on all.
        train_images: number of the others to train on; 0 for all.
        side: width and height of the images: 8, 16 or 32, larger blocks of pixels being averaged,
            or 64, 96, 128 or 224, to which batches are scaled up after augmentation.
        seed: of initialisation, data order and augmentation, from 0 to 2**64 - 1.
        device: ``"auto"`` takes CUDA, then Apple's MPS, then the CPU.
        precision: ``"auto"`` takes bfloat16 on CUDA and on CPUs with instructions for it (AMX,
            AVX512-BF16), else float32. The parameters are float32 either way, except in
            ``"float64"``, which is for checks.

    Raises:
        InputError: a value lies outside its range.
    """

    dataset: str = "offline"
    model: str = "convnet-narrow"
    classes: str = ""
    init: str = ""
    new_head: bool = False
    train_last: int = 0
    unfreeze_every: int = 0
    stage_decay: float = 1.0
    epochs: int = 8
    batch_size: int = 128
    optimizer: str = "ngs"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    factor_every: int = 1
    batch_norm: bool = True
    augment: bool = True
    shift: int = 4
    flip: str = "random"
    cutout: int = 0
    label_smoothing: float = 0.0
    accumulate: int = 1
    max_norm: float = 0.0
    average: float = 0.0
    lookahead: int = 0
    bias_scale: float = 1.0
    whitening_epochs: int = 0
    low_share: float = 0.0
    low_side: int = 0
    views: str = "none"
    guard: str = "off"
    target: float = 0.0
    compile: bool = False
    validation: int = 0
    train_images: int = 0
    side: int = 32
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("dataset", DATASETS),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("device", DEVICES),
            ("precision", PRECISIONS),
            ("views", VIEWS),
            ("guard", GUARDS),
        ):
            if getattr(self, name) not in allowed:
                given = getattr(self, name)
                raise InputError(f"{name} must be one of {', '.join(allowed)}, got {given!r}")
        check(self.model, self.batch_norm)
        if self.side not in SIDES:
            raise InputError(f"side must be one of {', '.join(map(str, SIDES))}, got {self.side}")
        least_side = LEAST_SIDE.get(self.model, 0)
        if self.side < least_side:
            raise InputError(
                f"side must be {least_side} for model {self.model}, got {self.side}: take model "
                "small for smaller images"
            )
        if self.model in FIXED_SIDE and self.side != least_side:
            raise InputError(
                f"side must be {least_side} for model {self.model}, got {self.side}: take another "
                "model for larger images"
            )
        if not (math.isfinite(self.lr) and self.lr > 0.0):
            raise InputError(f"lr must be finite and above 0, got {self.lr}")
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.momentum == 0.0 and self.optimizer in ("hypergradient", "schedule-free"):
            raise InputError(f"momentum must lie in (0, 1) for {self.optimizer}, got 0.0")
        if self.schedule == "onecycle" and self.optimizer == "schedule-free":
            # Its average is found from the stored point by means of the momentum.
            raise InputError(
                "schedule onecycle changes the momentum, which schedule-free needs constant: "
                "take schedule constant"
            )
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0.0):
            raise InputError(f"weight-decay must be finite and at least 0, got {self.weight_decay}")
        self.augmentation()
        for name in ("label_smoothing", "average"):
            if not 0.0 <= getattr(self, name) < 1.0:
                option = name.replace("_", "-")
                raise InputError(f"{option} must lie in [0, 1), got {getattr(self, name)}")
        if not 0.0 <= self.max_norm < math.inf:
            raise InputError(f"max-norm must be finite and at least 0, got {self.max_norm}")
        if not 0.0 < self.bias_scale < math.inf:
            raise InputError(f"bias-scale must be finite and above 0, got {self.bias_scale}")
        if self.bias_scale != 1.0 and not self.batch_norm:
            raise InputError(
                "bias-scale is for the biases of batch normalisation: leave that on, or bias-scale "
                f"at 1, got {self.bias_scale:g}"
            )
        if self.bias_scale != 1.0 and self.optimizer not in WITH_GROUPS:
            raise InputError(
                f"bias-scale needs one of {', '.join(WITH_GROUPS)}, got {self.bias_scale:g} with "
                f"{self.optimizer}"
            )
        if not 0.0 <= self.target <= 1.0:
            raise InputError(f"target must lie in [0, 1], an accuracy, got {self.target}")
        if self.target > 0.0 and not self.validation:
            raise InputError("target needs images to be held out: give --validation 5000, say")
        if self.average > 0.0 and self.optimizer == "schedule-free":
            raise InputError("schedule-free keeps an average of its own: average must be 0")
        if self.lookahead and not self.average:
            raise InputError(
                f"lookahead goes back to a running mean: give its decay, --average 0.95 say, with "
                f"lookahead {self.lookahead}"
            )
        if self.whitening_epochs and self.model != "fast":
            raise InputError(
                f"whitening-epochs is for model fast, which alone has a whitening layer, got "
                f"{self.whitening_epochs} with {self.model}"
            )
        self._check_low()
        self._check_start()
        if self.guard != "off" and self.precision == "float16":
            raise InputError(
                f"guard {self.guard} needs precision bfloat16 or float32: in float16 the scaler "
                "leaves out steps itself"
            )
        if not 0 <= self.seed < 2**64:
            raise InputError(f"seed must lie in 0 .. 2**64 - 1, got {self.seed}")
        for name, least in COUNTS:
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise InputError(f"{option} must be {least} or more, got {getattr(self, name)}")

    def _check_low(self) -> None:
        """Check the epochs on small images against the others, and against the network."""
        if not 0.0 <= self.low_share <= 1.0:
            raise InputError(f"low-share must lie in [0, 1], got {self.low_share}")
        if bool(self.low_share) != bool(self.low_side):
            raise InputError(
                "low-share and low-side belong together: give both or neither, got "
                f"{self.low_share:g} and {self.low_side}"
            )
        least = LEAST_SIDE.get(self.model, LOWEST_SIDE)
        if self.low_side and least >= self.side:
            raise InputError(
                f"model {self.model} takes images of {least} pixels or more, and side is "
                f"{self.side}: leave low-side at 0, got {self.low_side}"
            )
        if self.low_side and not least <= self.low_side < self.side:
            raise InputError(
                f"low-side must lie in {least} .. {self.side - 1} for model {self.model} and side "
                f"{self.side}, got {self.low_side}"
            )

    def _check_start(self) -> None:
        """Check the classes, what a run begins with, and what of it trains."""
        self.chosen_classes()
        if self.new_head and not self.init:
            raise InputError("new-head is for weights that a run begins with: give --init too")
        if self.unfreeze_every and not self.train_last:
            raise InputError(
                "unfreeze-every needs stages that are frozen: give --train-last 1, say, with "
                f"unfreeze-every {self.unfreeze_every}"
            )
        if not 0.0 < self.stage_decay < math.inf:
            raise InputError(f"stage-decay must be finite and above 0, got {self.stage_decay}")
        if self.stage_decay != 1.0 and self.bias_scale != 1.0:
            raise InputError(
                "stage-decay and bias-scale both say which rate a parameter has: leave one at 1, "
                f"got {self.stage_decay:g} and {self.bias_scale:g}"
            )
        if self.stage_decay != 1.0 and self.optimizer not in WITH_RATES:
            raise InputError(
                f"stage-decay needs one of {', '.join(WITH_RATES)}, got {self.stage_decay:g} with "
                f"{self.optimizer}"
            )

    def chosen_classes(self) -> tuple[int, ...]:
        """Return the numbers of the classes to learn; nothing for all of them.

        Raises:
            InputError: they are not numbers of at least two different classes.
        """
        if not self.classes:
            return ()
        parts = [part.strip() for part in self.classes.split(",")]
        numbers = tuple(int(part) for part in parts if part.isdecimal())
        if len(numbers) != len(parts) or len({*numbers}) != len(parts) or len(parts) < 2:
            raise InputError(
                "classes must be the numbers of two or more different classes with commas between "
                f"them, 0,1,2,3,4 say, got {self.classes!r}"
            )
        return numbers

    def augmentation(self) -> Augmentation | None:
        """Return what may happen to the training images.

        Raises:
            InputError: a value lies outside its range.
        """
        found = Augmentation(self.shift, self.flip, self.cutout)
        return found if self.augment else None


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "dataset": "cifar10",
        "model": "fast",
        "epochs": 12,
        "batch_size": 1024,
        "optimizer": "ngs",
        "lr": 1.5,
        "momentum": 0.85,
        "weight_decay": 0.00133,
        "schedule": "triangle",
        "shift": 2,
        "flip": "alternating",
        "label_smoothing": 0.2,
        "average": 0.95,
        "lookahead": 5,
        "bias_scale": 64.0,
        "whitening_epochs": 3,
        "low_share": 0.5,
        "low_side": 24,
        "views": "mirror-shift",
    },
}
"""Whole recipes by name: what they set differently from :class:`TrainConfig`.

``fast`` is airbench94 (Jordan 2024) with every step an exact Nesterov step, and 6 epochs on images
of 24 pixels before 6 of 32 instead of 9.9 epochs; learning rate and decay, stated there for sums
of losses, are those for means.
"""
