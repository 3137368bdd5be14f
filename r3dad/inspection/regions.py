"""Connected regions of a scan that stand out, and of the part's surface that the scan lacks. Lengths are shares of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r3dad.features import gaps
from r3dad.scorer import top
from r3dad.surface import Neighbours, Surface

GROW = 0.0
"""Logit down to which a region grows from its hottest points: as likely defective as not."""
HOP = 2.5
"""Points of a region are at most so many spacings apart."""
LEAST = 5
"""Points of a region, at least."""


@dataclass
class Region:
    """Points of the scan, ``points [n]``, and of the surface that the scan lacks, ``lacking [l]``: indices.

    ``surface [m]``: the part's surface that belongs to it, ``owner [m]``: the scan's point that stands for each of those, -1 where lacking.
    """

    points: np.ndarray
    lacking: np.ndarray
    surface: np.ndarray
    owner: np.ndarray
    peak: float


@dataclass
class Found:
    """Regions, and what was computed on the way: ``calm [N]`` deviation averaged over 8 neighbours, ``near [N]`` surface points."""

    regions: list[Region]
    calm: np.ndarray
    lacking: np.ndarray  #: bool [S]
    spacing: float


def area_of(surface: Surface) -> np.ndarray:
    """Area that each surface point stands for ``[S]``: a disc with 16 neighbours in it and the last one on its rim."""
    return np.pi * surface.reach**2 / 16.5


def _parts(count: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Connected components ``[count]`` of a graph with edges i - j."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    return connected_components(coo_matrix((np.ones(len(i), bool), (i, j)), shape=(count, count)), directed=False)[1]


def find_regions(
    surface: Surface,
    points: np.ndarray,
    logits: np.ndarray,
    signed: np.ndarray,
    limits: np.ndarray,
    *,
    point_bar: float,
    gap_bar: float,
) -> Found:
    """Regions of a scan's points ``[N, 3]`` on the surface, hottest first.

    Args:
        logits: [N] of the points. signed: [N] deviation. limits: [N, 2] that a person gave (NaN: none).
        point_bar: a region's five highest logits lie above it on average. gap_bar: log of the gap over the typical gap.
    """
    distance, j = Neighbours(points)(points, 9)
    spacing = float(np.median(distance[:, 8])) / 1.6  # the eighth neighbour of an even sample lies 1.6 spacings away
    calm = signed[j].mean(1)
    outside = (calm < limits[:, 0]) | (calm > limits[:, 1])
    member = (logits > min(GROW, point_bar)) | outside
    # Surface that is lacking: wide gaps first, then all of the opening around them.
    far, owner = Neighbours(points)(surface.points)
    empty, expected = gaps(surface, points, np.maximum(distance[:, 8], 1e-9))
    wide = empty[surface.near].mean(1)
    typical = float(np.quantile(wide[expected], 0.95)) if expected.any() else 1.0
    lacking = (np.log((0.1 + wide) / (0.1 + typical)) > gap_bar) & expected
    # One graph: points of the scan, then points of the surface.
    count = len(points)
    a, b = np.repeat(np.arange(count), 8), j[:, 1:].ravel()
    near_by = (distance[:, 1:].ravel() < HOP * 1.6 * spacing) & member[a] & member[b]
    s, t = np.repeat(np.arange(len(surface.points)), 16), surface.near[:, 1:].ravel()
    both = lacking[s] & lacking[t]
    rim = np.flatnonzero(lacking & member[owner])
    i = np.concatenate([a[near_by], count + s[both], count + rim])
    k = np.concatenate([b[near_by], count + t[both], owner[rim]])
    part = _parts(count + len(surface.points), i, k)
    found = []
    cold = np.ones(count, bool)
    active = np.concatenate([member, lacking])
    for label in np.unique(part[active]):
        inside = np.flatnonzero((part == label) & active)
        own, gone = inside[inside < count], inside[inside >= count] - count
        peak = top(logits[own], 0.0) if len(own) >= LEAST else -np.inf
        beyond = outside[own].sum() >= LEAST
        if not (peak > point_bar or beyond or len(gone) >= LEAST):
            continue
        cold[own] = False
        mine = np.zeros(count, bool)
        mine[own] = True
        held = np.zeros(len(surface.points), bool)
        held[gone] = True
        at = np.flatnonzero((mine[owner] & (far < HOP * spacing)) | held)
        found.append(Region(own, gone, at, np.where(held[at], -1, owner[at]), max(peak, 10.0 if len(gone) else peak)))
    found.sort(key=lambda r: -r.peak)
    return Found(found, calm, lacking, spacing)
