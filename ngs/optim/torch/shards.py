"""Tensors of which a process holds a part (DTensors), and sums over all the processes.

It rests on torch alone. A DTensor is known by its method ``to_local``: that costs an ordinary
tensor next to nothing, and works where torch was built without ``torch.distributed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import torch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.tensor import DTensor


def is_distributed(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Return whether a tensor is a DTensor, which may be cut over the processes."""
    return hasattr(tensor, "to_local")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of a tensor, in the same memory; all of an ordinary one.

    It is called without autograd.
    """
    return tensor.to_local() if is_distributed(tensor) else tensor


def local_gradient(param: DTensor, grad: torch.Tensor) -> torch.Tensor:
    """Return this process's part of the gradient, cut as the parameter is.

    With tensor parallelism a gradient may be cut in another way, or be still to be summed.
    """
    if is_distributed(grad) and grad.placements != param.placements:
        grad = grad.redistribute(param.device_mesh, param.placements)
    return local(grad)


def add_up(tensors: Sequence[torch.Tensor], columns: Sequence[list[float]]) -> None:
    """Add, in place, what each process has found for its parts of the tensors.

    There is one collective for each dimension of a device mesh over which a tensor is cut, for all
    tensors together. What every process holds in full is not added: it has been counted once.

    Args:
        tensors: DTensors or others, in the same order on every process.
        columns: lists with a number for each of them.
    """
    places: dict[tuple[ProcessGroup, str], list[int]] = {}
    for place, tensor in enumerate(tensors):
        if not is_distributed(tensor):
            continue
        mesh = tensor.device_mesh
        for dimension, placement in enumerate(tensor.placements):
            if not placement.is_replicate():
                key = (mesh.get_group(dimension), mesh.device_type)
                places.setdefault(key, []).append(place)
    for (group, device), cut in places.items():
        rows = [[column[place] for column in columns] for place in cut]
        numbers = torch.tensor(rows, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(numbers, group=group)
        for place, row in zip(cut, numbers.tolist(), strict=True):
            for column, number in zip(columns, row, strict=True):
                column[place] = number
