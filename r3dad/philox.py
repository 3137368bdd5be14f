"""Philox4x32-10: counter-based noise, the truth for every backend.

Random numbers are a pure function of (seed, point, step, stream), so every backend, thread count and batch order draws the same
noise. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The bits equal ``triton.language.randint4x`` and
``csrc/common/philox.h``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds of Philox.

    Args:
        counter: four int64 tensors holding 32-bit unsigned words, broadcastable with each other and with ``seed``.
        seed: int64, the 64-bit key.

    Returns:
        Four int64 tensors holding 32-bit unsigned words.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        # The product of two 32-bit words wraps in int64, but its 64 bits are those of the unsigned product.
        p0, p1 = c0 * _MULTIPLIER[0], c2 * _MULTIPLIER[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seeds: Tensor, count: int, step: int, stream: int = 0) -> Tensor:
    """Uniform numbers in (0, 1], four per point, from the counter (point, step, stream, 0).

    Args:
        seeds: [B] int64, one per cloud.
        count: number of points N.
        step: 32-bit counter of the step.
        stream: 32-bit counter that separates independent uses of one seed.

    Returns:
        [B, N, 4] float32.
    """
    point = torch.arange(count, device=seeds.device)[None, :]
    words = philox4x32(
        (point, torch.full_like(point, step), torch.full_like(point, stream), torch.zeros_like(point)), seeds[:, None]
    )
    return torch.stack(words, -1).to(torch.float32) * 2.0**-32 + 2.0**-33


def normal(seeds: Tensor, count: int, step: int, stream: int = 0) -> Tensor:
    """Standard normal numbers, three per point: Box-Muller on :func:`uniform` (cos, sin of the first pair, cos of the second).

    Args and counter as :func:`uniform`.

    Returns:
        [B, N, 3] float32.
    """
    u = uniform(seeds, count, step, stream)
    radius = torch.sqrt(-2.0 * torch.log(u[..., 0::2]))
    angle = 2.0 * math.pi * u[..., 1::2]
    return torch.stack(
        (
            radius[..., 0] * torch.cos(angle[..., 0]),
            radius[..., 0] * torch.sin(angle[..., 0]),
            radius[..., 1] * torch.cos(angle[..., 1]),
        ),
        -1,
    )
