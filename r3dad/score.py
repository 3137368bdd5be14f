"""From a reconstruction to scores: sampling, normalisation, the paper's scores, and back to every point of the scan."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from r3dad import ops
from r3dad.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """Where a scan was before normalisation, so that every result has units again.

    Attributes:
        centre: [3] float64, centre of gravity in the scan's units.
        scale: one normalised unit in the scan's units.
    """

    centre: Tensor
    scale: float

    def apply(self, points: Tensor) -> Tensor:
        """[..., 3] in the scan's units -> float32, normalised. The subtraction is in float64: scans may lie far from the origin."""
        return ((points.double() - self.centre) / self.scale).float()


def normalisation(points: Tensor) -> Normalisation:
    """Centre of gravity to the origin, scaled into [-1, 1] (the paper's input); points [M, 3] float64.

    Raises:
        InputError: the points all lie in one place.
    """
    centre = points.double().mean(0)
    scale = float((points.double() - centre).abs().max())
    if not scale > 1e-12 * float(centre.abs().max()):
        raise InputError("all points lie in one place: expected a scan with an extent")
    return Normalisation(centre, scale)


def sample(count: int, wanted: int, seed: int) -> Tensor:
    """Indices of ``wanted`` of ``count`` points, uniform without replacement (all of them where there are no more); int64."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:wanted]


def nearest_distance(points: Tensor, reconstruction: Tensor) -> Tensor:
    """[B, N] squared distance of each point to the reconstruction (reported by the public code beside the cluster score)."""
    return ops.knn(points, reconstruction, 1)[0][..., 0]


def upsample(point_scores: Tensor, sampled: Tensor, points: Tensor, neighbours: int = 3) -> Tensor:
    """Scores of every point from those of the sampled ones: the mean over the nearest, weighted by inverse distance.

    Args:
        point_scores: [N] of the sampled points. sampled: [N, 3]. points: [M, 3], same frame and dtype.

    Returns:
        [M]; a sampled point keeps its own score.
    """
    squared, index = ops.knn(points[None], sampled[None], min(neighbours, len(sampled)))
    weight = 1 / squared[0].sqrt().clamp(min=1e-9)
    return (weight * point_scores[index[0]]).sum(-1) / weight.sum(-1)


def threshold(good_scores: Tensor, false_alarm_rate: float) -> float:
    """The score that a good scan exceeds with the stated rate: the upper quantile of scores of good scans.

    Args:
        good_scores: [n] scores of good scans (resampled good scans count). false_alarm_rate: in (0, 1).
    """
    return float(torch.quantile(good_scores.double(), 1 - false_alarm_rate))
