"""PatchCore (Roth et al., CVPR 2022) on point features, as in the Real3D-AD benchmark (Liu et al., NeurIPS 2023).

Scans are registered to the good ones, features of the good scans make a coreset memory bank, and a point's score is the distance of its
feature to the bank; a scan's score is the largest. Departures: scans are thinned to one point per voxel; FPFH and coordinates are
weighed to the same spread (the benchmark repeats coordinates in their own unit); the bank is a share of the good features, of at most
``most`` (the benchmark: 10 000).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from r3dad.baselines.bank import Bank
from r3dad.baselines.cloud import Posed, carried
from r3dad.baselines.fpfh import fpfh, normals
from r3dad.baselines.method import Method
from r3dad.baselines.pointmae import Features
from r3dad.neighbours import voxel_pick

VOXEL = 0.015
REACH = 5.0


def posed_fpfh(kept: np.ndarray, radius: float) -> np.ndarray:
    """FPFH [K, 33] of points [K, 3] in the part's frame; normals point away from the part's centre."""
    return fpfh(kept, normals(kept, np.zeros(3)), radius)


class PatchCore(Method):
    """Registration, a coreset memory bank of what ``_described`` gives, distances to it."""

    def __init__(self, seed: int, device: str, share: float, most: int) -> None:
        super().__init__(seed, device)
        self._share, self._most = share, most

    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        self._posed = Posed(clouds)
        self._learn(self._posed.clouds)
        features = np.concatenate([self._described(c)[1] for c in self._posed.clouds])
        size = min(max(int(self._share * len(features)), 1), self._most)
        self._bank = Bank(features, size, self.seed, self.device)

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        q = self._posed(points)
        where, features = self._described(q)
        scores = self._bank.distance(features)
        return float(scores.max()), carried(scores, where, q)

    def bank_bytes(self) -> int:
        return self._bank.bytes()

    def _learn(self, clouds: Sequence[np.ndarray]) -> None:
        """What is needed of the good scans [M_i, 3], posed, before they can be described."""

    @abstractmethod
    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a posed scan [M, 3] the points that have features [K, 3], and these [K, C]."""


class PatchCoreFPFH(PatchCore):
    """PatchCore on FPFH.

    Args:
        share, most: of the good features in the bank. voxel: share of the part's diagonal that scans are thinned to.
        reach: radius of the histogram, in voxels.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        share: float = 0.1,
        most: int = 10_000,
        voxel: float = VOXEL,
        reach: float = REACH,
    ) -> None:
        super().__init__(seed, device, share, most)
        self._voxel, self._reach = voxel, reach

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = q[voxel_pick(q, self._voxel)]
        return kept, posed_fpfh(kept, self._reach * self._voxel)


class PatchCoreRaw(PatchCoreFPFH):
    """PatchCore on FPFH and coordinates, the benchmark's "PatchCore (FPFH+Raw)"; settings as of PatchCoreFPFH."""

    def _learn(self, clouds: Sequence[np.ndarray]) -> None:
        both = [super(PatchCoreRaw, self)._described(c) for c in clouds]
        self._spread = [np.concatenate(part).std(0).mean() for part in zip(*both)]

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept, features = super()._described(q)
        where = np.tile(kept / self._spread[0], features.shape[1] // 3)
        return kept, np.concatenate([features / self._spread[1], where], 1)


class PatchCorePointMAE(PatchCore):
    """PatchCore on Point-MAE's features of groups of points.

    Args:
        share, most: of the good features in the bank. weights: file of the official pre-training (``pretrain.pth``); without it the
            network is trained on the good scans. steps: of that training. groups: of a scan.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        share: float = 0.5,
        most: int = 10_000,
        weights: str | None = None,
        steps: int = 300,
        groups: int = 512,
    ) -> None:
        super().__init__(seed, device, share, most)
        self._features = Features(weights, steps, groups, seed, device)

    def _learn(self, clouds: Sequence[np.ndarray]) -> None:
        self._features.fit(clouds)
        self.note = self._features.note

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._features(q)

    def model_bytes(self) -> int:
        return self._features.bytes()
