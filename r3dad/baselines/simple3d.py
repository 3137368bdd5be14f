"""Simple3D (Cheng et al., "Towards High-Resolution 3D Anomaly Detection", AAAI 2026): no training at all.

Its two parts: descriptors of neighbourhoods of several sizes side by side, and their mean over the neighbours of a point. Then a memory
bank, as PatchCore. Departures: FPFH at every size (the paper's descriptor is of the same family); the pose of ``r3dad.align`` is used
only to orient normals; a coreset bank.
"""

from __future__ import annotations

import numpy as np

from r3dad.baselines.patchcore import PatchCore, posed_fpfh
from r3dad.neighbours import Neighbours, voxel_pick


class Simple3D(PatchCore):
    """FPFH of several sizes, averaged over neighbours, compared with a memory bank.

    Args:
        share, most: of the good features in the bank. voxel: share of the part's diagonal that scans are thinned to.
        sizes: radii of the descriptors, in voxels. pooled: neighbours (the point itself among them) that features are averaged over.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        share: float = 0.25,
        most: int = 10_000,
        voxel: float = 0.015,
        sizes: tuple[float, ...] = (2.5, 4.0, 6.0),
        pooled: int = 16,
    ) -> None:
        super().__init__(seed, device, share, most)
        self._voxel, self._sizes, self._pooled = voxel, tuple(sizes), pooled

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = q[voxel_pick(q, self._voxel)]
        features = np.concatenate([posed_fpfh(kept, size * self._voxel) for size in self._sizes], 1)
        near = Neighbours(kept)(kept, min(self._pooled, len(kept)))[1]
        return kept, features[near].mean(1)
