"""Patch-Gen's patches through ``r3dad._cuda``, one launch for a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import _cuda
from r3dad.kernels.cuda_device import why_not_device

_MOST = 2048
_KINDS = {None: -1, "sink": 0, "bulge": 1, "damage": 2}


def displace_patch(
    good: Tensor, seeds: Tensor, moved: int, scale: float, draw: str, kind: str | None
) -> tuple[Tensor, Tensor]:
    """As ``displace_patch_definition``, for finite coordinates."""
    good, seeds = good.contiguous(), seeds.contiguous()
    batch, points, _ = good.shape
    defective = torch.empty((batch, points, 3), dtype=good.dtype, device=good.device)
    mask = torch.empty((batch, points), dtype=torch.bool, device=good.device)
    with torch.cuda.device_of(good):
        stream = torch.cuda.current_stream().cuda_stream
        options = moved, scale, draw == "gaussian", _KINDS[kind]
        outputs = defective.data_ptr(), mask.data_ptr()
        _cuda.displace_patch(good.data_ptr(), seeds.data_ptr(), batch, points, *options, *outputs, stream)
    return defective, mask


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``displace_patch`` are not for this kernel, or None."""
    good, moved = args[0], args[2]
    assert isinstance(good, Tensor) and isinstance(moved, int)
    if good.dtype != torch.float32:
        return f"takes float32, got {good.dtype}"
    if moved > _MOST:
        return f"moves up to {_MOST} points, got {moved}"
    return why_not_device(good.device)
