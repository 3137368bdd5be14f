"""The whole reverse process of the decoder in one persistent Triton kernel.

A program owns a tile of points of one cloud and keeps their state in registers through all layers of all steps; only weights and
one row of gates a step are read, from L2. The widest layer never exists: it is computed in chunks of columns, each at once
multiplied into the next layer::

    3 -> D1 -> D2      slices of D1;  the first layer on the plain cores, in float32
    D2 -> D3 -> D4     chunks of D3
    D4 -> D5 -> 3      slices of D5;  the last layer as three row sums, in float32

A point costs 2 * sum(K_l * M_l) operations a step (0.66 MFLOP for the paper's widths) and no memory traffic but the tile's share of the
weights (655 kB in bfloat16 per tile and step). What was tried and rejected: docs/kernels-gpu.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from r3dad.kernels import configurations
from r3dad.kernels.configurations import padded
from r3dad.kernels.reverse_layout import clouds_at_a_time, columns, padded_layers, share

LAYERS = 6
WIDEST = 512


@triton.jit
def _leaky(y, slope):
    return tl.where(y > 0, y, slope * y)


@triton.jit
def _normal(seed, point, step):
    """Three standard normal numbers per point: philox.normal of r3dad, bit-equal words, then Box-Muller."""
    zero = point * 0
    w0, w1, w2, w3 = tl.philox(seed, point, zero + step, zero, zero)
    u0 = w0.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10  # 2^-32, 2^-33
    u1 = w1.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    u2 = w2.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    u3 = w3.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    r0 = tl.sqrt(-2.0 * tl.log(u0))
    r1 = tl.sqrt(-2.0 * tl.log(u2))
    a0 = 6.283185307179586 * u1
    a1 = 6.283185307179586 * u3
    return r0 * tl.cos(a0), r0 * tl.sin(a0), r1 * tl.cos(a1)


# One compilation for all sizes of clouds and batches.
@triton.jit(do_not_specialize=["B", "D"], do_not_specialize_on_alignment=["gate_shape_ptr", "shift_shape_ptr"])
def gate_table(
    column_ptr, bias_ptr, gate_time_ptr, gate_shape_ptr, shift_time_ptr, shift_shape_ptr, scale_ptr, offset_ptr,
    B, D, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """scale = gate and offset = bias * gate + shift, [S, B, WIDTH]; ``column`` [WIDTH] says where in D a padded column stands, or -1."""
    step = tl.program_id(0).to(tl.int64) // B
    cloud = tl.program_id(0).to(tl.int64) % B
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = tl.load(column_ptr + at, mask=at < WIDTH, other=-1)
    real = column >= 0
    time = step * D + column
    shape = cloud * D + column
    gate = tl.load(gate_time_ptr + time, mask=real, other=0.0) + tl.load(gate_shape_ptr + shape, mask=real, other=0.0)
    gate = tl.where(real, tl.sigmoid(gate), 0.0)
    shift = tl.load(shift_time_ptr + time, mask=real, other=0.0) + tl.load(
        shift_shape_ptr + shape, mask=real, other=0.0
    )
    bias = tl.load(bias_ptr + column, mask=real, other=0.0)
    to = (step * B + cloud) * WIDTH + at
    tl.store(scale_ptr + to, gate, mask=at < WIDTH)
    tl.store(offset_ptr + to, bias * gate + shift, mask=at < WIDTH)


@triton.jit(do_not_specialize=["N", "B", "S"], do_not_specialize_on_alignment=["start_ptr", "out_ptr", "seeds_ptr"])
def reverse_steps(
    start_ptr, out_ptr, share_ptr, seeds_ptr, first_ptr, w2_ptr, w3_ptr, w4_ptr, w5_ptr, last_ptr,
    scale_ptr, offset_ptr, coefficients_ptr, N, B, S, slope,
    D1: tl.constexpr, D2: tl.constexpr, D3: tl.constexpr, D4: tl.constexpr, D5: tl.constexpr, CONDITION: tl.constexpr,
    POINTS: tl.constexpr, CHUNK: tl.constexpr, SLICE_IN: tl.constexpr, SLICE_OUT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """start, out [B, N, 3]; share [B, N, D1]; first [3, D1], last [3, D5] float32; w2 ... w5 [out, in]; scale, offset [S, B, WIDTH]."""
    O3: tl.constexpr = D1 + D2
    O4: tl.constexpr = O3 + D3
    O5: tl.constexpr = O4 + D4
    O6: tl.constexpr = O5 + D5
    WIDTH: tl.constexpr = O6 + 4
    LOW: tl.constexpr = w2_ptr.dtype.element_ty
    tiles = tl.cdiv(N, POINTS)
    cloud = tl.program_id(0) // tiles
    point = (tl.program_id(0) % tiles) * POINTS + tl.arange(0, POINTS)
    inside = point < N
    row = cloud.to(tl.int64) * N + point
    x0 = tl.load(start_ptr + row * 3, mask=inside, other=0.0)
    x1 = tl.load(start_ptr + row * 3 + 1, mask=inside, other=0.0)
    x2 = tl.load(start_ptr + row * 3 + 2, mask=inside, other=0.0)
    seed = tl.load(seeds_ptr + cloud)
    in2 = tl.arange(0, D2)
    in4 = tl.arange(0, D4)

    step = 0
    while step < S:
        g = scale_ptr + (tl.cast(step, tl.int64) * B + cloud) * WIDTH
        s = offset_ptr + (tl.cast(step, tl.int64) * B + cloud) * WIDTH

        sum2 = tl.zeros((POINTS, D2), tl.float32)
        for k in range(0, D1, SLICE_IN):
            at1 = k + tl.arange(0, SLICE_IN)
            h1 = (
                x0[:, None] * tl.load(first_ptr + at1)[None, :]
                + x1[:, None] * tl.load(first_ptr + D1 + at1)[None, :]
                + x2[:, None] * tl.load(first_ptr + 2 * D1 + at1)[None, :]
            )
            if CONDITION:
                h1 += tl.load(share_ptr + row[:, None] * D1 + at1[None, :], mask=inside[:, None], other=0.0)
            h1 = _leaky(h1 * tl.load(g + at1)[None, :] + tl.load(s + at1)[None, :], slope)
            w2 = tl.load(w2_ptr + in2[None, :] * D1 + at1[:, None])
            sum2 = tl.dot(h1.to(LOW), w2, sum2, input_precision=DOT)
        at2 = D1 + in2
        h2 = _leaky(sum2 * tl.load(g + at2)[None, :] + tl.load(s + at2)[None, :], slope).to(LOW)

        sum4 = tl.zeros((POINTS, D4), tl.float32)
        for c in range(0, D3, CHUNK):
            at3 = c + tl.arange(0, CHUNK)
            w3 = tl.load(w3_ptr + at3[None, :] * D2 + in2[:, None])
            h3 = tl.dot(h2, w3, input_precision=DOT)
            h3 = _leaky(h3 * tl.load(g + O3 + at3)[None, :] + tl.load(s + O3 + at3)[None, :], slope)
            w4 = tl.load(w4_ptr + in4[None, :] * D3 + at3[:, None])
            sum4 = tl.dot(h3.to(LOW), w4, sum4, input_precision=DOT)
        at4 = O4 + in4
        h4 = _leaky(sum4 * tl.load(g + at4)[None, :] + tl.load(s + at4)[None, :], slope).to(LOW)

        e0 = tl.zeros((POINTS,), tl.float32)
        e1 = tl.zeros((POINTS,), tl.float32)
        e2 = tl.zeros((POINTS,), tl.float32)
        for c in range(0, D5, SLICE_OUT):
            at5 = c + tl.arange(0, SLICE_OUT)
            w5 = tl.load(w5_ptr + at5[None, :] * D4 + in4[:, None])
            h5 = tl.dot(h4, w5, input_precision=DOT)
            h5 = _leaky(h5 * tl.load(g + O5 + at5)[None, :] + tl.load(s + O5 + at5)[None, :], slope)
            e0 += tl.sum(h5 * tl.load(last_ptr + at5)[None, :], 1)
            e1 += tl.sum(h5 * tl.load(last_ptr + D5 + at5)[None, :], 1)
            e2 += tl.sum(h5 * tl.load(last_ptr + 2 * D5 + at5)[None, :], 1)
        e0 = x0 + (e0 * tl.load(g + O6) + tl.load(s + O6))
        e1 = x1 + (e1 * tl.load(g + O6 + 1) + tl.load(s + O6 + 1))
        e2 = x2 + (e2 * tl.load(g + O6 + 2) + tl.load(s + O6 + 2))

        a = tl.load(coefficients_ptr + step * 3)
        b = tl.load(coefficients_ptr + step * 3 + 1)
        sigma = tl.load(coefficients_ptr + step * 3 + 2)
        x0 = a * x0 + b * e0
        x1 = a * x1 + b * e1
        x2 = a * x2 + b * e2
        if sigma != 0.0:
            z0, z1, z2 = _normal(seed, point, step + 1)
            x0 += sigma * z0
            x1 += sigma * z1
            x2 += sigma * z2
        step += 1
    tl.store(out_ptr + row * 3, x0, mask=inside)
    tl.store(out_ptr + row * 3 + 1, x1, mask=inside)
    tl.store(out_ptr + row * 3 + 2, x2, mask=inside)


@configurations.on_device
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
    condition: Tensor | None,
    negative_slope: float,
    precision: str,
) -> Tensor:
    """As ``reverse_diffusion_definition``; no argument is read on the host, so nothing waits for the device."""
    batch, points, _ = start.shape
    out = torch.empty(start.shape, dtype=start.dtype, device=start.device)
    if start.numel() == 0:
        return out
    widths = tuple(w.shape[0] for w in weights)
    sizes = tuple(padded(w) for w in widths[:-1])
    first, between, last = padded_layers(weights, sizes)
    low = torch.float32 if precision == "float32" else torch.bfloat16
    packed = [first, *torch.cat([w.reshape(-1) for w in between]).to(low).split([w.numel() for w in between]), last]
    column, bias = columns(widths, sizes, start.device), torch.cat(list(biases))
    steps, total, width = coefficients.shape[0], sum(widths), sum(sizes) + 4
    coefficients, start, seeds = coefficients.contiguous(), start.contiguous(), seeds.contiguous()
    gate_time, shift_time = gate_time.contiguous(), shift_time.contiguous()
    gate_shape, shift_shape = gate_shape.contiguous(), shift_shape.contiguous()
    config = configurations.choose(
        "reverse_diffusion", "float32" if precision == "float32" else "bfloat16", start.device
    )
    tile = config.sizes["POINTS"]
    limits = {"CHUNK": sizes[2], "SLICE_IN": sizes[0], "SLICE_OUT": sizes[4]}
    meta = {name: min(size, limits.get(name, size)) for name, size in config.sizes.items()}
    group = clouds_at_a_time(batch, points, steps, sizes, condition is not None)
    table = torch.empty((2, steps * group * width), dtype=torch.float32, device=start.device)
    for begin in range(0, batch, group):
        part = slice(begin, min(begin + group, batch))
        clouds = part.stop - part.start
        added = (
            start if condition is None else share(weights, condition[part], sizes[0])
        )  # not read without a condition
        if steps:
            gate_table[(steps * clouds, triton.cdiv(width, 512))](
                column, bias, gate_time, gate_shape[part], shift_time, shift_shape[part], table[0], table[1],
                clouds, total, width, 512, num_warps=4,
            )  # fmt: skip
        reverse_steps[(clouds * triton.cdiv(points, tile),)](
            start[part], out[part], added, seeds[part], *packed, table[0], table[1], coefficients,
            points, clouds, steps, negative_slope, *sizes, condition is not None,
            **meta, DOT="ieee", num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return out


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``reverse_diffusion`` are not for this kernel, or None."""
    weights, start = args[0], args[7]
    assert isinstance(weights, (list, tuple)) and isinstance(start, Tensor)
    if start.dtype != torch.float32:
        return f"takes float32, got {start.dtype}"
    if len(weights) != LAYERS:
        return f"takes {LAYERS} layers, got {len(weights)}"
    widest = max(w.shape[0] for w in weights)
    if widest > WIDEST:
        return f"takes layers up to {WIDEST} wide, got {widest}"
    return configurations.why_not_device(start.device)
