"""Nearest neighbours of points, those on the same side of a thin wall, how far they are apart, and a choice of evenly spread points."""

from __future__ import annotations

import numpy as np
import torch

from r3dad.nearest import Nearest

OPPOSITE = -0.5
"""Normals whose product is less belong to the two sides of a wall."""


class Neighbours:
    """Nearest reference points ``[R, 3]`` of any query, ascending: `Nearest` for arrays."""

    def __init__(self, reference: np.ndarray, like: Neighbours | None = None) -> None:
        """like: of the same points in other places, not far; it spares some time."""
        self._reference = reference
        self._nearest: Nearest = Nearest(_float32(reference), like._nearest if like else None)

    def __call__(self, query: np.ndarray | Neighbours, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Distances (not squared) and indices ``[Q, k]`` (``[Q]`` for k = 1), of an array ``[Q, 3]`` or of another's points."""
        if query is self._reference:
            query = self
        where = query._nearest if isinstance(query, Neighbours) else _float32(query)
        distance, index = self._nearest(where, k)
        return distance.double().numpy(), index.numpy()


def _float32(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(points, np.float32))


def facing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether unit normals ``[..., 3]`` can be of one side of a wall."""
    return np.einsum("...i,...i->...", a, b) > OPPOSITE


def apart(distance: np.ndarray, beside: np.ndarray, k: int) -> np.ndarray:
    """Distance ``[N]`` to the ``k``-th of a point's neighbours that are ``beside [K, N]`` it, not across a thin wall.

    ``distance [N, >= K]``: of the neighbours, ascending, each point itself first. Where there are fewer, as far as that many would lie at
    the density of those there are.
    """
    found = distance[:, k].copy()
    if len(mixed := np.flatnonzero(~beside[: k + 1].all(0))):
        count = beside[:, mixed].cumsum(0)
        last = np.minimum((count <= k).sum(0), len(beside) - 1)
        found[mixed] = distance[mixed, last] * np.sqrt(np.maximum(k / np.maximum(count[-1] - 1, 1), 1))
    return found


def spacings(distance: np.ndarray, j: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """How far points are apart at each ``[N]``: the distance to the eighth neighbour on the same side, median of 16 neighbours.

    ``distance [N, >= K]``, ``j [N, K]`` (K at least 32) and ``beside [K, N]`` as for `apart`.
    """
    return np.sort(apart(distance, beside, 8).take(j[:, :32:2]), axis=1)[:, 7:9].mean(1)


def voxel_pick(points: np.ndarray, size: float) -> np.ndarray:
    """Indices of one point per occupied voxel: the one nearest to the voxel's centre."""
    cell = (points - points.min(0)) / size
    base = np.floor(cell)
    off = ((cell - base - 0.5) ** 2).sum(1)
    key = base.astype(np.int64) @ np.array([1, 1 << 20, 1 << 40])
    order = np.lexsort((off, key))
    first = np.append(True, np.diff(key[order]) != 0)
    return np.sort(order[first])


def thin(points: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most ``most`` evenly spread points (all of them where there are no more)."""
    if len(points) <= most:
        return np.arange(len(points))
    low, high = 1e-6, float(np.ptp(points, axis=0).max())
    sample = points
    for _ in range(18):
        middle = np.sqrt(low * high)
        kept = voxel_pick(sample, middle)
        low, high = (middle, high) if len(kept) > most else (low, middle)
        if len(kept) <= most and (len(kept) > 0.93 * most or high / low < 1.02):
            break
    return voxel_pick(points, high)
