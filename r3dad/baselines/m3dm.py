"""M3DM (Wang et al., CVPR 2023), its point branch: Point-MAE's features given to every point, averaged locally, and a memory bank.

Departures: no colour branch and so no fusion (as in the Real3D-AD benchmark); of its one-class machines, which weigh the branches, nothing
is left with one branch; features are averaged over a point's neighbours, where M3DM pools its image plane.
"""

from __future__ import annotations

import numpy as np

from r3dad.baselines.patchcore import PatchCorePointMAE
from r3dad.neighbours import Neighbours, voxel_pick


class M3DM(PatchCorePointMAE):
    """Settings as of PatchCorePointMAE, and

    Args:
        voxel: share of the part's diagonal that scans are thinned to. pooled: neighbours that features are averaged over.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        share: float = 0.1,
        most: int = 10_000,
        weights: str | None = None,
        steps: int = 300,
        groups: int = 512,
        voxel: float = 0.015,
        pooled: int = 9,
    ) -> None:
        super().__init__(seed, device, share, most, weights, steps, groups)
        self._voxel, self._pooled = voxel, pooled

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centres, features = super()._described(q)
        kept = q[voxel_pick(q, self._voxel)]
        distance, j = Neighbours(centres)(kept, 3)
        w = 1 / (distance + 1e-8)
        each = np.einsum("nk,nkc->nc", w / w.sum(1, keepdims=True), features[j])
        near = Neighbours(kept)(kept, min(self._pooled, len(kept)))[1]
        return kept, each[near].mean(1)
