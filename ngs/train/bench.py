"""What a step of an optimizer costs, measured side by side in one process.

It rests on :mod:`ngs.optim.torch`, on the networks and records beside it.
"""

import statistics
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from ngs.factor import AngleRule
from ngs.optim.torch import NGS
from ngs.records import Record
from ngs.restart import GradientRestart
from ngs.train import models
from ngs.train.memory import keep_freed_memory
from ngs.train.records import provenance

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
"""How the weights of convolutions lie in memory, by name."""
WARMUP_STEPS = 10
REFERENCE = "sgd fused"
Step = Callable[[], object]


def bench_step(model: str, layout: str, rounds: int, device: torch.device) -> Record:
    """Time one step of each contestant in turn, ``rounds`` times over, and return the record.

    All have the same parameters and gradients. The learning rate moves at every step, so that NGS
    never falls back to constant coefficients. A ratio is the median over the rounds of a
    contestant's time to that of torch's fused SGD in the same round; ``mean_ratio`` compares sums.

    Args:
        model: a name of :data:`ngs.train.models.MODELS`.
        layout: a name of :data:`LAYOUTS`: how the convolutions' weights lie in memory.
        rounds: steps of each that are timed, after 10 that are not.
        device: where.
    """
    keep_freed_memory()
    steps, parameters = _contestants(model, layout, device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in tqdm(range(WARMUP_STEPS + rounds), unit="round", disable=None, leave=False):
        names = list(steps)
        shift = number % len(names)  # nobody always comes after the same one
        for name in names[shift:] + names[:shift]:
            _wait(device)
            begin = time.perf_counter()
            steps[name]()
            _wait(device)
            if number >= WARMUP_STEPS:
                seconds[name].append(time.perf_counter() - begin)
    reference = seconds[REFERENCE]
    rows = [
        {
            "name": name,
            "median_ms": round(statistics.median(times) * 1e3, 3),
            "ratio": round(
                statistics.median(a / b for a, b in zip(times, reference, strict=True)), 3
            ),
            "mean_ratio": round(sum(times) / sum(reference), 3),
        }
        for name, times in seconds.items()
    ]
    return {
        "kind": "bench-step",
        **provenance(device),
        "model": model,
        "parameters": parameters,
        "layout": layout,
        "rounds": rounds,
        "rows": rows,
    }


def _contestants(model: str, layout: str, device: torch.device) -> tuple[dict[str, Step], int]:
    """Return what is timed, by name, and the number of parameters."""
    torch.manual_seed(0)
    network = models.build(model).to(device, memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    first = [p.detach() for p in network.parameters()]
    grads = [1e-3 * torch.randn_like(p) for p in first]

    def parameters() -> list[torch.nn.Parameter]:
        copies = [torch.nn.Parameter(p.clone()) for p in first]
        for p, g in zip(copies, grads, strict=True):
            p.grad = g.clone()
        return copies

    learned = {"factor": AngleRule(), "restart": GradientRestart(), "check_finite": True}
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd for-loop": lambda: torch.optim.SGD(
            parameters(), 1e-6, 0.9, nesterov=True, foreach=False
        ),
        "sgd foreach": lambda: torch.optim.SGD(
            parameters(), 1e-6, 0.9, nesterov=True, foreach=True
        ),
        "sgd fused": lambda: torch.optim.SGD(parameters(), 1e-6, 0.9, nesterov=True, fused=True),
        "ngs for-loop": lambda: NGS(parameters(), 1e-6, 0.9, foreach=False),
        "ngs foreach": lambda: NGS(parameters(), 1e-6, 0.9, foreach=True),
        "ngs": lambda: NGS(parameters(), 1e-6, 0.9, check_finite=False),
        "ngs, finiteness checked": lambda: NGS(parameters(), 1e-6, 0.9, check_finite=True),
        "ngs, all on": lambda: NGS(parameters(), 1e-6, 0.9, **learned),  # type: ignore[arg-type]
        "ngs, factor every 10th": lambda: NGS(
            parameters(), 1e-6, 0.9, factor=AngleRule(), factor_every=10, factor_eager=0
        ),
    }
    steps: dict[str, Step] = {name: _moving(maker()) for name, maker in makers.items()}
    source, target = [p.clone() for p in first], [p.clone() for p in first]
    steps["copy"] = lambda: torch._foreach_copy_(target, source)
    return steps, sum(p.numel() for p in first)


def _moving(optimizer: torch.optim.Optimizer) -> Step:
    """Return a step whose learning rate is another one each time."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        optimizer.param_groups[0]["lr"] = 1e-6 * (1.0 + 0.01 * (count % 7))
        optimizer.step()

    return step


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
