"""The whole reverse process in one kernel of ``r3dad._cuda``: weights packed, gates tabulated, then all steps.

csrc/cuda/reverse.cuh runs from compute capability 8.0 on; csrc/cuda/reverse_sm90.cuh on 9.0 alone, where it is asked for by ``cluster``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r3dad import _cuda
from r3dad.kernels.cuda_device import why_not_device
from r3dad.kernels.reverse_layout import clouds_at_a_time, columns, padded_layers, share

_WARPS, _PANEL, _WIDEST, _BETWEEN, _PIECE = 8, 128, 512, 8, 8192


def padded(width: int) -> int:
    """The width that a layer has in the kernel."""
    return -(-width // _PANEL) * _PANEL


def pack(weights: Sequence[Tensor]) -> Tensor:
    """The layers between, each [M, K] of padded sizes -> [8, items * 512] bfloat16: per warp, what it uses in the order of use.

    Warp w takes 8 C columns of every 64 C (C = 4 where M allows it, else 2). A piece of 512 numbers holds, for 16 * 4 / C inputs, the
    fragments of ``mma.m16n8k16``: half, lane (column % 8, input % 8 / 2), two fragments, then inputs (high, low bit) of each.
    """
    streams = []
    for weight in weights:
        m, k = weight.shape
        c = 4 if m % (2 * _PANEL) == 0 else 2
        # [chunk, warp, fragment, column % 8, input / 16, input / 8 % 2, input % 8 / 2, input % 2]
        parts = weight.to(torch.bfloat16).view(m // (64 * c), _WARPS, c, 8, k // 16, 2, 4, 2)
        if c == 4:  # a piece's halves are pairs of fragments
            parts = parts.unflatten(2, (2, 2)).permute(1, 0, 5, 2, 4, 7, 3, 6, 8)
        else:  # its halves are inputs
            parts = parts.permute(1, 0, 4, 3, 6, 2, 5, 7)
        streams.append(parts.reshape(_WARPS, -1))
    return torch.cat(streams, 1).contiguous()


def pack_pieces(weights: Sequence[Tensor]) -> Tensor:
    """The layers between, each [M, K] of padded sizes -> [pieces * 8192] bfloat16, for clusters: all that is used, in the order of use.

    A piece is for 256 columns and 32 inputs, or 128 and 64 where 256 does not divide M: [inputs / 8, columns, 8], which ``wgmma`` reads as
    pieces of 8 columns by 16 bytes.
    """
    pieces = []
    for weight in weights:
        m, k = weight.shape
        columns = 128 if m % 256 else 256
        inputs = _PIECE // columns
        parts = weight.to(torch.bfloat16).view(m // columns, columns, k // inputs, inputs // 8, 8)
        pieces.append(parts.permute(0, 2, 3, 1, 4).reshape(-1))
    return torch.cat(pieces)


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
    tile: int = 0,
    cluster: int = 0,
) -> Tensor:
    """As ``reverse_diffusion_definition`` in bfloat16; ``tile`` is the points of a block (32, 64, 128), 0 lets the kernel choose.
    ``cluster`` 1, 2, 4 or 8: by ``wgmma``, that many blocks share the weights that they read, 64 or 128 points each. No argument is read
    on the host, so nothing waits for the device.

    Raises:
        ValueError: ``cluster`` where :func:`why_not_clusters` has a reason. RuntimeError: a launch failed.
    """
    if cluster and (reason := why_not_clusters(start.device)):
        raise ValueError(f"reverse_diffusion in clusters {reason}")
    batch, points, _ = start.shape
    out = torch.empty(start.shape, dtype=start.dtype, device=start.device)
    if start.numel() == 0:
        return out
    widths = tuple(w.shape[0] for w in weights)
    sizes = tuple(padded(w) for w in widths[:-1])
    first, between, last = padded_layers(weights, sizes)
    packed = (pack_pieces if cluster else pack)(between)
    column, bias = columns(widths, sizes, start.device), torch.cat(list(biases))
    steps, total, width = coefficients.shape[0], sum(widths), sum(sizes) + 4
    time = gate_time.contiguous(), shift_time.contiguous()
    shape = gate_shape.contiguous(), shift_shape.contiguous()
    coefficients, start, seeds = coefficients.contiguous(), start.contiguous(), seeds.contiguous()
    condition = None if condition is None or condition.shape[2] == 0 else condition
    group = clouds_at_a_time(batch, points, steps, sizes, condition is not None)
    gates = torch.empty((steps * group * width, 2), dtype=torch.float32, device=start.device)
    with torch.cuda.device_of(start):
        stream = torch.cuda.current_stream().cuda_stream
        for begin in range(0, batch, group):
            part = slice(begin, min(begin + group, batch))
            clouds = part.stop - part.start
            added = None if condition is None else share(weights, condition[part], sizes[0])
            _cuda.gate_rows(
                *(column.data_ptr(), bias.data_ptr(), time[0].data_ptr(), shape[0][part].data_ptr()),
                *(time[1].data_ptr(), shape[1][part].data_ptr(), steps, clouds, total, width, gates.data_ptr(), stream),
            )
            _cuda.reverse_steps(
                *(start[part].data_ptr(), 0 if added is None else added.data_ptr(), seeds[part].data_ptr()),
                *(first.data_ptr(), last.data_ptr(), packed.data_ptr(), gates.data_ptr(), coefficients.data_ptr()),
                *(out[part].data_ptr(), points, clouds, steps, list(sizes), negative_slope, tile, cluster, stream),
            )
    return out


def why_not_clusters(device: torch.device) -> str | None:
    """Why blocks cannot share weights on a GPU, or None."""
    if "90a" not in _cuda.build_info()["archs"]:
        return "needs r3dad._cuda to be built for 90a (R3DAD_CUDA_ARCHS)"
    major, minor = torch.cuda.get_device_capability(device)
    return None if (major, minor) == (9, 0) else f"needs compute capability 9.0, got {major}.{minor}"


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``reverse_diffusion`` are not for this kernel, or None."""
    weights, start, precision = args[0], args[7], args[11]
    assert isinstance(weights, (list, tuple)) and isinstance(start, Tensor)
    if start.dtype != torch.float32:
        return f"takes float32, got {start.dtype}"
    if precision != "bfloat16":
        return f"multiplies in bfloat16, got {precision}"
    if not 3 <= len(weights) <= _BETWEEN + 2:
        return f"takes 3 to {_BETWEEN + 2} layers, got {len(weights)}"
    if (widest := max(w.shape[0] for w in weights)) > _WIDEST:
        return f"takes layers up to {_WIDEST} wide, got {widest}"
    return why_not_device(start.device)
