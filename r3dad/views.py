"""Points looked at from many directions: which of them are in front, which way out of the material is, and what a view sees."""

from __future__ import annotations

import numpy as np

from r3dad.neighbours import Neighbours

VIEWS = 162
"""Directions a surface is looked at from, for orientation and for what a one-sided scan should have seen."""


def unit(v: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1 (last axis)."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def directions(count: int = VIEWS) -> np.ndarray:
    """Nearly even unit vectors ``[count, 3]`` (Fibonacci spiral)."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], 1)


def plane_axes(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors ``[..., 3]`` that span the plane with normal ``n``."""
    helper = np.eye(3)[np.argmin(np.abs(n), axis=-1)]
    a = unit(np.cross(n, helper))
    return a, np.cross(n, a)


def front(points: np.ndarray, view: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth behind the front-most point of each point's pixel, and whether a point is that front-most one.

    Orthographic camera that looks along ``-view``; each pixel also sees the front of its empty neighbours' surroundings.
    """
    a, b = plane_axes(view)
    u = np.floor((points @ a) / pixel).astype(np.int64)
    v = np.floor((points @ b) / pixel).astype(np.int64)
    u -= u.min()
    v -= v.min()
    key = u * (int(v.max()) + 1) + v
    z = points @ view
    depth = np.full(int(key.max()) + 1, -np.inf)
    np.maximum.at(depth, key, z)
    behind = depth[key] - z
    return behind, behind <= 0


class Looks:
    """Depth images of points ``[N, 3]`` from all `directions`: which way normals point outwards, and which points a view sees."""

    def __init__(self, points: np.ndarray, spacing: float) -> None:
        self.points, self.spacing, self.pixel, self.views = points, spacing, 4.5 * spacing, directions()
        self.behind = np.empty((len(points), len(self.views)), np.float32)
        for i, view in enumerate(self.views):
            self.behind[:, i], _ = front(points, view, self.pixel)
        self.distance, self.near = Neighbours(points)(points, 16)

    def outwards(self, normals: np.ndarray) -> np.ndarray:
        """Normals ``[N, 3]`` turned outwards.

        Votes for a side: a point that is the front-most of its pixel looks at the camera. They are shared with neighbours beside the point;
        one straight behind it, on the other side of a thin wall, looks the other way.
        """
        points, j = self.points, self.near
        vote = np.zeros(len(points))
        for i, view in enumerate(self.views):
            cos = normals @ view
            vote += (self.behind[:, i] <= 0) * cos * np.abs(cos)
        vote = start = vote / (np.abs(vote) + 2)
        dot = np.einsum("ni,nki->nk", normals, normals[j])
        rise = np.abs(np.einsum("ni,nki->nk", normals, points[j] - points[:, None])) / np.maximum(self.distance, 1e-12)
        share = np.sign(dot) * np.abs(dot) ** 8 * (np.exp(-((rise / 0.25) ** 2)) - np.exp(-(((rise - 1) / 0.2) ** 2)))
        for _ in range(40):
            vote = np.clip(0.15 * start + 0.5 * vote + (share * vote[j]).mean(1), -1, 1)
        return normals * np.where(vote < 0, -1.0, 1.0)[:, None]

    def seen(self, normals: np.ndarray) -> np.ndarray:
        """Which views see each point ``[N, VIEWS]`` (bool), given outward normals."""
        cos = normals @ self.views.T
        slack = 0.7 * self.pixel * np.sqrt(np.maximum(1 / np.maximum(cos, 0.1) ** 2 - 1, 0)) + 1.5 * self.spacing
        return (cos > 0.12) & (self.behind < slack)
