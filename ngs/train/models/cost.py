"""What a network costs: parameters, multiplications, and the memory of a training step.

It rests on torch's own counter of operations and on its hooks for what a backward pass keeps.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ngs.errors import InputError

FEW = (2, 4)
"""Images of the two forward passes whose difference is what an image costs."""


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: numbers that are trained.
        weights: bytes of all parameters and buffers.
        gradients: bytes of the gradients.
        multiply_adds: of a forward pass, an image; a backward pass takes about twice as many.
        activations: bytes that a forward pass keeps for the backward pass, an image.
    """

    parameters: int
    weights: int
    gradients: int
    multiply_adds: int
    activations: int

    def memory(self, images: int, copies: float, holders: int = 1) -> dict[str, int]:
        """Return the bytes of a training step in one process, by what they hold.

        What kernels take for themselves while they run is not in it.

        Args:
            images: that go through the network at once.
            copies: numbers that the optimizer remembers for each that is trained.
            holders: processes of which each holds a part of every parameter.
        """
        return {
            "weights": self.weights // holders,
            "gradients": self.gradients // holders,
            "optimizer": round(copies * self.gradients / holders),
            "activations": images * self.activations,
        }


def _attention(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
    """Return the operations of attention; torch's counter hands over the shapes."""
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


UNCOUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""Attention as a CPU computes it, which torch's counter does not know."""


def cost(model: nn.Module, side: int, dtype: torch.dtype = torch.float32) -> Cost:
    """Send a few images through a copy of a network and count.

    Args:
        model: lies on a device; its state and torch's random numbers stay as they are.
        side: width and height of the images.
        dtype: of the arithmetic inside the network, as autocast has it.

    Raises:
        InputError: the network cannot take images of that side.
    """
    first = next(model.parameters())
    gpus = [first.device] if first.device.type == "cuda" else []
    found = []
    with torch.random.fork_rng(devices=gpus):
        clone = copy.deepcopy(model).train()
        for count in FEW:
            images = torch.zeros(count, 3, side, side, device=first.device, dtype=first.dtype)
            images = images.contiguous(memory_format=torch.channels_last)
            try:
                found.append(_pass(clone, images, dtype))
            except (RuntimeError, ValueError, AssertionError) as error:
                why = " ".join(str(error).split())[:120]
                raise InputError(
                    f"the model cannot take images of {side} pixels ({why}): give a larger --side, "
                    "or another model"
                ) from error
    (operations, kept), (more_operations, more_kept) = found
    extra = FEW[1] - FEW[0]
    trained = [p for p in model.parameters() if p.requires_grad]
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        parameters=sum(p.numel() for p in trained),
        weights=sum(t.nbytes for t in tensors),
        gradients=sum(p.nbytes for p in trained),
        multiply_adds=(more_operations - operations) // (2 * extra),
        activations=(more_kept - kept) // extra,
    )


def _pass(model: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> tuple[int, int]:
    """Return the operations of one forward pass, and the bytes that it keeps, parameters too."""
    kept: dict[int, torch.UntypedStorage] = {}  # held, or their addresses would be used again

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    low = dtype in (torch.bfloat16, torch.float16)
    with (
        FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter,
        saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(images.device.type, dtype if low else torch.bfloat16, enabled=low),
    ):
        scores = model(images)
    del scores
    return counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values())
