"""Connected regions of a scan that stand out, and of the part's surface that the scan lacks. Lengths are shares of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r3dad.coverage import gaps
from r3dad.features import NEIGHBOURS
from r3dad.neighbours import Neighbours, facing, spacings
from r3dad.scorer import top
from r3dad.surface import Surface

GROW = -1.0
"""Logit down to which a region grows from its hottest points (a chance of a quarter)."""
HOP = 4.0
"""Points of a region are at most so many spacings apart."""
SURE = 10.0
"""Logit that a region of missing surface counts as."""
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
    """Regions, and what was computed on the way: ``calm [N]`` deviation averaged over 8 neighbours and the point itself, ``outside [N]``
    whether that leaves limits that a person gave, ``spacing`` of the scan."""

    regions: list[Region]
    calm: np.ndarray
    outside: np.ndarray
    spacing: float


def area_of(surface: Surface) -> np.ndarray:
    """Area that each surface point stands for ``[S]``: a disc with 16 neighbours in it and the last one on its rim."""
    return np.pi * surface.reach**2 / 16.5


def find_regions(
    surface: Surface,
    points: np.ndarray,
    logits: np.ndarray,
    signed: np.ndarray,
    limits: np.ndarray,
    near: np.ndarray,
    *,
    point_bar: float,
    gap_bar: float,
) -> Found:
    """Regions of a scan's points ``[N, 3]`` on the surface, hottest first.

    Args:
        logits: [N] of the points. signed: [N] deviation. limits: [N, 2] that a person gave (NaN: none). near: [N] nearest surface point.
        point_bar: a region's five highest logits lie above it on average. gap_bar: log of the gap over the typical gap.
    """
    find = Neighbours(points)
    distance, j = find(find, NEIGHBOURS)
    normals = surface.normals[near]
    local = np.maximum(spacings(distance, j, facing(normals[j.T], normals)), 1e-9)
    spacing = float(np.median(local)) / 1.6  # the eighth neighbour of an even sample lies 1.6 spacings away
    calm = signed[j[:, :9]].mean(1)
    outside = (calm < limits[:, 0]) | (calm > limits[:, 1])
    member = np.flatnonzero((logits > min(GROW, point_bar)) | outside)
    far, owner = find(surface.find)
    lacking, sure = _lacking(surface, find, points, signed, local, normals, far, owner, gap_bar)
    gone = np.flatnonzero(lacking)
    part = _joined(np.concatenate([points[member], surface.points[gone]]), HOP * spacing)
    found = []
    for label in range(part.max() + 1 if len(part) else 0):
        inside = np.flatnonzero(part == label)
        own, open_ = member[inside[inside < len(member)]], gone[inside[inside >= len(member)] - len(member)]
        peak = top(logits[own], 0.0) if len(own) >= LEAST else -np.inf
        hollow = int(sure[open_].sum()) >= LEAST
        if not hollow:  # a gap as good scans have them
            open_ = open_[:0]
        if not (peak > point_bar or hollow or outside[own].sum() >= LEAST):
            continue
        held = np.zeros(len(surface.points), bool)
        held[open_] = True
        mine = np.zeros(len(points), bool)
        mine[own] = True
        at = np.flatnonzero((mine[owner] & (far < HOP * spacing)) | held)
        found.append(Region(own, open_, at, np.where(held[at], -1, owner[at]), max(peak, SURE) if hollow else peak))
    found.sort(key=lambda r: -r.peak)
    return Found(found, calm, outside, spacing)


def _lacking(
    surface: Surface,
    find: Neighbours,
    points: np.ndarray,
    signed: np.ndarray,
    local: np.ndarray,
    normals: np.ndarray,
    far: np.ndarray,
    owner: np.ndarray,
    gap_bar: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Surface that the scan should show and does not, up to the rim of the opening, and where that is sure: bool [S] both."""
    gap = gaps(surface, find, local, normals)
    expected, typical = gap.expected > 0, gap.typical
    sure = (np.log((0.1 + gap.wide) / (0.1 + typical)) > gap_bar) & expected
    inner = np.flatnonzero(((gap.empty > typical) & expected) | sure)
    inner = inner[~_covered(surface, inner, find, points, signed, typical * local[owner[inner]])]
    part = _joined(surface.points[inner], 2 * surface.spacing)
    inner = inner[np.bincount(part, sure[inner])[part] >= LEAST] if len(inner) else inner
    if not len(inner):
        return np.zeros(len(surface.points), bool), sure
    # Surface closer to the rim than a typical gap looks covered: the opening reaches that much further.
    reach = typical * local[owner] - 0.5 * float(np.median(far))
    return Neighbours(surface.points[inner])(surface.points)[0] < reach, sure


def _covered(
    surface: Surface, at: np.ndarray, find: Neighbours, points: np.ndarray, signed: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """Which surface points ``at`` have points of the scan above or below them: moved, not missing."""
    if not len(at):
        return np.zeros(0, bool)
    v = points[(j := find(surface.points[at], 8)[1])] - surface.points[at, None]
    along = np.einsum("nki,ni->nk", v, surface.normals[at])
    aside = np.sqrt(np.maximum((v * v).sum(2) - along * along, 0))
    moved = np.abs(signed[j]) > 0.5 * np.abs(along)  # not the other side of a thin wall, which is in its place
    return np.asarray(((aside < reach[:, None]) & moved).any(1))


def _joined(points: np.ndarray, hop: float) -> np.ndarray:
    """Connected component ``[n]`` of each point, where points closer than ``hop`` are connected."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    i, j = cKDTree(points).query_pairs(hop, output_type="ndarray").T if len(points) else np.zeros((2, 0), int)
    graph = coo_matrix((np.ones(len(i), bool), (i, j)), shape=(len(points), len(points)))
    return connected_components(graph, directed=False)[1]
