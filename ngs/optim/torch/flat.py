"""Tensors seen as vectors, without a copy, where they lie alike in memory. It rests on torch."""

from collections.abc import Sequence

import torch


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """View a complex tensor as pairs of real numbers; return any other as it is."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def alike_in_memory(tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor] | None:
    """Return tensors of one shape such that all walk through their entries in the same order.

    They are the tensors themselves if they are contiguous, and vectors that share their memory if
    they are all in ``channels_last``. ``None`` if they lie differently, or with gaps.
    """
    if all(t.is_contiguous() for t in tensors):
        return tensors
    dimensions = tensors[0].dim()
    if dimensions not in CHANNELS_LAST:
        return None
    memory_format = CHANNELS_LAST[dimensions]
    if all(t.is_contiguous(memory_format=memory_format) for t in tensors):
        return [t.as_strided((t.numel(),), (1,)) for t in tensors]
    return None


CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
