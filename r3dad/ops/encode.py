"""PointNet encoder at inference, batch norms folded into the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r3dad import backends
from r3dad.ops import check

POINTWISE = 4  # layers before the maximum over points; the rest act on the maximum


def encode_definition(points: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Plain PyTorch: ReLU after every layer but the last before the maximum and the last of all."""
    x = points
    for layer, (weight, bias) in enumerate(zip(weights, biases)):
        x = torch.nn.functional.linear(x, weight, bias)
        if layer == POINTWISE - 1:
            x = x.amax(1)
        elif layer < len(weights) - 1:
            x = x.relu()
    return x


@torch.library.custom_op("r3dad::encode", mutates_args=())
def _encode(points: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    return backends.run("encode", points, weights, biases)


@_encode.register_fake
def _(points: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    return points.new_empty((points.shape[0], weights[-1].shape[0]))


def encode(points: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """The latent of each cloud: four pointwise layers, the maximum over points, then the remaining layers (the paper's encoder).

    Args:
        points: [B, N, 3] float32 (float64 in the definition), N >= 1.
        weights: per layer [M_l, K_l], same dtype; K_0 = 3, batch norms folded in (``r3dad.model.PointNetEncoder.folded``).
        biases: per layer [M_l].

    Returns:
        [B, M_last]. Not differentiable (training uses the module).

    Raises:
        ValueError: a shape or dtype is not as above.
    """
    check.clouds("encode", "points", points)
    check.floating("encode", points, *weights, *biases)
    if points.shape[1] == 0:
        raise ValueError("encode: points must hold at least one point per cloud, got none")
    if len(weights) <= POINTWISE or len(weights) != len(biases):
        raise ValueError(
            f"encode: expected more than {POINTWISE} weights and as many biases, got {len(weights)} and {len(biases)}"
        )
    for layer, (weight, bias) in enumerate(zip(weights, biases)):
        width = 3 if layer == 0 else weights[layer - 1].shape[0]
        check.shape("encode", f"weights[{layer}]", weight, f"[M, {width}]", None, width)
        check.shape("encode", f"biases[{layer}]", bias, f"[{weight.shape[0]}]", weight.shape[0])
    return _encode(points.detach(), [w.detach() for w in weights], [b.detach() for b in biases])
