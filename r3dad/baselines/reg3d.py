"""Reg3D-AD (Liu et al., "Real3D-AD: A Dataset of Point Cloud Anomaly Detection", NeurIPS 2023): two memory banks after registration.

One bank holds the registered coordinates, the other Point-MAE's features; the scores of both are added. Departure: each score is divided
by what good scans show against a bank of the others (the public code scales by the largest and smallest score of the test set).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r3dad.baselines.bank import Bank
from r3dad.baselines.cloud import Posed, carried
from r3dad.baselines.method import Method
from r3dad.baselines.pointmae import Features
from r3dad.neighbours import voxel_pick


class Reg3DAD(Method):
    """Coordinates and Point-MAE features, each with a coreset bank.

    Args:
        most: of the points in the bank of coordinates. share: of the good features in the other bank. voxel: share of the part's diagonal
            that scans are thinned to. weights, steps, groups: as of PatchCorePointMAE.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        most: int = 10_000,
        share: float = 0.5,
        weights: str | None = None,
        steps: int = 300,
        groups: int = 512,
        voxel: float = 0.015,
    ) -> None:
        super().__init__(seed, device)
        self._most, self._share, self._voxel = most, share, voxel
        self._features = Features(weights, steps, groups, seed, device)

    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        self._posed = Posed(clouds)
        self._features.fit(self._posed.clouds)
        self.note = self._features.note
        described = [self._described(c) for c in self._posed.clouds]
        self._banks = [self._bank([d[k][1] for d in described], k) for k in range(2)]
        self._unit = [1.0, 1.0]
        if len(clouds) > 1:
            self._unit = [self._typical([d[k][1] for d in described], k) for k in range(2)]

    def _bank(self, features: Sequence[np.ndarray], kind: int) -> Bank:
        known = np.concatenate(features)
        size = min(len(known), self._most) if kind == 0 else max(int(self._share * len(known)), 1)
        return Bank(known, size, self.seed, self.device)

    def _typical(self, features: Sequence[np.ndarray], kind: int) -> float:
        """Mean distance of the last good scan to a bank of the others."""
        return float(self._bank(features[:-1], kind).distance(features[-1]).mean())

    def _described(self, q: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        kept = q[voxel_pick(q, self._voxel)]
        return [(kept, kept), self._features(q)]

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        q = self._posed(points)
        both = [
            carried(bank.distance(features) / unit, where, q)
            for bank, unit, (where, features) in zip(self._banks, self._unit, self._described(q))
        ]
        scores = both[0] + both[1]
        return float(scores.max()), scores

    def bank_bytes(self) -> int:
        return sum(bank.bytes() for bank in self._banks)

    def model_bytes(self) -> int:
        return self._features.bytes()
