"""BTF, back to the feature (Horwitz & Hoshen, CVPR-W 2023), on points as in the Real3D-AD benchmark (Liu et al., NeurIPS 2023).

Plain nearest neighbours among every n-th point of the good scans, no coreset. Departures: the raw coordinates are registered (the
benchmark takes the scans as they lie, which says nothing of scans in any pose); scans are thinned to one point per voxel; every point is
scored, not every 500th.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r3dad.baselines.bank import Bank
from r3dad.baselines.cloud import Posed, carried, check, diagonal
from r3dad.baselines.fpfh import fpfh, normals
from r3dad.baselines.method import Method
from r3dad.neighbours import voxel_pick


class BTFRaw(Method):
    """The feature of a point is where it lies.

    Args:
        every: n, of the good scans' points that are kept. voxel: share of the part's diagonal that scans are thinned to.
    """

    def __init__(self, seed: int = 0, device: str = "cpu", every: int = 4, voxel: float = 0.015) -> None:
        super().__init__(seed, device)
        self._every, self._voxel = every, voxel

    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        self._prepare(clouds)
        kept = [self._described(c)[1] for c in self._good]
        every = np.concatenate(kept)[:: self._every]
        self._bank = Bank(every, len(every), self.seed, self.device)

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        q = self._placed(points)
        where, features = self._described(q)
        scores = self._bank.distance(features)
        return float(scores.max()), carried(scores, where, q)

    def bank_bytes(self) -> int:
        return self._bank.bytes()

    def _prepare(self, clouds: Sequence[np.ndarray]) -> None:
        self._posed = Posed(clouds)
        self._good = self._posed.clouds

    def _placed(self, points: np.ndarray) -> np.ndarray:
        return self._posed(points)

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kept points [K, 3] and their features [K, C]."""
        kept = q[voxel_pick(q, self._voxel)]
        return kept, kept


class BTFFPFH(BTFRaw):
    """The feature of a point is its FPFH, which knows nothing of the pose.

    Args:
        every, voxel: as of BTFRaw. reach: radius of the histogram, in voxels.
    """

    def __init__(
        self, seed: int = 0, device: str = "cpu", every: int = 4, voxel: float = 0.015, reach: float = 5
    ) -> None:
        super().__init__(seed, device, every, voxel)
        self._reach = reach

    def _prepare(self, clouds: Sequence[np.ndarray]) -> None:
        self._scale = float(np.median([diagonal(check(c)) for c in clouds]))
        self._good = [self._placed(c) for c in clouds]

    def _placed(self, points: np.ndarray) -> np.ndarray:
        return (check(points) - np.median(points, axis=0)) / self._scale

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = q[voxel_pick(q, self._voxel)]
        return kept, fpfh(kept, normals(kept, kept.mean(0)), self._reach * self._voxel)
