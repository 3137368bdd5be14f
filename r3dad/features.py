"""What the scorer sees of a scan: departures from the surface at several scales, coverage, gaps, shape and noise, per point.

Lengths are shares of the part's diagonal. Everything is linear in the number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r3dad.coverage import gaps
from r3dad.surface import Departure, Neighbours, Surface, surface_normals

NEIGHBOURS = 32
FLOOR = 0.001
"""Noise below this share of the diagonal is not told apart from the tolerance of good parts."""


@dataclass
class ScanFeatures:
    """Per-point input of the scorer, and what is known of the whole scan."""

    nodes: np.ndarray  #: [N, F] float32
    neighbours: np.ndarray  #: [N, NEIGHBOURS] int64, nearest first, each point itself first
    points: np.ndarray  #: [N, 3] float32, aligned
    normals: np.ndarray  #: [N, 3] float32, of the surface at the point
    gap: float  #: largest gap in the scan, in spacings of the scan
    typical: float  #: what 95 % of the surface's gaps stay below
    complete: float  #: share of the surface that can be seen which the scan covers
    noise: float
    spacing: float


def _mean(values: np.ndarray, weights: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Weighted mean of ``values [N, C]`` over neighbours ``j [N, k]``."""
    return np.einsum("nk,nkc->nc", weights, values[j]) / np.maximum(weights.sum(1), 1e-6)[:, None]


def _unsupported(size: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Factor in 0..1 that caps a stray point at twice the third largest size among its 8 neighbours."""
    third = np.partition(size[j[:, 1:9]], 5, axis=1)[:, 5]
    return np.minimum(1, 2 * third / np.maximum(size, 1e-9))


def _squash(x: np.ndarray) -> np.ndarray:
    return np.arcsinh(2 * x)


def _scales(field: np.ndarray, weights: np.ndarray, j: np.ndarray, wide: bool) -> list[np.ndarray]:
    """Means of ``field [N, C]`` over 8, 16 and 32 neighbours; wide: and over the neighbours' neighbours, twice."""
    flat = np.ones_like(weights[:, :16])
    levels = [_mean(field, flat[:, :8], j[:, :8]), _mean(field, flat, j[:, :16]), _mean(field, weights, j)]
    for _ in range(2 if wide else 0):
        levels.append(_mean(levels[-1], weights[:, ::2], j[:, ::2]))
    return levels


def describe(surface: Surface, fitted: list[np.ndarray]) -> tuple[ScanFeatures, list[Departure]]:
    """Features of a scan fitted to ``surface`` in several ways: clouds ``[N, 3]`` of the same points, the first for shape and gaps."""
    q = fitted[0]
    distance, j = Neighbours(q)(q, NEIGHBOURS + 1)
    j = j[:, :NEIGHBOURS]
    departures = [surface.departure(p) for p in fitted]
    first = departures[0]
    near = first.near
    normals = surface.normals[near].astype(np.float32)
    noise = float(np.median(np.abs(first.signed)))
    scale = np.float32(noise + FLOOR)
    weights = np.maximum(np.einsum("nki,ni->nk", normals[j], normals), 0.02).astype(np.float32)
    columns: list[np.ndarray] = []
    # The benefit of the doubt at edges.
    size = np.abs(first.signed)
    support = _unsupported(size, j)
    field = np.column_stack([size, first.vector]).astype(np.float32) * support[:, None].astype(np.float32)
    for x in _scales(field, weights, j, False):
        drift = np.linalg.norm(x[:, 1:], axis=1)
        columns += [np.log((x[:, 0] + 1e-4) / scale), np.log((drift + 1e-4) / scale)]
    columns += [_squash(field[:, 0] / scale), _squash(10 * size * (1 - support) / scale)]
    # Planes of the nearest surface points, under every fit, at all scales.
    for d in departures:
        size = np.abs(d.plane)
        signed = (d.plane * _unsupported(size, j)).astype(np.float32)
        columns.append(_squash(signed / scale))
        field = np.column_stack([signed, np.abs(signed)])
        for x in _scales(field, weights, j, True) + surface.coarse(field, near):
            columns += [
                _squash(2 * x[:, 0] / scale),
                np.log((x[:, 1] + 1e-4) / scale),
                np.log((np.abs(x[:, 0]) + 1e-4) / scale),
            ]
    # What sticks out of an edge or is worn off it lies beyond one of its planes only.
    for sided in (first.low, first.high):
        x = _squash(sided / scale)
        columns += [x, x[j[:, :8]].mean(1), x[j[:, :32]].mean(1)]
    # Shape of the scan against the surface's.
    x = q[j[:, :14]]
    own, curvature = surface_normals(q, x, np.full(x.shape[:2], 1 / x.shape[1]))
    turned = 1 - np.abs((own * normals).sum(1))
    shape = np.column_stack([curvature, turned, surface.curvature[near]])
    around = shape[j[:, :16]].mean(1)
    local = np.median(distance[:, 8][j[:, ::2]], axis=1)
    ratio = distance[:, 16] / surface.reach[near]
    density = np.log(ratio / np.median(ratio))
    columns += [*np.log(shape + 0.02).T, *np.log(around + 0.02).T, density, density[j[:, :16]].mean(1)]
    # Surface the scan should have seen and did not, carried to the points beside it, and how gappy the scan is anyway.
    empty, expected, complete = gaps(surface, q, local)
    wide = empty[surface.near].mean(1)
    beside = surface.near[near]
    typical = float(np.quantile(wide[expected], 0.95)) if expected.any() else 1.0
    coverage = wide[near]
    hops = [wide]
    for _ in range(3):
        hops.append(hops[-1][surface.near].max(1))
    # A scan's points stand apart by several of the surface's: from a gap's inside to its rim it may be a few steps.
    core = np.flatnonzero(wide > 0.4 + 1.4 * typical)
    lost = np.minimum(Neighbours(surface.points[core])(q)[0], 0.1) if len(core) else np.full(len(q), 0.1)
    columns += [np.log(lost + 0.002), np.log((lost + 0.002) / local)]
    columns += [np.log((0.1 + h[near]) / (0.1 + typical)) for h in hops[2:]]
    # Neighbours on one side only: a rim, or the border of the view.
    for k in (16, 32):
        columns.append(np.linalg.norm(q[j[:, :k]].mean(1) - q, axis=1) / distance[:, k - 1])
    carried = [
        empty[near],
        coverage,
        wide[beside].max(1),
        empty[beside].max(1),
        coverage[j].max(1),
        coverage[j].mean(1),
        wide[beside].mean(1),
    ]
    columns += [np.log(0.1 + v) for v in carried]
    columns += [np.log((0.1 + carried[2]) / (0.1 + typical)), np.log((0.1 + carried[4]) / (0.1 + typical))]
    columns += [expected[near], expected[beside].mean(1), np.full(len(q), np.log(0.1 + typical))]
    gap = float(np.mean(np.sort(wide)[-5:]))
    columns += [np.full(len(q), np.log(noise + 1e-4)), np.log(local + 1e-4), np.log(local / (noise + 1e-4))]
    nodes = np.column_stack(columns).astype(np.float32)
    spacing = float(np.median(local))
    return ScanFeatures(nodes, j, q.astype(np.float32), normals, gap, typical, complete, noise, spacing), departures
