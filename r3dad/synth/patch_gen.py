"""Patch-Gen: the paper's synthetic defects (Alg. 1, eq. 7-8), batched on the device of the clouds."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

from r3dad import backends, ops, philox

KINDS = ("sink", "bulge", "damage")
_STREAM = 1  # separates these draws from the reverse process's noise under the same seed

# Corners, edge middles and face centres of the cube [-2, 2]^3 (public code).
VIEWPOINTS = torch.tensor([v for v in itertools.product((-2.0, 0.0, 2.0), repeat=3) if any(v)])


@functools.cache
def _viewpoints(device: torch.device) -> Tensor:
    return VIEWPOINTS.to(device)  # copied there once


def random_rotations(seeds: Tensor) -> Tensor:
    """[B, 3, 3]: rotations by random angles about x, y and z in turn (Alg. 1, line 1); seeds [B] int64."""
    angle = 2 * math.pi * philox.uniform(seeds, 1, 0, _STREAM)[:, 0, :3]
    rotation = torch.eye(3, device=seeds.device).expand(len(seeds), 3, 3)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.zeros(len(seeds), 3, 3, device=seeds.device)
        turn[:, axis, axis] = 1
        turn[:, i, i] = turn[:, j, j] = angle[:, axis].cos()
        turn[:, j, i] = angle[:, axis].sin()
        turn[:, i, j] = -turn[:, j, i]
        rotation = turn @ rotation
    return rotation


def displace_patch_definition(
    good: Tensor, seeds: Tensor, moved: int, scale: float, draw: str, kind: str | None
) -> tuple[Tensor, Tensor]:
    """Plain PyTorch, for :func:`patch_gen`: viewpoint and kind, the ``moved`` points nearest to it, how far they go; defective and mask."""
    batch, count, _ = good.shape
    pick = philox.uniform(seeds, 1, 1, _STREAM)[:, 0]
    which = (pick[:, 0] * len(VIEWPOINTS)).long().clamp(max=len(VIEWPOINTS) - 1)
    view = _viewpoints(good.device)[which][:, None].to(good)
    kinds = (pick[:, 1] * len(KINDS)).long().clamp(max=len(KINDS) - 1)
    if kind is not None:
        kinds = torch.full_like(kinds, KINDS.index(kind))
    nearest = ops.knn(view, good, moved)[1][:, 0]  # [B, n], nearest to the viewpoint first

    source = philox.normal if draw == "gaussian" else philox.uniform
    amount = source(seeds, moved, 2, _STREAM)[..., 0]
    ordered = amount.sort(dim=-1, descending=True).values
    amount = torch.where(
        (kinds == KINDS.index("damage"))[:, None],
        amount,
        torch.where((kinds == KINDS.index("bulge"))[:, None], -ordered, ordered),
    )
    index = nearest[..., None].expand(-1, -1, 3)
    patch = good.gather(1, index)
    direction = torch.nn.functional.normalize(patch - view, dim=-1)
    defective = good.scatter(1, index, patch + scale * amount[..., None] * direction)
    mask = torch.zeros(batch, count, dtype=torch.bool, device=good.device).scatter(1, nearest, True)
    return defective, mask


def patch_gen(
    points: Tensor,
    seeds: Tensor,
    ratio: float = 1 / 32,
    scale: float = 0.1,
    draw: str = "gaussian",
    kind: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A defect on each good cloud: the n = ratio * N points nearest to a viewpoint v move by ``scale * normalize(p - v) * T``.

    *sink*: T sorted so that the point nearest to v moves farthest, away from v; *bulge*: the same with the opposite sign;
    *damage*: T unsorted.

    Args:
        points: [B, N, 3] float32, normalised to [-1, 1].
        seeds: [B] int64; the result is a function of cloud and seed alone.
        ratio: share of points that move; scale: S.
        draw: T ~ N(0, 1) (``"gaussian"``, paper) or U(0, 1) (``"uniform"``, public code).
        kind: one of ``KINDS``, or None to draw it.

    Returns:
        good [B, N, 3] (rotated), defective [B, N, 3] (rotated and moved), mask [B, N] bool of the points that moved.
    """
    good = points @ random_rotations(seeds).transpose(1, 2)
    moved = max(1, round(ratio * points.shape[1]))
    return good, *backends.run("displace_patch", good, seeds, moved, scale, draw, kind)
