"""The figures of one region: place, size, depth, volume, and what kind of defect it looks like. Lengths are shares of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r3dad.inspection.inspection import Kind
from r3dad.inspection.regions import LEAST, Found, Region
from r3dad.surface import Surface

DEEPEST = 0.03
"""Share of a region's points, of those that leave the surface to its side, whose mean deviation is its depth."""
LONG = 2.2
"""A region this many times as long as it is wide is a line."""
OPEN = 0.35
"""Share of a region's area without points from which on it is missing material."""
MIXED = (0.3, 0.8)
"""Between these shares of raised points, one face stands out while another lies back: bent."""
EDGE = 0.1
"""Share of a dent's area without points from which on an edge is broken."""
AROUND = 0.35
"""Length of the mean normal below which a dent reaches around an edge: it is broken."""


@dataclass
class Figures:
    """Of one region; ``weights``: of the scan's points in it, and ``lacking_weights`` of the surface that it lacks: together they sum to 1
    (or all are 0)."""

    kind: Kind
    extent: np.ndarray
    area: float
    depth: float | None
    volume: float | None
    weights: np.ndarray
    lacking_weights: np.ndarray


def depth_of(signed: np.ndarray) -> tuple[float, float]:
    """Depth of a region, signed, from its points' deviations, and the side (+1 or -1) it lies on."""
    side = 1.0 if signed.sum() >= 0 else -1.0
    out = np.sort(side * signed)[::-1]
    count = max(int(round(DEEPEST * (out > 0).sum())), min(3, len(out)))
    return side * float(out[:count].mean()), side


def measure(
    region: Region, found: Found, surface: Surface, cell: np.ndarray, points: np.ndarray, signed: np.ndarray
) -> Figures:
    """Figures of a region. cell: [S] area of each surface point; points: [N, 3] the fitted scan; signed: [N] its deviation."""
    area = cell[region.surface]
    total = float(area.sum())
    seen = region.owner >= 0
    weights = np.bincount(region.owner[seen], area[seen], len(points))[region.points]
    lacking = cell[region.lacking]
    if lacking.sum() >= OPEN * total and not _fractured(region, found, signed):
        return _opening(region, surface, lacking)
    whole = max(float(weights.sum() + lacking.sum()), 1e-12)
    cloud = np.concatenate([points[region.points], surface.points[region.lacking]])
    size = np.concatenate([weights, lacking]) / whole
    extent = _extent(cloud, size)
    open_share = float(lacking.sum()) / max(total, 1e-12)
    volume: float | None = None
    depth, side = depth_of(signed[region.points])
    kind: Kind = "broken edge"
    if open_share < OPEN:
        volume = float((area[seen] * found.calm[region.owner[seen]]).sum())
        kind = _kind(region, surface, points, found, extent, side, open_share)
    return Figures(kind, extent, total, depth, volume, weights / whole, lacking / whole)


def _fractured(region: Region, found: Found, signed: np.ndarray) -> bool:
    """Whether points of an opening lie well inside of where the surface was: a fracture, no hole."""
    return int((signed[region.points] < -2 * found.spacing).sum()) >= LEAST


def _extent(cloud: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Size of a cloud ``[n, 3]`` along its own axes, longest first; weights ``[n]`` sum to 1."""
    spread = cloud - weights @ cloud
    axes = np.linalg.eigh((spread * weights[:, None]).T @ spread)[1][:, ::-1]
    along = spread @ axes
    return np.sort(np.quantile(along, 0.99, axis=0) - np.quantile(along, 0.01, axis=0))[::-1]


def _opening(region: Region, surface: Surface, lacking: np.ndarray) -> Figures:
    """Missing surface: what is there beside it is its rim and does not count."""
    area = float(lacking.sum())
    extent = _extent(surface.points[region.lacking], lacking / area)
    return Figures("missing", extent, area, None, None, np.zeros(len(region.points)), lacking / area)


def _kind(
    region: Region,
    surface: Surface,
    points: np.ndarray,
    found: Found,
    extent: np.ndarray,
    side: float,
    open_share: float,
) -> Kind:
    """A guess, by what tells apart the defects of the generator that the figures in docs/inspect.md are taken on."""
    raised = float((found.calm[region.points] > 0).mean())
    if MIXED[0] < raised < MIXED[1]:
        return "bent"
    if side > 0:
        return "bump"
    normals = surface.normals[surface.find(points[region.points])[1]]
    if open_share > EDGE or np.linalg.norm(normals.mean(0)) < AROUND:
        return "broken edge"
    return "scratch" if extent[0] > LONG * extent[1] else "dent"
