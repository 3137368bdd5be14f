"""Pointwise layers in Triton: concat_squash with its backward, and the encoder with its maximum.

concat_squash: a program owns a tile [POINTS, OUT] of one cloud and walks over the inputs; gate, shift and leaky ReLU on the
accumulator, so the product is never written. Backward: ``dx`` is the same walk over the outputs, with the mask of the leaky ReLU and the
gate applied as the gradient is read; the weight's kernel accumulates ``dy^T x`` of one cloud after the other and takes both the
weight's gradient and the gate's from it. Sums over clouds and tiles are stored apart and added in a fixed order: no atomics.

encode: a program takes a tile of points through all four layers and leaves its maximum; the third layer exists in chunks only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import linear, pad

from r3dad.kernels import configurations
from r3dad.kernels.configurations import padded

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "bfloat16"}  # rows of the table
_POINTWISE, _WIDEST = 4, 512


# One compilation for all sizes of clouds and batches.
@triton.jit(do_not_specialize=["N"])
def layer_forward(
    x_ptr, weight_ptr, bias_ptr, gate_ptr, shift_ptr, out_ptr, N, slope, K: tl.constexpr, M: tl.constexpr,
    POINTS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """x [B, N, K], weight [M, K], bias [M], gate, shift [B, M], out [B, N, M]."""
    tiles = tl.cdiv(N, POINTS)
    cloud = (tl.program_id(0) // tiles).to(tl.int64)
    point = (tl.program_id(0) % tiles) * POINTS + tl.arange(0, POINTS)
    m = tl.program_id(1) * OUT + tl.arange(0, OUT)
    row = cloud * N + point
    total = tl.zeros((POINTS, OUT), tl.float32)
    for first in range(0, K, IN):
        k = first + tl.arange(0, IN)
        x = tl.load(x_ptr + row[:, None] * K + k[None, :], mask=(point < N)[:, None] & (k < K)[None, :], other=0.0)
        w = tl.load(weight_ptr + m[None, :] * K + k[:, None], mask=(m < M)[None, :] & (k < K)[:, None], other=0.0)
        total = tl.dot(x, w, total, input_precision=DOT)
    bias = tl.load(bias_ptr + m, mask=m < M, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + cloud * M + m, mask=m < M, other=0.0).to(tl.float32)
    shift = tl.load(shift_ptr + cloud * M + m, mask=m < M, other=0.0).to(tl.float32)
    y = (total + bias[None, :]) * gate[None, :] + shift[None, :]
    y = tl.where(y > 0, y, slope * y)
    to = out_ptr + row[:, None] * M + m[None, :]
    tl.store(to, y.to(out_ptr.dtype.element_ty), mask=(point < N)[:, None] & (m < M)[None, :])


@triton.jit(do_not_specialize=["N"])
def layer_backward_input(
    grad_ptr, output_ptr, weight_ptr, gate_ptr, dx_ptr, N, slope, K: tl.constexpr, M: tl.constexpr,
    POINTS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """dx [B, N, K] = (dy * gate) W; here OUT tiles the inputs K, and IN walks over the outputs M."""
    tiles = tl.cdiv(N, POINTS)
    cloud = (tl.program_id(0) // tiles).to(tl.int64)
    point = (tl.program_id(0) % tiles) * POINTS + tl.arange(0, POINTS)
    k = tl.program_id(1) * OUT + tl.arange(0, OUT)
    row = cloud * N + point
    total = tl.zeros((POINTS, OUT), tl.float32)
    for first in range(0, M, IN):
        m = first + tl.arange(0, IN)
        at = row[:, None] * M + m[None, :]
        inside = (point < N)[:, None] & (m < M)[None, :]
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32)
        output = tl.load(output_ptr + at, mask=inside, other=0.0).to(tl.float32)
        gate = tl.load(gate_ptr + cloud * M + m, mask=m < M, other=0.0).to(tl.float32)
        dy = tl.where(output > 0, grad, slope * grad) * gate[None, :]
        w = tl.load(weight_ptr + m[:, None] * K + k[None, :], mask=(m < M)[:, None] & (k < K)[None, :], other=0.0)
        total = tl.dot(dy.to(weight_ptr.dtype.element_ty), w, total, input_precision=DOT)
    to = dx_ptr + row[:, None] * K + k[None, :]
    tl.store(to, total.to(dx_ptr.dtype.element_ty), mask=(point < N)[:, None] & (k < K)[None, :])


@triton.jit(do_not_specialize=["B", "N", "CLOUDS"])
def layer_backward_weight(
    grad_ptr, output_ptr, x_ptr, weight_ptr, gate_ptr, dweight_ptr, dgate_ptr, dshift_ptr, B, N, slope, CLOUDS,
    K: tl.constexpr, M: tl.constexpr, POINTS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Shares, float32: dweight [splits of the clouds, M, K], dgate [tiles of K, B, M] without the bias; and dshift [B, M] whole."""
    m = tl.program_id(0) * OUT + tl.arange(0, OUT)
    k = tl.program_id(1) * IN + tl.arange(0, IN)
    at_weight = m[:, None] * K + k[None, :]
    inside_weight = (m < M)[:, None] & (k < K)[None, :]
    weight = tl.load(weight_ptr + at_weight, mask=inside_weight, other=0.0).to(tl.float32)
    total = tl.zeros((OUT, IN), tl.float32)
    first = tl.program_id(2) * CLOUDS
    for b in range(first, tl.minimum(first + CLOUDS, B)):
        cloud = tl.cast(b, tl.int64)
        product = tl.zeros((OUT, IN), tl.float32)
        dshift = tl.zeros((OUT,), tl.float32)
        for n in range(0, N, POINTS):
            point = n + tl.arange(0, POINTS)
            row = cloud * N + point
            at = row[None, :] * M + m[:, None]
            inside = (m < M)[:, None] & (point < N)[None, :]
            grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32)
            output = tl.load(output_ptr + at, mask=inside, other=0.0).to(tl.float32)
            dy = tl.where(output > 0, grad, slope * grad)
            dshift += tl.sum(dy, 1)
            x = tl.load(x_ptr + row[:, None] * K + k[None, :], mask=(point < N)[:, None] & (k < K)[None, :], other=0.0)
            product = tl.dot(dy.to(x_ptr.dtype.element_ty), x, product, input_precision=DOT)
        gate = tl.load(gate_ptr + cloud * M + m, mask=m < M, other=0.0).to(tl.float32)
        total += product * gate[:, None]
        to = (tl.program_id(1) * B + cloud) * M + m
        tl.store(dgate_ptr + to, tl.sum(product * weight, 1), mask=m < M)
        if tl.program_id(1) == 0:
            tl.store(dshift_ptr + cloud * M + m, dshift, mask=m < M)
    share = tl.program_id(2).to(tl.int64) * M * K
    tl.store(dweight_ptr + share + at_weight, total, mask=inside_weight)


