"""The oracle of test_optim_torch: ngs.methods.nesterov on a quadratic of two parameters.

It is slow and obvious, with one clock a parameter; the optimizer must follow it.
"""

import numpy as np
import torch

from ngs.methods import nesterov, start
from ngs.optim.torch import NGS


class Bowl:
    """A quadratic that couples two parameters of different shape: curvature from 0.02 to 1."""

    SHAPES = ((3,), (2, 2))

    def __init__(self, dtype=torch.float64, weight_decay=0.0):
        rng = np.random.default_rng(7)
        Q, _ = np.linalg.qr(rng.normal(size=(7, 7)))
        self.A = torch.tensor(Q @ np.diag(np.geomspace(0.02, 1.0, 7)) @ Q.T, dtype=dtype)
        self.center = torch.tensor(rng.normal(size=7), dtype=dtype)
        self.start = torch.tensor(3.0 * rng.normal(size=7), dtype=dtype)
        self.weight_decay = weight_decay

    def split(self, flat):
        parts = flat.split([3, 4])
        return [part.reshape(shape) for part, shape in zip(parts, self.SHAPES, strict=True)]

    def parameters(self):
        return [torch.nn.Parameter(x.clone()) for x in self.split(self.start)]

    def loss(self, params):
        offset = torch.cat([p.flatten() for p in params]) - self.center
        return 0.5 * offset @ (self.A @ offset)

    def grads(self, points):
        """The gradient written out, weight decay included, without autograd."""
        flat = torch.cat([p.flatten() for p in points])
        return self.split(self.A @ (flat - self.center) + self.weight_decay * flat)


class Oracle:
    """The look-ahead method itself, a state and a clock for each parameter."""

    def __init__(self, bowl):
        self.bowl = bowl
        self.states = [start(x.clone()) for x in bowl.split(bowl.start)]
        self.momenta = [0.0, 0.0]  # beta_t; it multiplies a velocity of zero at first

    def points(self):
        pairs = zip(self.states, self.momenta, strict=True)
        return [nesterov.gradient_point(state, beta) for state, beta in pairs]

    def step(self, lrs, next_momenta, present=(True, True)):
        grads = self.bowl.grads(self.points())
        for i in range(2):
            if present[i]:
                beta = self.momenta[i]
                self.states[i] = nesterov.step(self.states[i], grads[i], lrs[i], beta)
                self.momenta[i] = next_momenta[i]


def backward(bowl, params, optimizer, present=(True, True)):
    optimizer.zero_grad()
    bowl.loss(params).backward()
    for p, has_gradient in zip(params, present, strict=True):
        if not has_gradient:
            p.grad = None


def distance(params, points):
    """Largest difference, relative to the largest coordinate."""
    a, b = (torch.cat([x.detach().flatten() for x in xs]) for xs in (params, points))
    return ((a - b).abs().max() / b.abs().max()).item()


def deviation(rows, *, weight_decay=0.0, groups=1, presence=None):
    """Step NGS and the oracle through ``rows`` of (lrs, momenta); return the worst distance."""
    bowl = Bowl(weight_decay=weight_decay)
    params, oracle = bowl.parameters(), Oracle(bowl)
    grouped = [{"params": params}] if groups == 1 else [{"params": [p]} for p in params]
    optimizer = NGS(grouped, weight_decay=weight_decay)
    worst = 0.0
    for t, (lrs, momenta) in enumerate(rows):
        present = presence[t] if presence is not None else (True, True)
        for group, lr, momentum in zip(optimizer.param_groups, lrs, momenta, strict=False):
            group["lr"], group["momentum"] = float(lr), float(momentum)
        backward(bowl, params, optimizer, present)
        before = [p.detach().clone() for p in params]
        optimizer.step()
        oracle.step(lrs, momenta, present)
        for p, old, has_gradient in zip(params, before, present, strict=True):
            assert has_gradient or torch.equal(p, old), "a parameter without gradient moved"
        worst = max(worst, distance(params, oracle.points()))
    assert all(p.isfinite().all() for p in params)
    return worst
