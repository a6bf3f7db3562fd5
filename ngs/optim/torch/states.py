"""What a parameter group and a parameter's state must hold, and how other states become ours.

It rests on :mod:`ngs.factor` for the state of a factor; it never touches a tensor's entries.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from ngs.errors import InputError
from ngs.factor import FactorState
from ngs.optim.torch.shards import is_distributed

Group = dict[str, Any]

COUNTS: Mapping[str, Any] = {
    "momentum_scheduled": False,
    "at_iterate": False,
    "factor": 1.0,
    "factor_state": tuple(FactorState()),
    "looks": 0,
    "since_factor": 0,
    "restart_memory": (0.0, 0),
    "restarts": 0,
    "refused": 0,
}
"""What a group remembers beside its settings, as it is at the start."""

FACTOR = ("factor", "factor_state", "looks", "since_factor")
"""The part of it that groups share where there is one factor in all."""

OWN_STATE = {"momentum_buffer", "scale", "momentum", "step", "lr"}
SGD_ONLY = ("dampening", "nesterov", "differentiable")


def check(group: Mapping[str, Any]) -> None:
    """Raise InputError unless the settings of a group can be used."""
    lr = group["lr"]
    if getattr(lr, "numel", lambda: 1)() != 1:
        raise InputError(f"lr must be a number or a tensor of one element, got {lr}")
    lr, decay = float(lr), float(group["weight_decay"])
    if not (math.isfinite(lr) and lr >= 0.0):
        raise InputError(f"lr must be finite and at least 0, got {lr}")
    if not (math.isfinite(decay) and decay >= 0.0):
        raise InputError(f"weight_decay must be finite and at least 0, got {decay}")
    if group["foreach"] and group["fused"]:
        raise InputError("foreach and fused cannot both be True: choose one, or neither")
    if callable(group["momentum"]):
        return  # its values are checked as they come
    if group["momentum_scheduled"]:
        raise InputError(
            f"momentum is a schedule of this optimizer, but was set to {group['momentum']}: give "
            "OneCycleLR or CyclicLR cycle_momentum=False, or NGS a number for momentum"
        )
    check_momentum(group["momentum"])


def check_momentum(momentum: float, step: int | None = None) -> float:
    """Return the coefficient as a float; raise InputError unless it lies in [0, 1)."""
    momentum = float(momentum)
    if not 0.0 <= momentum < 1.0:
        where = "" if step is None else f" from its schedule at step {step}"
        raise InputError(f"momentum must lie in [0, 1), got {momentum}{where}")
    return momentum


def next_momentum(group: Mapping[str, Any], step: int) -> float:
    r"""Return :math:`\beta_{t+1}` for a parameter that has taken ``step`` = t steps."""
    if callable(group["momentum"]):
        return check_momentum(group["momentum"](step + 1), step + 1)
    return float(group["momentum"])


def check_loadable(state_dict: Mapping[str, Any], groups: list[Group]) -> None:
    """Raise InputError unless a state comes from NGS or torch's SGD and fits the schedules here."""
    found = {key for state in state_dict["state"].values() for key in state} - OWN_STATE
    if found:
        raise InputError(
            f"this is the state of another optimizer, it holds {', '.join(sorted(map(str, found)))}"
            ": NGS loads states of NGS and of torch.optim.SGD"
        )
    for p, own in state_dict["state"].items():
        buffer = own.get("momentum_buffer")
        if isinstance(p, torch.Tensor) and buffer is not None:
            here, there = (
                "cut over processes" if is_distributed(t) else "whole" for t in (p, buffer)
            )
            if here != there:
                raise InputError(
                    f"the saved state is {there} and the parameters are {here}: load it with "
                    "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict"
                )
    for saved, group in zip(state_dict["param_groups"], groups, strict=False):
        if saved.get("momentum_scheduled") and not callable(group["momentum"]):
            raise InputError(
                "this state was saved with a momentum schedule, which a state does not hold: give "
                "NGS the same schedule as momentum before loading"
            )


def adopt(group: Group, states: Mapping[Any, dict[str, Any]], defaults: Mapping[str, Any]) -> None:
    r"""Complete a loaded group in place: from an older NGS, or from torch's SGD.

    SGD's buffer is :math:`b = -v_t/\eta`, so the scale is its learning rate. With ``nesterov`` its
    parameters are stored at the look-ahead point, like ours; without, they are the iterate, and
    the group says so.
    """
    if "nesterov" in group:
        nesterov, lr = group["nesterov"], float(group["lr"])
        for key in SGD_ONLY:
            group.pop(key, None)
        for p in group["params"]:
            state = states.get(p)
            if state and state.get("momentum_buffer") is None:
                state.clear()  # SGD without momentum keeps an empty place
            elif state:
                state.update(scale=lr, lr=lr, momentum=float(group["momentum"]))
                group["at_iterate"] = not nesterov
    for key, value in {**defaults, **COUNTS}.items():
        group.setdefault(key, value)
    for p in group["params"]:
        if states.get(p):
            states[p].setdefault("step", 0)
