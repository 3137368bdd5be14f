"""The memory bank of PatchCore (Roth et al., CVPR 2022): a coreset of the good scans' features, and distances to it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 24  # distances held at a time
_WIDE = 64  # features wider than this are projected for the choice of the coreset, as PatchCore does


def coreset(features: Tensor, size: int, seed: int) -> Tensor:
    """Indices [size] of a greedy k-center coreset of features [N, C]: each next one is the farthest from those chosen."""
    generator = torch.Generator().manual_seed(seed)
    if features.shape[1] > _WIDE:
        turn = torch.randn(features.shape[1], _WIDE, generator=generator).to(features)
        features = features @ turn / _WIDE**0.5
    chosen = torch.empty(min(size, len(features)), dtype=torch.int64)
    last = int(torch.randint(len(features), (1,), generator=generator))
    least = torch.full((len(features),), torch.inf, device=features.device)
    square = features.square().sum(1)
    for i in range(len(chosen)):
        chosen[i] = last
        least = torch.minimum(least, square - 2 * (features @ features[last]) + square[last])
        least[last] = -1
        last = int(least.argmax())
    return chosen


class Bank:
    """Features of the good scans to compare with.

    Attributes:
        features: [size, C] float32.
    """

    def __init__(self, features: np.ndarray | Tensor, size: int, seed: int, device: str = "cpu") -> None:
        """From the features [N, C] of all good scans."""
        known = torch.as_tensor(features, dtype=torch.float32).to(device)
        self.features = known[coreset(known, size, seed).to(device)].contiguous()

    def distance(self, features: np.ndarray | Tensor) -> np.ndarray:
        """Euclidean distance (not squared) of each of features [M, C] to the nearest in the bank: [M] float64."""
        query = torch.as_tensor(features, dtype=torch.float32).to(self.features.device)
        rows = max(1, _CHUNK // len(self.features))
        square = self.features.square().sum(1)
        near = [(part, (square - 2 * part @ self.features.T).argmin(1)) for part in query.split(rows)]
        apart = [(part - self.features[j]).norm(dim=1) for part, j in near]
        return torch.cat(apart).double().cpu().numpy()

    def bytes(self) -> int:
        """Size in memory."""
        return self.features.numel() * self.features.element_size()
