"""Tensors seen as vectors, without a copy, where they lie alike in memory. It rests on torch."""

from collections.abc import Sequence

import torch


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """View a complex tensor as pairs of real numbers; return any other as it is."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def flat_views(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """Return tensors of one shape as vectors whose entries are in the same order, sharing memory.

    ``None`` if they lie differently (one in ``channels_last``, one not), or with gaps.
    """
    first = tensors[0]
    formats = [torch.contiguous_format]
    if first.dim() in (4, 5):
        formats.append(torch.channels_last if first.dim() == 4 else torch.channels_last_3d)
    for memory_format in formats:
        if all(t.is_contiguous(memory_format=memory_format) for t in tensors):
            return [t.as_strided((t.numel(),), (1,)) for t in tensors]
    return None