@triton.jit(do_not_specialize=["N"])
def encode_tile(
    points_ptr, first_ptr, b1_ptr, w2_ptr, b2_ptr, w3_ptr, b3_ptr, w4_ptr, b4_ptr, out_ptr, N,
    D1: tl.constexpr, D2: tl.constexpr, D3: tl.constexpr, D4: tl.constexpr,
    POINTS: tl.constexpr, SLICE: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """points [B, N, 3], first [3, D1], w2 ... w4 [out, in] -> each tile's maximum over its points, [B, tiles, D4]."""
    tiles = tl.cdiv(N, POINTS)
    cloud = (tl.program_id(0) // tiles).to(tl.int64)
    point = (tl.program_id(0) % tiles) * POINTS + tl.arange(0, POINTS)
    inside = point < N
    row = (cloud * N + point) * 3
    x0 = tl.load(points_ptr + row, mask=inside, other=0.0)
    x1 = tl.load(points_ptr + row + 1, mask=inside, other=0.0)
    x2 = tl.load(points_ptr + row + 2, mask=inside, other=0.0)
    m2 = tl.arange(0, D2)
    m4 = tl.arange(0, D4)
    sum2 = tl.zeros((POINTS, D2), tl.float32)
    for c in range(0, D1, SLICE):
        m1 = c + tl.arange(0, SLICE)
        h1 = (
            x0[:, None] * tl.load(first_ptr + m1)[None, :]
            + x1[:, None] * tl.load(first_ptr + D1 + m1)[None, :]
            + x2[:, None] * tl.load(first_ptr + 2 * D1 + m1)[None, :]
        )
        h1 = tl.maximum(h1 + tl.load(b1_ptr + m1)[None, :], 0.0)
        sum2 = tl.dot(h1, tl.load(w2_ptr + m2[None, :] * D1 + m1[:, None]), sum2, input_precision=DOT)
    h2 = tl.maximum(sum2 + tl.load(b2_ptr + m2)[None, :], 0.0)
    sum4 = tl.zeros((POINTS, D4), tl.float32)
    for c in range(0, D3, CHUNK):
        m3 = c + tl.arange(0, CHUNK)
        h3 = tl.dot(h2, tl.load(w3_ptr + m3[None, :] * D2 + m2[:, None]), input_precision=DOT)
        h3 = tl.maximum(h3 + tl.load(b3_ptr + m3)[None, :], 0.0)
        sum4 = tl.dot(h3, tl.load(w4_ptr + m4[None, :] * D3 + m3[:, None]), sum4, input_precision=DOT)
    top = tl.max(tl.where(inside[:, None], sum4, float("-inf")), 0) + tl.load(b4_ptr + m4)
    tl.store(out_ptr + tl.program_id(0).to(tl.int64) * D4 + m4, top)


def _dot(dtype: torch.dtype) -> str:
    return "tf32x3" if dtype == torch.float32 else "tf32"  # the latter is not looked at for 16-bit operands


@configurations.on_device
def concat_squash(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor, negative_slope: float
) -> Tensor:
    """As ``concat_squash_definition``, accumulated in float32."""
    x, weight, gate, shift = x.contiguous(), weight.contiguous(), gate.contiguous(), shift.contiguous()
    (batch, points, inputs), outputs = x.shape, weight.shape[0]
    out = torch.empty((batch, points, outputs), dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    config = configurations.choose("layer_forward", _NAMES[x.dtype], x.device)
    tile = config.sizes | {
        "OUT": min(config.sizes["OUT"], padded(outputs)),
        "IN": min(config.sizes["IN"], padded(inputs)),
    }
    grid = (batch * triton.cdiv(points, tile["POINTS"]), triton.cdiv(outputs, tile["OUT"]))
    layer_forward[grid](
        x, weight, bias.contiguous(), gate, shift, out, points, negative_slope, inputs, outputs,
        **tile, DOT=_dot(x.dtype), num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out


@configurations.on_device
def concat_squash_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, output: Tensor, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As ``concat_squash_backward_definition``, accumulated in float32."""
    grad, output, gate = grad.contiguous(), output.contiguous(), gate.contiguous()
    x, weight = x.contiguous(), weight.contiguous()
    (batch, points, inputs), outputs = x.shape, weight.shape[0]
    dx = torch.zeros_like(x)
    if grad.numel() == 0 or x.numel() == 0:
        return dx, torch.zeros_like(weight), torch.zeros_like(bias), torch.zeros_like(gate), torch.zeros_like(gate)
    config = configurations.choose("layer_backward_input", _NAMES[x.dtype], x.device)
    tile = config.sizes | {
        "OUT": min(config.sizes["OUT"], padded(inputs)),
        "IN": min(config.sizes["IN"], padded(outputs)),
    }
    layer_backward_input[(batch * triton.cdiv(points, tile["POINTS"]), triton.cdiv(inputs, tile["OUT"]))](
        grad, output, weight, gate, dx, points, negative_slope, inputs, outputs,
        **tile, DOT=_dot(x.dtype), num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    config = configurations.choose("layer_backward_weight", _NAMES[x.dtype], x.device)
    sizes = dict(config.sizes)
    clouds = -(-batch // sizes.pop("SPLITS"))
    tile = sizes | {"OUT": min(sizes["OUT"], padded(outputs)), "IN": min(sizes["IN"], padded(inputs))}
    grid = (triton.cdiv(outputs, tile["OUT"]), triton.cdiv(inputs, tile["IN"]), -(-batch // clouds))
    dweight = torch.empty((grid[2], outputs, inputs), dtype=torch.float32, device=x.device)
    dgate = torch.empty((grid[1], batch, outputs), dtype=torch.float32, device=x.device)
    dshift = torch.empty((batch, outputs), dtype=torch.float32, device=x.device)
    layer_backward_weight[grid](
        grad, output, x, weight, gate, dweight, dgate, dshift, batch, points, negative_slope, clouds, inputs, outputs,
        **tile, DOT=_dot(x.dtype), num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    dweights, dbias, dgates = dweight.sum(0), (dshift * gate).sum(0), dgate.sum(0) + dshift * bias
    return dx, dweights.to(x.dtype), dbias.to(x.dtype), dgates.to(x.dtype), dshift.to(x.dtype)


@configurations.on_device
def encode(points: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """As ``encode_definition``."""
    batch, count, _ = points.shape
    if batch == 0:
        return points.new_empty((0, weights[-1].shape[0]))
    widths = [w.shape[0] for w in weights[:_POINTWISE]]
    sizes = [padded(w) for w in widths]
    b = [pad(v, (0, size - len(v))) for v, size in zip(biases, sizes)]
    w = [pad(v, (0, k - v.shape[1], 0, m - v.shape[0])).contiguous() for v, k, m in zip(weights[1:], sizes, sizes[1:])]
    first = pad(weights[0], (0, 0, 0, sizes[0] - widths[0])).T.contiguous()
    config = configurations.choose("encode", "float32", points.device)
    tile = config.sizes | {"SLICE": min(config.sizes["SLICE"], sizes[0]), "CHUNK": min(config.sizes["CHUNK"], sizes[2])}
    tiles = triton.cdiv(count, tile["POINTS"])
    top = torch.empty((batch, tiles, sizes[3]), dtype=points.dtype, device=points.device)
    encode_tile[(batch * tiles,)](
        points.contiguous(), first, b[0], w[0], b[1], w[1], b[2], w[2], b[3], top, count, *sizes,
        **tile, DOT="ieee", num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    x = top.amax(1)[:, : widths[3]]
    for i in range(_POINTWISE, len(weights)):
        x = linear(x, weights[i], biases[i])
        x = x.relu() if i < len(weights) - 1 else x
    return x


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``concat_squash``, its backward or ``encode`` are not for these kernels, or None."""
    tensor = args[0]
    assert isinstance(tensor, Tensor)
    taken = (torch.float32,) if op == "encode" else tuple(_NAMES)
    if tensor.dtype not in taken:
        return f"takes {' or '.join(str(t).removeprefix('torch.') for t in taken)}, got {tensor.dtype}"
    if op == "encode":
        weights = args[1]
        assert isinstance(weights, (list, tuple))
        widest = max(w.shape[0] for w in weights[:_POINTWISE])
        if widest > _WIDEST:
            return f"takes layers up to {_WIDEST} wide, got {widest}"
    return configurations.why_not_device(tensor.device)
