"""The floor: register to the good scans, distance to the nearest surface. No paper, no training; what anything learned has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r3dad.baselines.cloud import Posed
from r3dad.baselines.fpfh import normals
from r3dad.baselines.method import Method
from r3dad.neighbours import Neighbours


class RegisteredNN(Method):
    """A point's score is its distance to the surface of the nearest two good scans, averaged over its neighbours; a scan's the mean of
    its highest.

    Args:
        neighbours: that a point's score is averaged over. top: share of a scan's points that make its score.
    """

    def __init__(self, seed: int = 0, device: str = "cpu", neighbours: int = 16, top: float = 0.01) -> None:
        super().__init__(seed, device)
        self._neighbours, self._top = neighbours, top

    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        self._posed = Posed(clouds)
        self._good = [(Neighbours(c), c, normals(c, np.zeros(3), 12)) for c in self._posed.clouds]
        find, first, _ = self._good[0]
        self._spacing = float(np.median(find(first, 2)[0][:, 1]))

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        q = self._posed(points)
        each = np.sort([self._distance(q, *good) for good in self._good], axis=0)
        near = Neighbours(q)(q, self._neighbours)[1]
        scores = each[:2].mean(0)[near].mean(1)
        return float(np.sort(scores)[-max(int(self._top * len(scores)), 1) :].mean()), scores

    def _distance(self, q: np.ndarray, find: Neighbours, cloud: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Distance [M] of points to the surface of a good scan: along the normal, and beyond where its points end."""
        distance, j = find(q, 3)
        off = np.abs(((q[:, None] - cloud[j]) * normal[j]).sum(2))
        along = np.sqrt(np.maximum(distance**2 - off**2, 0))
        return np.sqrt(off**2 + np.maximum(along - 3 * self._spacing, 0) ** 2).min(1)

    def bank_bytes(self) -> int:
        return sum((cloud.size + normal.size) * 8 for _, cloud, normal in self._good)
