"""What the scorer sees of a scan: departures from the surface at several scales, coverage, gaps, shape and noise, per point.

Lengths are shares of the part's diagonal. Everything is linear in the number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r3dad.surface import Departure, Neighbours, Surface, surface_normals

NEIGHBOURS = 32
FLOOR = 0.001
"""Noise below this share of the diagonal is not told apart from the tolerance of good parts."""


@dataclass
class ScanFeatures:
    """Per-point input of the scorer and the hand-made scores."""

    nodes: np.ndarray  #: [N, F] float32
    neighbours: np.ndarray  #: [N, NEIGHBOURS] int64, nearest first, each point itself first
    points: np.ndarray  #: [N, 3] float32, aligned
    normals: np.ndarray  #: [N, 3] float32, of the surface at the point
    plain: np.ndarray  #: [N] score without learning, in multiples of the scan's noise
    gap: float  #: largest gap in the scan, in spacings of the scan
    typical: float  #: what 95 % of the surface's gaps stay below
    complete: float  #: share of the surface that can be seen which the scan should have seen
    noise: float
    spacing: float


def _mean(values: np.ndarray, weights: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Weighted mean of ``values [N, C]`` over neighbours ``j [N, k]``."""
    return np.einsum("nk,nkc->nc", weights, values[j]) / np.maximum(weights.sum(1), 1e-6)[:, None]


def _unsupported(size: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Factor in 0..1 that caps a stray point at twice the third largest size among its 8 neighbours."""
    third = np.partition(size[j[:, 1:9]], 5, axis=1)[:, 5]
    return np.minimum(1, 2 * third / np.maximum(size, 1e-9))


def _log(x: np.ndarray) -> np.ndarray:
    return np.log(x + 1e-4)


def _squash(x: np.ndarray) -> np.ndarray:
    return np.arcsinh(2 * x)


def gaps(surface: Surface, points: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Emptiness of every surface point ``[S]`` in spacings of the scan there, and whether the scan should have seen it.

    ``spacing [N]`` is the scan's local spacing. Emptiness is 0 where the sensor could not look.
    """
    least, i = Neighbours(points)(surface.points)
    empty = np.minimum(least, 0.15) / spacing[i]
    expected = surface.expected(empty < 1.5 * max(1.0, 2 * float(np.median(empty))))
    return empty * expected, expected


def _scales(field: np.ndarray, weights: np.ndarray, j: np.ndarray, wide: bool) -> list[np.ndarray]:
    """Means of ``field [N, C]`` over 8, 16 and 32 neighbours; wide: and over the neighbours' neighbours, twice."""
    flat = np.ones_like(weights[:, :16])
    levels = [_mean(field, flat[:, :8], j[:, :8]), _mean(field, flat, j[:, :16]), _mean(field, weights, j)]
    for _ in range(2 if wide else 0):
        levels.append(_mean(levels[-1], weights[:, ::2], j[:, ::2]))
    return levels


def describe(surface: Surface, bent: list[np.ndarray]) -> tuple[ScanFeatures, list[Departure]]:
    """Features of a scan fitted to ``surface`` in each way of ``bent``: clouds ``[N, 3]`` of the same points, the first for the verdict."""
    q = bent[0]
    distance, j = Neighbours(q)(q, NEIGHBOURS + 1)
    j = j[:, :NEIGHBOURS]
    departures = [surface.departure(p) for p in bent]
    first = departures[0]
    near = first.near
    normals = surface.normals[near].astype(np.float32)
    noise = float(np.median(np.abs(first.signed)))
    scale = np.float32(noise + FLOOR)
    weights = np.maximum(np.einsum("nki,ni->nk", normals[j], normals), 0.02).astype(np.float32)
    columns: list[np.ndarray] = []
    # Benefit of the doubt at edges: best for the verdict.
    size = np.abs(first.signed)
    support = _unsupported(size, j)
    field = np.column_stack([size, first.vector]).astype(np.float32) * support[:, None].astype(np.float32)
    levels = _scales(field, weights, j, False)
    for x in levels:
        drift = np.linalg.norm(x[:, 1:], axis=1)
        columns += [np.log((x[:, 0] + 1e-4) / scale), np.log((drift + 1e-4) / scale)]
    plain = 0.5 * (levels[1][:, 0] + np.linalg.norm(levels[1][:, 1:], axis=1)) / scale
    columns += [_squash(field[:, 0] / scale), _squash(10 * size * (1 - support) / scale)]
    # Planes of the nearest surface points, under every fit: best for the map.
    for d in departures:
        size = np.abs(d.plane)
        signed = (d.plane * _unsupported(size, j)).astype(np.float32)
        columns += [_squash(signed / scale), _log(np.abs(signed))]
        for x in _scales(np.column_stack([signed, np.abs(signed)]), weights, j, True):
            columns += [
                _squash(2 * x[:, 0] / scale),
                _log(x[:, 1]),
                np.log((x[:, 1] + 1e-4) / scale),
                np.log((np.abs(x[:, 0]) + 1e-4) / scale),
            ]
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
    empty, expected = gaps(surface, q, local)
    wide = empty[surface.near].mean(1)
    beside = surface.near[near]
    typical = float(np.quantile(wide[expected], 0.95)) if expected.any() else 1.0
    coverage = wide[near]
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
    complete = float(expected.sum() / max(surface.firm.any(1).sum(), 1))
    return ScanFeatures(
        nodes, j, q.astype(np.float32), normals, plain.astype(np.float32), gap, typical, complete, noise, spacing
    ), departures
