"""IMRNet (Li et al., "Towards Scalable 3D Anomaly Detection and Localization", CVPR 2024): mask, reconstruct, mask again.

A masked autoencoder is trained on good scans; at test groups are hidden and predicted from the others, round after round, each on what the
last one made, and a point's score is its distance to the result. Departures: a hidden group's place is the mean of its points
(the place of one point would give a defect away); the network is this package's Point-MAE, trained for a
short schedule; every group is hidden once per round rather than by chance; the paper's sampling by geometry is farthest points here, and
its distance of features is left out; scans are registered first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from r3dad.baselines.cloud import Posed, carried
from r3dad.baselines.method import Method
from r3dad.baselines.pointmae import UNIT, grouped, trained
from r3dad.neighbours import Neighbours, thin

POINTS = 1024
GROUPS = 64
"""Of 32 points each: every point lies in about two."""


class IMRNet(Method):
    """Reconstruction by iterated masking.

    Args:
        steps: of the training. rounds: of masking at test. parts: shares that the groups are hidden in, one after the other.
        neighbours: that a point's distance is averaged over.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        steps: int = 1000,
        rounds: int = 3,
        parts: int = 3,
        neighbours: int = 16,
    ) -> None:
        super().__init__(seed, device)
        self._steps, self._rounds, self._parts, self._neighbours = steps, rounds, parts, neighbours
        self.note = f"96 wide, 4 deep, trained {steps} steps on the good scans"

    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        self._posed = Posed(clouds)
        good = [UNIT * c for c in self._posed.clouds]
        hidden = 1 / self._parts
        self._model = trained(
            good, self._steps, self.seed, self.device, points=POINTS, groups=GROUPS, masked=hidden, middle=True
        )

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        q = self._posed(points)
        kept = q[thin(q, POINTS)]
        rebuilt = torch.from_numpy(UNIT * kept).float().to(self.device)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self._rounds):
            rebuilt = self._round(rebuilt[thin(rebuilt.double().cpu().numpy(), POINTS)], generator)
        distance = Neighbours(rebuilt.double().cpu().numpy() / UNIT)(kept)[0]
        distance = distance[Neighbours(kept)(kept, min(self._neighbours, len(kept)))[1]].mean(1)
        return float(distance.max()), carried(distance, kept, q)

    @torch.no_grad()
    def _round(self, cloud: Tensor, generator: torch.Generator) -> Tensor:
        """The cloud [n, 3] with every group predicted from those of the other parts: [GROUPS * 32, 3]."""
        centres, groups = grouped(cloud, min(GROUPS, len(cloud)), middle=True)
        found = []
        for hidden in torch.randperm(len(centres), generator=generator).chunk(self._parts):
            hidden = hidden.to(cloud.device)
            found.append(self._model(centres[None], groups[None], hidden[None])[0] + centres[hidden][:, None])
        return torch.cat(found).flatten(0, 1)

    def model_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self._model.parameters())
