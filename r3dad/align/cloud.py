"""Thinned clouds, nearly uniform rotations and directions, normals."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from r3dad.nearest import Nearest


def thin(points: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Centroid of the points in each occupied voxel.

    points: [N, 3]; size: edge of a voxel, same unit. Returns ([M, 3] float32, points per voxel [M] float32), in the order of the voxels in
    space, so that an even stride through them is an even sample of the surface.
    """
    cell = ((points - points.amin(0)) / size).floor().long().clamp_(max=(1 << 20) - 1)
    _, where, count = torch.unique(
        (cell[:, 0] << 40) | (cell[:, 1] << 20) | cell[:, 2], return_inverse=True, return_counts=True
    )
    total = torch.zeros(len(count), 3, dtype=torch.float64, device=points.device)
    total.index_add_(0, where, points.double())
    return (total / count[:, None]).float(), count.float()


def spread(points: Tensor, count: int) -> Tensor:
    """At most `count` of the points [N, 3], by an even stride."""
    if len(points) <= count:
        return points
    return points[(torch.arange(count, device=points.device) * len(points)) // count]


def rotation_grid(count: int) -> Tensor:
    """Nearly uniform rotations [count, 3, 3] float64: super-Fibonacci spiral (Alexa, CVPR 2022)."""
    s = np.arange(count) + 0.5
    a, b = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / 1.533751168755204288
    r, q = np.sqrt(s / count), np.sqrt(1 - s / count)
    return quaternion_matrix(
        torch.from_numpy(np.stack([r * np.sin(a), r * np.cos(a), q * np.sin(b), q * np.cos(b)], 1))
    )


def quaternion_matrix(q: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4] in the order x, y, z, w."""
    x, y, z, w = q.unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def rotation_vector_matrix(v: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] (radians)."""
    size = v.norm(dim=-1)[..., None, None] / math.pi
    unit = torch.eye(3, dtype=v.dtype, device=v.device)
    turn = torch.linalg.cross(*torch.broadcast_tensors(unit, v[..., None, :]))  # turn @ p = v x p
    return unit + torch.sinc(size) * turn + 0.5 * torch.sinc(size / 2).square() * (turn @ turn)


def sphere(count: int) -> Tensor:
    """Nearly uniform unit vectors [count, 3] float32: Fibonacci sphere."""
    k = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * k / count, k * math.pi * (3 - math.sqrt(5))
    r = (1 - z * z).sqrt()
    return torch.stack([r * turn.cos(), r * turn.sin(), z], 1).float()


def normals_of(points: Tensor, nearest: Nearest, k: int = 12) -> Tensor:
    """Unit normals [N, 3], sign arbitrary: direction of least spread of the k nearest points."""
    _, j = nearest(nearest if points is nearest.points else points, min(k, len(nearest.points)))
    x = nearest.points[j].double()
    x = x - x.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(x.transpose(1, 2) @ x)
    return vectors[:, :, 0].to(points.dtype)
