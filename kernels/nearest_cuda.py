"""k nearest neighbours and the cluster distance through ``r3dad._cuda``: outputs, room, the current stream, and pointers handed over."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import _cuda
from r3dad.kernels.cuda_device import why_not_device

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


def cluster_distance(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    """As ``cluster_distance_definition``, for finite coordinates."""
    points, reconstruction = points.contiguous(), reconstruction.contiguous()
    (batch, n, _), m = points.shape, reconstruction.shape[1]
    out = torch.empty((batch, n), dtype=points.dtype, device=points.device)
    near = [torch.empty((batch, count, k), dtype=torch.int32, device=points.device) for count in (n, m)]
    means = torch.empty(3 * batch * (n + m), dtype=points.dtype, device=points.device)
    with torch.cuda.device_of(points):
        stream = torch.cuda.current_stream().cuda_stream
        room = (*(t.data_ptr() for t in near), means.data_ptr())
        _cuda.cluster_distance(
            points.data_ptr(), reconstruction.data_ptr(), batch, n, m, k, *room, out.data_ptr(), stream
        )
    return out


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``knn`` or ``cluster_distance`` are not for these kernels, or None."""
    points, k = args[0], args[2]
    assert isinstance(points, Tensor) and isinstance(k, int)
    if points.dtype != torch.float32:
        return f"takes float32, got {points.dtype}"
    if k > _MOST:
        return f"takes k up to {_MOST}, got {k}"
    return why_not_device(points.device)
