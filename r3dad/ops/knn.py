"""k nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import backends
from r3dad.ops import check

_CHUNK = 1 << 24  # distances held at a time


def knn_definition(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Plain PyTorch: all distances by direct difference, a stable sort (ties to the smaller index)."""
    rows = max(1, _CHUNK // max(reference.shape[1], 1))
    distances, indices = [], []
    for cloud, other in zip(query, reference):
        for part in cloud.split(rows):
            squared = (part[:, None, :] - other[None, :, :]).square().sum(-1)
            value, index = squared.sort(dim=-1, stable=True)
            distances.append(value[:, :k].clone())
            indices.append(index[:, :k].clone())
    shape = (*query.shape[:2], k)
    if not distances:
        return query.new_empty(shape), torch.empty(shape, dtype=torch.int64, device=query.device)
    return torch.cat(distances).reshape(shape), torch.cat(indices).reshape(shape)


@torch.library.custom_op("r3dad::knn", mutates_args=())
def _knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return backends.run("knn", query, reference, k)


@_knn.register_fake
def _(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (query.shape[0], query.shape[1], k)
    return query.new_empty(shape), query.new_empty(shape, dtype=torch.int64)


def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest reference points of every query point, by Euclidean distance.

    Args:
        query: [B, Q, 3] float32 or float64.
        reference: [B, R, 3], same dtype and device.
        k: 1 <= k <= R.

    Returns:
        Squared distances [B, Q, k] and indices [B, Q, k] int64, ascending; ties go to the smaller index. Not differentiable.

    Raises:
        ValueError: a shape, dtype or ``k`` is not as above.
    """
    check.clouds("knn", "query", query)
    check.shape("knn", "reference", reference, "[B, R, 3] with the query's B", query.shape[0], None, 3)
    check.floating("knn", query, reference, only=("torch.float32", "torch.float64"))
    check.neighbours("knn", k, reference.shape[1])
    return _knn(query.detach(), reference.detach(), k)
