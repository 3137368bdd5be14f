"""What several baselines share: good scans and scans brought into one pose, thinned evenly, and scores given back to all points.

The rivals' own code registers with FPFH + RANSAC + ICP. Here every method that registers takes the pose of :mod:`r3dad.align`, so that
none loses by a wrong pose, nor wins by another's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r3dad.align import Frame
from r3dad.errors import InputError
from r3dad.neighbours import Neighbours

LEAST = 100


class Posed:
    """The frame of the good scans. Coordinates in it are shares of the part's diagonal about its centre.

    Attributes:
        clouds: the good scans [M_i, 3] in the frame.
    """

    def __init__(self, clouds: Sequence[np.ndarray]) -> None:
        """From good scans [M_i, 3]. Raises InputError for none, or one of too few points."""
        if not clouds:
            raise InputError("fit: expected at least one good scan, got none")
        self._frame, poses = Frame.build(list(clouds))
        self.clouds = [self._inside(cloud, pose.matrix) for cloud, pose in zip(clouds, poses, strict=True)]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """A scan [M, 3] in the frame."""
        return self._inside(points, self._frame.register(check(points)).matrix)

    def _inside(self, points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        moved = points @ matrix[:3, :3].T + matrix[:3, 3]
        return (moved - self._frame.centre.numpy()) / self._frame.scale


def check(points: np.ndarray) -> np.ndarray:
    """The scan. Raises InputError where it has fewer points than neighbourhoods need."""
    if len(points) < LEAST:
        raise InputError(f"the scan has {len(points)} points: expected at least {LEAST}")
    return points


def diagonal(points: np.ndarray) -> float:
    """Of the bounding box of a cloud [M, 3] without its outermost 1 % per axis (stray points)."""
    low, high = np.quantile(points, (0.005, 0.995), axis=0)
    return float(np.linalg.norm(high - low))


def carried(values: np.ndarray, kept: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values [K] of the points ``kept [K, 3]`` given to points [M, 3]: mean of the 3 nearest, weighted by inverse distance."""
    distance, j = Neighbours(kept)(points, 3)
    w = 1 / (distance + 1e-6 * diagonal(kept))
    return (w * values[j]).sum(1) / w.sum(1)
