"""Fast point feature histograms (Rusu et al., ICRA 2009), as Open3D computes them.

Open3D would do the same from a package of 400 MB (900 MB on disk); these agree with it to rounding (tests/test_baselines.py), so every
method on FPFH runs wherever this package does.
"""

from __future__ import annotations

import numpy as np

from r3dad.neighbours import Neighbours

BINS = 11


def normals(points: np.ndarray, centre: np.ndarray, neighbours: int = 30) -> np.ndarray:
    """Unit normals [N, 3] of a cloud [N, 3], from the principal axes of the nearest points, pointing away from ``centre`` [3]."""
    x = points[Neighbours(points)(points, min(neighbours, len(points)))[1]]
    x = x - x.mean(1, keepdims=True)
    n = np.linalg.eigh(np.einsum("nki,nkj->nij", x, x))[1][:, :, 0]
    return n * np.where(((points - centre) * n).sum(1) < 0, -1.0, 1.0)[:, None]


def fpfh(points: np.ndarray, normals: np.ndarray, radius: float, most: int = 100) -> np.ndarray:
    """Histograms [N, 33] of a cloud [N, 3] with unit normals [N, 3]; each third sums to 200 (own pairs, and the neighbours').

    Args:
        radius: of the neighbourhood, in the cloud's unit. most: of the nearest points in it, the point itself among them.
    """
    distance, near = Neighbours(points)(points, min(most, len(points)))
    inside = (distance <= radius) & (near != np.arange(len(points))[:, None])
    row, column = np.nonzero(inside)
    other = near[row, column]
    bins = _pair_bins(points[row], normals[row], points[other], normals[other])
    cells = row[:, None] * 3 * BINS + np.arange(3) * BINS + bins
    counts = np.maximum(inside.sum(1), 1)
    simple = np.bincount(cells.ravel(), minlength=len(points) * 3 * BINS).reshape(len(points), -1) * (
        100.0 / counts[:, None]
    )
    weights = np.zeros(distance.shape)
    apart = inside & (distance > 0)
    weights[apart] = 1 / distance[apart] ** 2  # of the squared distance, as Open3D and PCL have it
    out = np.empty_like(simple)
    for rows in np.array_split(np.arange(len(points)), max(1, len(points) // 1000)):  # bounded memory
        out[rows] = np.einsum("nk,nkc->nc", weights[rows], simple[near[rows]])
    sums = out.reshape(-1, 3, BINS).sum(2)
    out *= np.repeat(100.0 / np.where(sums > 0, sums, 1), BINS, axis=1)
    return out + simple


def _pair_bins(p1: np.ndarray, n1: np.ndarray, p2: np.ndarray, n2: np.ndarray) -> np.ndarray:
    """Bins [P, 3] of the angles between pairs of points with normals, each [P, 3] (Darboux frame; Rusu et al., eq. 1-3)."""
    step = p2 - p1
    length = np.maximum(np.linalg.norm(step, axis=1), 1e-300)
    first, second = (n1 * step).sum(1) / length, (n2 * step).sum(1) / length
    swap = np.abs(first) < np.abs(second)  # the source is the point whose normal is nearer to the line
    source, target = np.where(swap[:, None], n2, n1), np.where(swap[:, None], n1, n2)
    step = np.where(swap[:, None], -step, step)
    phi = np.where(swap, -second, first)
    v = np.cross(step, source)
    size = np.linalg.norm(v, axis=1)
    v /= np.maximum(size, 1e-300)[:, None]
    w = np.cross(source, v)
    alpha = (v * target).sum(1)
    theta = np.arctan2((w * target).sum(1), (source * target).sum(1))
    angles = np.stack([(theta + np.pi) / (2 * np.pi), (alpha + 1) / 2, (phi + 1) / 2], 1)
    angles[size == 0] = (0.5, 0.5, 0.5)  # no frame: all three angles are taken to be 0
    return np.clip(np.floor(BINS * angles), 0, BINS - 1).astype(np.int64)
