"""What the reverse process's kernels are handed, in Triton and in CUDA C++: layers padded to their sizes, where each column stands."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

_TABLE_BYTES = 32 << 20  # gate tables and condition shares held at a time; clouds beyond it follow in further launches


@functools.lru_cache(maxsize=64)
def columns(widths: tuple[int, ...], sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """[sum of ``sizes`` + 4] int32: where each column of a row of gates, padded to ``sizes`` (4 for the last layer), stands among the
    sum of ``widths``; -1 for the added ones."""
    parts, first = [], 0
    for width, size in zip(widths, (*sizes, 4)):
        parts += [*range(first, first + width), *[-1] * (size - width)]
        first += width
    return torch.tensor(parts, dtype=torch.int32, device=device)


def padded_layers(weights: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, list[Tensor], Tensor]:
    """The coordinates' share of the first layer [3, D], the layers between [M, K], and the last [3, K], padded with zeros."""
    first = pad(weights[0][:, :3], (0, 0, 0, sizes[0] - weights[0].shape[0])).T.contiguous()
    between = [pad(w, (0, k - w.shape[1], 0, m - w.shape[0])) for w, k, m in zip(weights[1:-1], sizes[:-1], sizes[1:])]
    return first, between, pad(weights[-1], (0, sizes[-1] - weights[-1].shape[1])).contiguous()


def share(weights: Sequence[Tensor], condition: Tensor, size: int) -> Tensor:
    """[B, N, ``size``]: what the condition [B, N, F] adds to the first layer; the same in all steps."""
    return pad(condition @ weights[0][:, 3:].T, (0, size - weights[0].shape[0])).contiguous()


def clouds_at_a_time(batch: int, points: int, steps: int, sizes: Sequence[int], conditioned: bool) -> int:
    """How many clouds' gate tables and shares fit the memory given to them."""
    per_cloud = 8 * steps * (sum(sizes) + 4) + (4 * points * sizes[0] if conditioned else 0)
    return max(1, min(batch, _TABLE_BYTES // max(per_cloud, 1)))
