"""What the good scans say about good parts: their scores, their hottest places, their gaps, and how far they depart from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r3dad.features import ScanFeatures
from r3dad.neighbours import Neighbours
from r3dad.scorer import top
from r3dad.surface import Departure, Surface


@dataclass(frozen=True)
class Calibration:
    """Of G good scans, each scored with its n - 1 simulated variations against the surface of the others.

    Attributes:
        scores: [G, n] of the scans. peaks: [G, n] mean of the five highest point logits. gaps: [G, n] the largest gap over the typical
            one (log). tolerance: [S] per point of the surface, how far those scans departed from it, noise averaged out (shares of the
            diagonal): the largest departure of any scan, averaged over the place's 17 nearest surface points.
    """

    scores: np.ndarray
    peaks: np.ndarray
    gaps: np.ndarray
    tolerance: np.ndarray

    def threshold(self, false_alarm_rate: float) -> float:
        """Score that the stated share of the calibration's scans exceeds."""
        return float(np.quantile(self.scores, 1 - false_alarm_rate))

    def doubt(self, false_alarm_rate: float) -> tuple[float, float]:
        """Lowest and highest threshold had any one good scan been left out (of a lone one: any of its variations)."""
        blocks = self.scores if len(self.scores) > 1 else self.scores.T
        left = [np.quantile(np.delete(blocks, i, 0), 1 - false_alarm_rate) for i in range(len(blocks))]
        if not left or len(blocks) < 2:
            left = [self.threshold(false_alarm_rate)]
        return float(min(left)), float(max(left))

    def state(self) -> dict[str, Tensor]:
        """As tensors, for the model file."""
        return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in vars(self).items()}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor]) -> Calibration:
        """The calibration that :meth:`state` described."""
        return cls(**{k: v.numpy() for k, v in tensors.items()})


class Calibrating:
    """Takes the calibration's scans one by one."""

    def __init__(self, surface: Surface, good: int) -> None:
        self._surface = surface
        self._rows: list[list[tuple[float, float, float]]] = [[] for _ in range(good)]
        self._widest = np.zeros(len(surface.points))

    def add(self, scan: int, score: float, logits: np.ndarray, features: ScanFeatures, departure: Departure) -> None:
        """One (variation of) good scan ``scan``: its score, smoothed logits ``[N]``, features and departure."""
        gap = float(np.log((0.1 + features.gap) / (0.1 + features.typical)))
        self._rows[scan].append((score, top(logits, 0.0), gap))
        calm = np.abs(departure.signed[features.neighbours[:, :16]].mean(1))
        distance, near = Neighbours(features.points)(self._surface.find)
        seen = distance < 3 * max(features.spacing, self._surface.spacing)
        self._widest = np.maximum(self._widest, np.where(seen, calm[near], 0))

    def done(self) -> Calibration:
        """What was learned."""
        rows = np.array(self._rows)
        spread = self._widest[self._surface.near].mean(1).astype(np.float32)
        return Calibration(rows[..., 0], rows[..., 1], rows[..., 2], spread)
