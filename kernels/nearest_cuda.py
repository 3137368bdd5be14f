"""k nearest neighbours through ``r3dad._cuda``: outputs, the current stream, and pointers handed over."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import _cuda

_MOST = 512


def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``knn_definition``, for finite coordinates."""
    query, reference = query.contiguous(), reference.contiguous()
    (batch, queries, _), points = query.shape, reference.shape[1]
    distances = torch.empty((batch, queries, k), dtype=query.dtype, device=query.device)
    indices = torch.empty((batch, queries, k), dtype=torch.int64, device=query.device)
    with torch.cuda.device_of(query):
        stream = torch.cuda.current_stream().cuda_stream
        outputs = distances.data_ptr(), indices.data_ptr()
        _cuda.knn(query.data_ptr(), reference.data_ptr(), batch, queries, points, k, *outputs, stream)
    return distances, indices


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``knn`` are not for this kernel, or None."""
    query, k = args[0], args[2]
    assert isinstance(query, Tensor) and isinstance(k, int)
    if query.dtype != torch.float32:
        return f"takes float32, got {query.dtype}"
    if k > _MOST:
        return f"takes k up to {_MOST}, got {k}"
    return None if _cuda.devices() else "finds no usable GPU"
