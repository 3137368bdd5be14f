"""Weighted mean over neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import backends
from r3dad.ops import check
from r3dad.ops.messages import BLOCK, take

LEAST = 1e-6
"""The sum of weights is taken for this at least."""


def neighbour_mean_definition(values: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Plain PyTorch, block by block."""
    means = [values.new_empty((0, values.shape[1]))]
    for j, w in zip(index.split(BLOCK), weights.split(BLOCK)):
        means.append((w[..., None] * take(values, j)).sum(1) / w.sum(1, keepdim=True).clamp_min(LEAST))
    return torch.cat(means)


@torch.library.custom_op("r3dad::neighbour_mean", mutates_args=())
def _neighbour_mean(values: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    return backends.run("neighbour_mean", values, index, weights)


@_neighbour_mean.register_fake
def _(values, index, weights):
    return values.new_empty((index.shape[0], values.shape[1]))


def neighbour_mean(values: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """``sum w values[j] / sum w`` over the k neighbours j of each point; a sum of weights below 1e-6 counts as that.

    Args:
        values: [N, C] float32 or float64.
        index: [Q, k] int64, k >= 1.
        weights: [Q, k], dtype and device of the values, not negative.

    Returns:
        [Q, C]. Not differentiable.

    Raises:
        ValueError: a shape or dtype is not as above.
    """
    op = "neighbour_mean"
    check.shape(op, "values", values, "[N, C]", None, None)
    check.index(op, index)
    check.shape(op, "weights", weights, f"{list(index.shape)}", *index.shape)
    check.floating(op, values, weights, only=("torch.float32", "torch.float64"))
    return _neighbour_mean(values.detach(), index, weights.detach())
