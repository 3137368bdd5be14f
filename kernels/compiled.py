"""The operations on the CPU through ``r3dad._cpu``: checks, outputs, and pointers handed over.

Results depend neither on the number of threads (``torch.get_num_threads()``) nor on the order of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from r3dad import _cpu

_MAX_K = 512


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    flat = (x for arg in args for x in (arg if isinstance(arg, (list, tuple)) else (arg,)))
    return [x for x in flat if isinstance(x, Tensor)]


def _finite(*tensors: Tensor) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)


def _knn_limits(query: Tensor, reference: Tensor, k: int) -> str | None:
    if k > _MAX_K:
        return f"k={k} > {_MAX_K}"
    if max(query.shape[1], reference.shape[1]) >= 2**31:
        return "more than 2^31 points"
    return None if _finite(query, reference) else "points are not all finite"


_LIMITS = {"knn": _knn_limits}


def why_not(op: str, *args: Any) -> str | None:
    """Why the CPU kernels cannot take these arguments, in words; None when they can."""
    for tensor in _tensors(args):
        if tensor.device.type != "cpu":
            return f"needs tensors on the CPU, got {tensor.device}"
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            return f"needs float32, got {tensor.dtype}"
        if tensor.layout != torch.strided:
            return f"needs dense tensors, got {tensor.layout}"
    limits = _LIMITS.get(op)
    return limits(*args) if limits else None


def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See :func:`r3dad.ops.knn`; bit for bit equal to its definition."""
    same = query.data_ptr() == reference.data_ptr() and query.stride() == reference.stride()
    reference = reference.contiguous()
    query = reference if same and query.shape == reference.shape else query.contiguous()
    batch, queries, _ = query.shape
    distances = query.new_empty((batch, queries, k))
    indices = query.new_empty((batch, queries, k), dtype=torch.int64)
    _cpu.knn(
        *(query.data_ptr(), reference.data_ptr(), batch, queries, reference.shape[1], k),
        *(distances.data_ptr(), indices.data_ptr(), torch.get_num_threads()),
    )
    return distances, indices
