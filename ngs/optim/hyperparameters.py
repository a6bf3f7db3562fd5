"""Learning rate, momentum, weight decay and batch size in units that can be tuned one at a time.

It rests on the standard library.
"""

import math

from ngs.errors import InputError

UNIT = 1024
"""Examples to which decoupled learning rate and weight decay refer."""


def decoupled_hyperparameters(
    lr: float, momentum: float, weight_decay: float, batch_size: int, *, mean_loss: bool = True
) -> dict[str, float]:
    r"""Return ``lr``, ``momentum`` and ``weight_decay`` for a group of NGS or torch's SGD.

    With the usual parameters a larger momentum makes the steps longer, and a larger learning rate
    makes the decay stronger, so that each has to be tuned again when another changes. Here ``lr``
    is the step along a constant gradient summed over 1024 examples, and ``weight_decay`` the share
    of a weight that is lost over 1024 examples, whatever the others are:

    .. math:: \eta = \frac{\text{lr}}{1024\,(1 + \frac{1}{1-\beta})}, \qquad
              \eta\lambda = \frac{\text{weight decay}\cdot\text{batch size}}
                                 {1024\,(1 + \frac{1}{1-\beta})}

    for a loss that is summed over the batch; for a mean loss :math:`\eta` is multiplied by the
    batch size. (Along a constant gradient the steps of Nesterov's method grow to
    :math:`\frac{1}{1-\beta}` times :math:`\eta g`. The 1 more is the recipe's own convention, kept
    so that its numbers carry over: step and share are :math:`\frac{1}{2-\beta}` times what is
    given, from a half without momentum to nearly all of it.)

    Args:
        lr: decoupled learning rate, above 0; the recipe has 11.5.
        momentum: :math:`\beta` in [0, 1); the recipe has 0.85.
        weight_decay: decoupled weight decay, 0 or more; the recipe has 0.0153.
        batch_size: examples a step, 1 or more; the recipe has 1024.
        mean_loss: whether the loss is the mean over the batch; otherwise it is the sum.

    Raises:
        InputError: a value lies outside its range.

    Source: Jordan (2024), airbench94; the idea is Page's (2018).

    >>> group = decoupled_hyperparameters(11.5, 0.85, 0.0153, batch_size=1024)
    >>> round(group["lr"], 3), round(group["lr"] * group["weight_decay"], 5)
    (1.5, 0.002)
    """
    if not 0.0 < lr < math.inf:
        raise InputError(f"lr must be finite and above 0, got {lr}")
    if not 0.0 <= momentum < 1.0:
        raise InputError(f"momentum must lie in [0, 1), got {momentum}")
    if not 0.0 <= weight_decay < math.inf:
        raise InputError(f"weight_decay must be finite and at least 0, got {weight_decay}")
    if not 1 <= batch_size < math.inf:
        raise InputError(f"batch_size must be 1 or more, got {batch_size}")
    scale = UNIT * (1.0 + 1.0 / (1.0 - momentum))
    step = lr / scale * (batch_size if mean_loss else 1)
    return {
        "lr": step,
        "momentum": momentum,
        "weight_decay": weight_decay * batch_size / scale / step,
    }
