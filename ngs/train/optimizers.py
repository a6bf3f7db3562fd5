"""The optimizers that a run can name, ours and others', each from the settings alone.

It rests on :mod:`ngs.optim.torch`, on torch, and on the packages of the extra ``peers`` when one of
theirs is asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ngs.errors import InputError
from ngs.factor import AngleRule
from ngs.optim.hypergradient import HypergradientSGD
from ngs.optim.torch import NGS
from ngs.schedules import Chain, Constant, Linear, OneCycle, Schedule, WarmupCosine
from ngs.train.config import CYCLED_MOMENTUM, TRIANGLE, WARMUP, TrainConfig
from ngs.train.models import bias_groups, stage_groups

Builder = Callable[[Iterable[nn.Parameter], TrainConfig, int], torch.optim.Optimizer]

PEERS = {"prodigy": "prodigyopt", "schedule-free": "schedulefree"}
"""The package that an optimizer of others comes from."""
STEADY = ("sgd-plain", "gradient-descent", "adam", "nadam")
"""Optimizers whose momentum no schedule moves: without any, or a beta that stays what it is."""
COPIES = {
    "sgd-plain": 0.0,
    "gradient-descent": 0.0,
    "adam": 2.0,
    "nadam": 2.0,
    "hypergradient": 2.0,
    "prodigy": 4.0,
}
"""Numbers that an optimizer remembers for each parameter, where it is not one."""
SECOND_BETA = 0.999
"""Decay of the mean of squared gradients in Adam and NAdam, that of their papers and of torch."""
LEAST_CYCLE = 4
"""Steps of the shortest one-cycle schedule: its rise, 30 %, has to be longer than one step."""


def check_installed(optimizer: str) -> None:
    """Find out before anything is loaded whether the package of an optimizer is there.

    Raises:
        ImportError: it is not.
    """
    if optimizer in PEERS:
        _peer(optimizer)


def build_optimizer(
    config: TrainConfig, model: nn.Module, total_steps: int
) -> torch.optim.Optimizer:
    """Return the optimizer that ``config`` names, over all parameters of ``model``.

    Raises:
        ImportError: it belongs to a package that is not installed.
    """
    params: Iterable[Any] = model.parameters()
    if config.bias_scale != 1.0:
        params = bias_groups(model, config.lr, config.weight_decay, config.bias_scale)
    if config.stage_decay != 1.0:
        params = stage_groups(model, config.lr, config.stage_decay)
    return BUILDERS[config.optimizer](params, config, total_steps)


def state_copies(config: TrainConfig) -> float:
    """Return how many numbers a run remembers for each that it trains, beside the gradient.

    One for a velocity, two for Adam's means, one more for a mean of the weights.
    """
    return COPIES.get(config.optimizer, 1.0) + (config.average > 0.0)


def full_batch(config: TrainConfig) -> bool:
    """Return whether a step takes the gradient of the whole training set, one step an epoch."""
    return config.optimizer == "gradient-descent"


def learning_rates(config: TrainConfig, total_steps: int) -> Schedule:
    """Return the learning rate of every step."""
    if config.schedule == "constant":
        return Constant(config.lr)
    if config.schedule == "onecycle":
        first = config.lr / 25.0
        return _one_cycle(first, config.lr, first / 1e4, total_steps)
    if config.schedule == "triangle":
        first, rise, last = TRIANGLE
        top = max(1, int(rise * total_steps))
        up = Linear(first * config.lr, config.lr, top)
        down = Linear(config.lr, last * config.lr, max(1, total_steps - top))
        return Chain(((up, top), (down, 1)))
    return WarmupCosine(config.lr, total_steps, warmup=int(WARMUP * total_steps))


def momenta(config: TrainConfig, total_steps: int) -> Schedule | None:
    """Return the momentum of every step, or ``None`` where it is constant.

    Only a one-cycle schedule moves it, and none moves that of :data:`STEADY`: what it would write
    there is a setting that Adam does not read, and that would give plain SGD a momentum.
    """
    if config.schedule != "onecycle" or config.optimizer in STEADY:
        return None
    highest, lowest = CYCLED_MOMENTUM
    return _one_cycle(highest, lowest, highest, total_steps)


def _one_cycle(first: float, middle: float, last: float, total_steps: int) -> OneCycle:
    if total_steps < LEAST_CYCLE:
        raise InputError(
            f"schedule onecycle needs {LEAST_CYCLE} steps or more, got {total_steps}: train for "
            "more epochs or with a smaller batch-size"
        )
    return OneCycle(first, middle, last, total_steps)


def _ngs(*, factor: bool, rescale: bool) -> Builder:
    def build(params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int) -> NGS:
        return NGS(
            params,
            config.lr,
            momenta(config, total_steps) or config.momentum,
            config.weight_decay,
            rescale_velocity=rescale,
            factor=AngleRule() if factor else None,
            factor_every=config.factor_every,
            max_norm=config.max_norm or None,
        )

    return build


def _sgd(nesterov: bool) -> Builder:
    def build(
        params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int
    ) -> torch.optim.Optimizer:
        cycle = momenta(config, total_steps)
        momentum = config.momentum if cycle is None else cycle(0)
        return torch.optim.SGD(
            params,
            lr=config.lr,
            momentum=momentum,
            weight_decay=config.weight_decay,
            nesterov=nesterov and momentum > 0.0,
        )

    return build


def _plain(
    params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int
) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        params, lr=config.lr, momentum=0.0, weight_decay=config.weight_decay, nesterov=False
    )


def _adam(kind: type[torch.optim.Adam] | type[torch.optim.NAdam]) -> Builder:
    def build(
        params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int
    ) -> torch.optim.Optimizer:
        # Their own weight_decay is coupled: the same L2 penalty that the others minimise.
        betas = (config.momentum, SECOND_BETA)
        return kind(params, lr=config.lr, betas=betas, weight_decay=config.weight_decay)

    return build


def _hypergradient(
    params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int
) -> torch.optim.Optimizer:
    return HypergradientSGD(params, config.lr, config.momentum, config.weight_decay)


def _prodigy(
    params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int
) -> torch.optim.Optimizer:
    # decouple=False: the same L2 penalty that the others minimise
    prodigy = _peer("prodigy").Prodigy
    optimizer: torch.optim.Optimizer = prodigy(
        params, lr=config.lr, weight_decay=config.weight_decay, decouple=False
    )
    return optimizer


def _schedule_free(
    params: Iterable[nn.Parameter], config: TrainConfig, total_steps: int
) -> torch.optim.Optimizer:
    schedule_free = _peer("schedule-free").SGDScheduleFree
    optimizer: torch.optim.Optimizer = schedule_free(
        params, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    _mode(optimizer, "train")
    return optimizer


def _peer(optimizer: str) -> Any:
    package = PEERS[optimizer]
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"optimizer {optimizer} needs {package}: pip install 'ngs[peers]'"
        ) from error


BUILDERS: dict[str, Builder] = {
    "ngs": _ngs(factor=False, rescale=False),
    "ngs-rescaled": _ngs(factor=False, rescale=True),
    "ngs-factor": _ngs(factor=True, rescale=False),
    "ngs-factor-rescaled": _ngs(factor=True, rescale=True),
    "sgd": _sgd(nesterov=False),
    "sgd-nesterov": _sgd(nesterov=True),
    "sgd-plain": _plain,
    "gradient-descent": _plain,
    "adam": _adam(torch.optim.Adam),
    "nadam": _adam(torch.optim.NAdam),
    "hypergradient": _hypergradient,
    "prodigy": _prodigy,
    "schedule-free": _schedule_free,
}
"""Every optimizer by the name that the settings know."""


def learned_rate(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the learning rate that an optimizer has found itself, for the record of an epoch."""
    group = optimizer.param_groups[-1]  # where biases have a group of their own it is the first
    if isinstance(optimizer, NGS) and optimizer.options.factor is not None:
        return {"learned_lr": float(group["lr"]) * float(group["factor"])}
    return {"learned_lr": float(group["learned_lr"])} if "learned_lr" in group else {}


@contextmanager
def evaluation_point(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Hold inside the block the parameters that the optimizer's method means to return.

    For NGS the iterate instead of the look-ahead point, for Schedule-Free its average.
    """
    if isinstance(optimizer, NGS):
        with optimizer.at_iterate():
            yield
    elif hasattr(optimizer, "eval"):
        _mode(optimizer, "eval")
        try:
            yield
        finally:
            _mode(optimizer, "train")
    else:
        yield


def stay_at_evaluation_point(optimizer: torch.optim.Optimizer) -> None:
    """Go where :func:`evaluation_point` goes, for good: training is over."""
    if isinstance(optimizer, NGS):
        optimizer.to_iterate()
    elif hasattr(optimizer, "eval"):
        _mode(optimizer, "eval")


def _mode(optimizer: Any, name: str) -> None:
    """Call the method ``train`` or ``eval`` that Schedule-Free adds to torch's optimizers."""
    getattr(optimizer, name)()
