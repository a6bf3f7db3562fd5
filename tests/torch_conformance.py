"""What the conformance tests of NGS share: settings, a model, and steps on made-up gradients."""

import copy

import torch
from torch.testing._internal.common_optimizers import OptimizerInput
from torch_oracle import Steer

from ngs.optim.torch import NGS
from ngs.restart import GradientRestart
from ngs.schedules import NesterovMomentum

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def inputs(device="cpu", dtype=None):
    settings = {
        "default": {},
        "non-default lr": {"lr": 1e-2},
        "tensor lr": {"lr": torch.tensor(0.001)},
        "momentum 0": {"momentum": 0.0},
        "momentum schedule": {"momentum": NesterovMomentum()},
        "weight decay": {"weight_decay": 0.1},
        "decoupled weight decay": {"weight_decay": 0.1, "decoupled_weight_decay": True},
        "rescaled velocity": {"rescale_velocity": True},
        "maximize": {"weight_decay": 0.1, "maximize": True},
        "clipping": {"max_norm": 1.0},
        "factor": {"factor": Steer(), "factor_every": 2, "factor_scope": "all"},
        "restart": {"restart": GradientRestart(average=0.0, wait=2)},
    }
    return [OptimizerInput(params=None, kwargs=x, desc=name) for name, x in settings.items()]


def made(params, given, **more):
    return NGS(params, **{**copy.deepcopy(given.kwargs), **more})


def model(dtype=torch.float64, seed=0):
    """A network whose layers are longer than a vector register, in more than one shape."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 5, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(20, 7)
    ).to(dtype)


def set_grads(params, seed, scale=1.0):
    source = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = (scale * torch.randn(p.shape, generator=source, dtype=torch.float64)).to(p.dtype)


def stepped(params, given, steps=7, **more):
    """Step on the same made-up gradients, with one missing for each parameter in turn."""
    params = list(params)
    optimizer = made(params, given, **more)
    for t in range(steps):
        set_grads(params, t)
        params[t % len(params)].grad = None
        optimizer.step()
    return optimizer


def assert_same(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)
