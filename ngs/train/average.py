"""The running mean of the weights: one that only watches, or one that the weights go back to.

It rests on torch's AveragedModel, and on the settings and optimizers beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from ngs.train.checkpoint import Content
from ngs.train.config import TrainConfig
from ngs.train.optimizers import evaluation_point


class WeightAverage:
    r"""The mean of a run's weights that is evaluated and kept instead of the last of them.

    Without ``lookahead`` it is :math:`a \leftarrow d a + (1 - d) \theta` after every step, with
    :math:`d` = ``average`` and the iterate :math:`\theta`; the run does not notice it.

    With ``lookahead`` k the run does: after every k-th step t of T, and the last, with the stored
    weights y,
    :math:`a \leftarrow d_t a + (1 - d_t) y` and then :math:`y \leftarrow a`, where
    :math:`d_t = d^k (t/T)^3`: next to nothing at the beginning, k steps of the mean at the end. For
    NGS, y is the look-ahead point; the iterate moves with it, and the velocity stays. The averages
    of batch normalisation are treated as weights. What is evaluated and kept is then the mean of
    look-ahead points, at the last look-back.

    Zhang et al. (2019), with a decay that grows as in hlb-CIFAR10 and in Jordan (2024).

    Args:
        config: its ``average`` must be above 0.
        model: whose weights.
        total_steps: the T of the decay.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, total_steps: int) -> None:
        self.decay, self.every, self.total = config.average, config.lookahead, total_steps
        self.model, self.now = model, config.average
        self.mean = AveragedModel(
            model, multi_avg_fn=self._fold_in, use_buffers=bool(config.lookahead)
        )

    def _fold_in(self, mean: PARAM_LIST, weights: PARAM_LIST, count: torch.Tensor | int) -> None:
        get_ema_multi_avg_fn(self.now)(mean, weights, count)  # type: ignore[no-untyped-call]

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Take the weights in that step number ``step``, from 1, has left."""
        if not self.every:
            with evaluation_point(optimizer):
                self.mean.update_parameters(self.model)
        elif step % self.every == 0 or step == self.total:
            self.now = self.decay**self.every * min(step / self.total, 1.0) ** 3
            self.mean.update_parameters(self.model)
            self.keep()

    def keep(self) -> None:
        """Put the mean into the network for good."""
        self.model.load_state_dict(self.mean.module.state_dict())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the mean in the network inside the block, and what was there again after it.

        Before anything is in the mean, the network stays as it is.
        """
        if not self.mean.n_averaged:
            yield
            return
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.keep()
        try:
            yield
        finally:
            self.model.load_state_dict(kept)

    def state_dict(self) -> Content:
        """Return the mean and how many steps are in it."""
        return dict(self.mean.state_dict())

    def load_state_dict(self, state: Content) -> None:
        """Go to where :meth:`state_dict` was called."""
        self.mean.load_state_dict(state)
