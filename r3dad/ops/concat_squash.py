"""One concat-squash layer (the paper's decoder), with its backward."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import backends
from r3dad.ops import check


def concat_squash_definition(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor, negative_slope: float
) -> Tensor:
    """Plain PyTorch."""
    y = torch.nn.functional.linear(x, weight, bias) * gate[:, None, :] + shift[:, None, :]
    return torch.where(y > 0, y, negative_slope * y)


def concat_squash_backward_definition(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, output: Tensor, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias, gate, shift.

    The product before the gate is not kept: with ``P_b = dy_b^T x_b`` [M, K] both the weight's gradient (sum of gate_b P_b) and the
    gate's (row sums of P_b * weight) follow from one batched product.
    """
    dy = torch.where(output > 0, grad, negative_slope * grad)
    product = dy.transpose(1, 2) @ x
    dshift = dy.sum(1)
    dgate = (product * weight).sum(-1) + dshift * bias
    dweight = (product * gate[..., None]).sum(0)
    dbias = (dshift * gate).sum(0)
    dx = (dy * gate[:, None, :]) @ weight
    return dx, dweight, dbias, dgate, dshift


@torch.library.custom_op("r3dad::concat_squash", mutates_args=())
def _concat_squash(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor, negative_slope: float
) -> Tensor:
    return backends.run("concat_squash", x, weight, bias, gate, shift, negative_slope)


@_concat_squash.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor, negative_slope: float) -> Tensor:
    return x.new_empty((*x.shape[:2], weight.shape[0]))


@torch.library.custom_op("r3dad::concat_squash_backward", mutates_args=())
def _concat_squash_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, output: Tensor, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return backends.run("concat_squash_backward", grad, x, weight, bias, gate, output, negative_slope)


@_concat_squash_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, output: Tensor, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(t.new_empty(t.shape) for t in (x, weight, bias, gate, gate))  # type: ignore[return-value]


def _save(ctx, inputs, output) -> None:
    x, weight, bias, gate, _, ctx.negative_slope = inputs
    ctx.save_for_backward(x, weight, bias, gate, output)


def _backward(ctx, grad):
    x, weight, bias, gate, output = ctx.saved_tensors
    # The gradient of a sum arrives expanded, with stride 0.
    return *_concat_squash_backward(grad.contiguous(), x, weight, bias, gate, output, ctx.negative_slope), None


_concat_squash.register_autograd(_backward, setup_context=_save)


def concat_squash(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor, negative_slope: float = 0.01
) -> Tensor:
    """``leaky_relu((x W^T + b) * gate + shift)``: one layer of the decoder, gate and shift constant over a cloud.

    Args:
        x: [B, N, K] floating.
        weight: [M, K]; bias: [M]; same dtype and device.
        gate: [B, M], after the sigmoid; shift: [B, M].
        negative_slope: >= 0; 1 for a layer without activation.

    Returns:
        [B, N, M], in the autocast dtype within an autocast region. Differentiable in the first five arguments.

    Raises:
        ValueError: a shape, dtype or slope is not as above.
    """
    op = "concat_squash"
    x, weight, bias, gate, shift = _autocast(x, weight, bias, gate, shift)
    check.shape(op, "x", x, "[B, N, K]", None, None, None)
    check.shape(op, "weight", weight, f"[M, {x.shape[2]}]", None, x.shape[2])
    check.shape(op, "bias", bias, f"[{weight.shape[0]}]", weight.shape[0])
    check.shape(op, "gate", gate, f"[{x.shape[0]}, {weight.shape[0]}]", x.shape[0], weight.shape[0])
    check.shape(op, "shift", shift, f"[{x.shape[0]}, {weight.shape[0]}]", x.shape[0], weight.shape[0])
    check.floating(op, x, weight, bias, gate, shift)
    if negative_slope < 0:
        raise ValueError(f"{op}: negative_slope must be >= 0, got {negative_slope}")
    return _concat_squash(x, weight, bias, gate, shift, float(negative_slope))


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Mixed precision as PyTorch's own linear layers have it: in an autocast region, products in its dtype."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(t.to(torch.get_autocast_dtype(device)) for t in tensors)
