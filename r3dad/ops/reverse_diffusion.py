"""The whole reverse process of the decoder as one operation (Alg. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r3dad import backends, philox
from r3dad.ops import check

PRECISIONS = ("float32", "bfloat16", "int8")


def quantised_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [M, K] -> integers [M, K] in -127..127 (as floats) and the scale [M] of each row."""
    most = weight.abs().amax(1)
    inverse = torch.where(most > 0, 127 / most, 0)
    return torch.round(weight * inverse[:, None]), most / 127


def quantised_product(h: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
    """h [..., K] times the transpose of a `quantised_weight`, h in 256 steps from the least to the largest of each row and 0."""
    low, high = h.amin(-1, keepdim=True).clamp_max(0), h.amax(-1, keepdim=True).clamp_min(0)
    inverse = torch.where(high > low, 255 / (high - low), 0)
    steps = torch.round((h - low) * inverse)
    return ((steps @ integers.T) * ((high - low) / 255) + low * integers.sum(1)) * scale


def reverse_diffusion_definition(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate_time: Tensor,
    gate_shape: Tensor,
    shift_time: Tensor,
    shift_shape: Tensor,
    coefficients: Tensor,
    start: Tensor,
    seeds: Tensor,
    condition: Tensor | None,
    negative_slope: float,
    precision: str,
) -> Tensor:
    """Plain PyTorch: a loop over steps and layers."""
    low = torch.bfloat16 if precision == "bfloat16" else start.dtype
    bytes_ = [quantised_weight(w) for w in weights[1:-1]] if precision == "int8" else []
    widths = [w.shape[0] for w in weights]
    last = len(weights) - 1
    # The condition does not change over the steps: its share of the first layer is computed once.
    share = torch.zeros_like(start[..., :1]) if condition is None else condition @ weights[0][:, 3:].T
    x = start
    for step, (a, b, sigma) in enumerate(coefficients.unbind(0)):
        gates = torch.sigmoid(gate_time[step] + gate_shape)[:, None, :].split(widths, -1)
        shifts = (shift_time[step] + shift_shape)[:, None, :].split(widths, -1)
        h = x
        for layer, (weight, bias) in enumerate(zip(weights, biases)):
            if layer == 0:
                y = h @ weight[:, :3].T + share
            elif layer < last and precision == "int8":
                y = quantised_product(h, *bytes_[layer - 1])
            elif layer < last:
                y = (h.to(low) @ weight.to(low).T).to(start.dtype)
            else:
                y = h @ weight.T
            y = (y + bias) * gates[layer] + shifts[layer]
            h = y if layer == last else torch.where(y > 0, y, negative_slope * y)
        x = a * x + b * (x + h)
        if bool(sigma != 0):
            x = x + sigma * philox.normal(seeds, start.shape[1], step + 1).to(start.dtype)
    return x


@torch.library.custom_op("r3dad::reverse_diffusion", mutates_args=())
def _reverse_diffusion(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate_time: Tensor,
    gate_shape: Tensor,
    shift_time: Tensor,
    shift_shape: Tensor,
    coefficients: Tensor,
    start: Tensor,
    seeds: Tensor,
    condition: Tensor | None,
    negative_slope: float,
    precision: str,
) -> Tensor:
    args = (
        weights,
        biases,
        gate_time,
        gate_shape,
        shift_time,
        shift_shape,
        coefficients,
        start,
        seeds,
        condition,
        negative_slope,
        precision,
    )
    result = backends.run("reverse_diffusion", *args)
    return result.clone() if result is start else result  # zero steps; an operator may not return its argument


@_reverse_diffusion.register_fake
def _(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate_time: Tensor,
    gate_shape: Tensor,
    shift_time: Tensor,
    shift_shape: Tensor,
    coefficients: Tensor,
    start: Tensor,
    seeds: Tensor,
    condition: Tensor | None,
    negative_slope: float,
    precision: str,
) -> Tensor:
    return start.new_empty(start.shape)


def reverse_diffusion(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate_time: Tensor,
    gate_shape: Tensor,
    shift_time: Tensor,
    shift_shape: Tensor,
    coefficients: Tensor,
    start: Tensor,
    seeds: Tensor,
    condition: Tensor | None = None,
    negative_slope: float = 0.01,
    precision: str = "float32",
) -> Tensor:
    """All steps of all layers of the decoder, from start noise to displacement. Per step s, with ``e = x + net(x)``::

        gate = sigmoid(gate_time[s] + gate_shape[b]);  shift = shift_time[s] + shift_shape[b]
        net: h <- leaky_relu((W h + bias) * gate + shift), no activation after the last layer
        x <- coefficients[s, 0] * x + coefficients[s, 1] * e + coefficients[s, 2] * z_s

    ``z_s = philox.normal(seeds, N, s + 1)``. Which sampler that is (Alg. 3 of the paper, deterministic, few steps) is the coefficients'
    business: ``r3dad.diffusion``.

    Args:
        weights: per layer [M_l, K_l] float32; the first [M_0, 3 + F] with F the width of ``condition``, the last [3, K].
        biases: per layer [M_l].
        gate_time, shift_time: [S, D] with D the sum of all M_l; the time's share of gate (before the sigmoid) and shift.
        gate_shape, shift_shape: [B, D]; the latent's share.
        coefficients: [S, 3] float32.
        start: [B, N, 3] start noise.
        seeds: [B] int64, the key of each cloud's noise.
        condition: [B, N, F] per point and constant over the steps, or None.
        negative_slope: of the leaky ReLU, >= 0.
        precision: the coarsest products that the layers between the first and the last may take: ``"float32"``, ``"bfloat16"``, or
            ``"int8"`` (activations in 256 steps over the range of each point, weights in 255 over that of each output). A backend
            without such products takes finer ones. Everything else (state, first and last layer, gates, accumulation) is float32.

    Returns:
        Displacement [B, N, 3]. Not differentiable.

    Raises:
        ValueError: a shape, dtype or option is not as above.
    """
    op = "reverse_diffusion"
    check.clouds(op, "start", start)
    batch, points, _ = start.shape
    if len(weights) < 2 or len(weights) != len(biases):
        raise ValueError(f"{op}: expected at least 2 weights and as many biases, got {len(weights)} and {len(biases)}")
    width = 3
    if condition is not None:
        check.shape(op, "condition", condition, f"[{batch}, {points}, F]", batch, points, None)
        width += condition.shape[2]
    for layer, (weight, bias) in enumerate(zip(weights, biases)):
        out = 3 if layer == len(weights) - 1 else None
        check.shape(op, f"weights[{layer}]", weight, f"[{out or 'M'}, {width}]", out, width)
        width = weight.shape[0]
        check.shape(op, f"biases[{layer}]", bias, f"[{width}]", width)
    total, steps = sum(w.shape[0] for w in weights), coefficients.shape[0]
    check.shape(op, "coefficients", coefficients, "[S, 3]", None, 3)
    for name, tensor, rows in (
        ("gate_time", gate_time, steps),
        ("shift_time", shift_time, steps),
        ("gate_shape", gate_shape, batch),
        ("shift_shape", shift_shape, batch),
    ):
        check.shape(op, name, tensor, f"[{rows}, {total}]", rows, total)
    check.shape(op, "seeds", seeds, f"[{batch}]", batch)
    if str(seeds.dtype) != "torch.int64":
        raise ValueError(f"{op}: seeds must be int64, got {seeds.dtype}")
    tensors = [*weights, *biases, gate_time, gate_shape, shift_time, shift_shape, coefficients, start]
    tensors += [] if condition is None else [condition]
    check.floating(op, *tensors, only=("torch.float32", "torch.float64"))
    if precision not in PRECISIONS:
        raise ValueError(f"{op}: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if negative_slope < 0:
        raise ValueError(f"{op}: negative_slope must be >= 0, got {negative_slope}")
    with torch.no_grad():
        return _reverse_diffusion(
            [w.detach() for w in weights],
            [b.detach() for b in biases],
            gate_time.detach(),
            gate_shape.detach(),
            shift_time.detach(),
            shift_shape.detach(),
            coefficients.detach(),
            start.detach(),
            seeds,
            None if condition is None else condition.detach(),
            float(negative_slope),
            precision,
        )
