"""What the scorer sees of a scan: departures from the surface at several scales, coverage, gaps, shape and noise, per point.

Lengths are shares of the part's diagonal. Everything is linear in the number of points.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from r3dad import ops
from r3dad.coverage import gaps
from r3dad.neighbours import OPPOSITE, Neighbours, apart, spacings
from r3dad.planes import surface_normals
from r3dad.surface import Departure, Surface
from r3dad.views import plane_axes

NEIGHBOURS = 32
COLUMNS = 123
"""Features of a point. A scorer fits these and no others."""
REVISION = 4
"""Raised when features come to mean something else, as many or not: models fitted to others are refused."""
FLOOR = 0.001
"""Noise below this share of the diagonal is not told apart from the tolerance of good parts."""


@dataclass
class ScanFeatures:
    """Per-point input of the scorer, and what is known of the whole scan."""

    nodes: np.ndarray  #: [N, COLUMNS] float32
    neighbours: np.ndarray  #: [N, NEIGHBOURS] int64, nearest first, each point itself first
    points: np.ndarray  #: [N, 3] float32, aligned
    normals: np.ndarray  #: [N, 3] float32, of the surface at the point
    gap: float  #: largest gap in the scan, in spacings of the scan
    typical: float  #: what 95 % of the covered surface's gaps stay below
    complete: float  #: share of the surface that can be seen which the scan covers
    noise: float
    spacing: float


def _mean(values: np.ndarray, j: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of ``values [N, C]`` over neighbours ``j [N, k]``, plain or weighted: float32."""
    w = np.broadcast_to(np.float32(1), j.shape) if weights is None else weights
    with warnings.catch_warnings():  # of an array that cannot be written to: nothing writes
        warnings.simplefilter("ignore", UserWarning)
        return ops.neighbour_mean(*(torch.from_numpy(x) for x in (np.float32(values), j, w))).numpy()


def _unsupported(size: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Factor in 0..1 that caps a stray point at twice the third largest ``size [..., N]`` among its neighbours ``around [8, N]``."""
    most = [np.full(size.shape, -np.inf)] * 3
    for row in around:
        x = size.take(row, -1)
        for rank in range(3):
            most[rank], x = np.maximum(most[rank], x), np.minimum(most[rank], x)
    return np.minimum(1, 2 * most[2] / np.maximum(size, 1e-9))


def _squash(x: np.ndarray) -> np.ndarray:
    return np.arcsinh(2 * x)


def describe(surface: Surface, fitted: list[np.ndarray]) -> tuple[ScanFeatures, list[Departure]]:
    """Features of a scan fitted to ``surface`` in several ways: clouds ``[N, 3]`` of the same points, the first for shape and gaps."""
    q = fitted[0]
    find = Neighbours(q)
    distance, j = find(find, NEIGHBOURS + 1)
    distance, j = distance.astype(np.float32), j[:, :NEIGHBOURS]
    around = np.ascontiguousarray(j.T)
    departures = [surface.departure(p, query=find if p is q else Neighbours(p, like=find)) for p in fitted]
    first = departures[0]
    near = first.near
    normals = surface.normals[near].astype(np.float32)
    noise = float(np.median(np.abs(first.signed)))
    scale = np.float32(noise + FLOOR)
    side = [normals.T[c].take(around) * normals.T[c] for c in range(3)]
    side = side[0] + side[1] + side[2]
    beside = side > OPPOSITE
    local = spacings(distance, j, beside)
    gap = _Gaps(surface, find, q, local, near, normals)
    # Departures: with the benefit of the doubt at edges, then from the nearest surface point's plane, under every fit.
    size = np.abs(np.stack([first.signed, *(d.plane for d in departures)]))
    support = _unsupported(size, around[1:9])
    doubt = np.vstack([size[:1], first.vector.T]) * support[0]
    planes = np.stack([d.plane for d in departures]) * support[1:]
    field = np.concatenate([doubt, planes, np.abs(planes)]).astype(np.float32).T
    # What sticks out of an edge or is worn off it lies beyond one of its planes only.
    sided = _squash(np.stack([first.low, first.high], 1) / scale)
    # Shape of the scan against the surface's.
    own, curvature = surface_normals(q, j[:, :14], beside[:14].T)
    shape = np.stack([curvature, 1 - np.abs((own * normals).sum(1)), surface.curvature[near]], 1)
    ratio = apart(distance, beside, 16) / surface.reach[near]
    density = np.log(ratio / np.median(ratio))
    # Means over neighbours: 8, 16 and 32; the 32 of departures weighted by how far they face the same way, then theirs, twice.
    weights = np.maximum(side, 0.02).T
    same = beside.T.astype(np.float32)
    mean8 = _mean(np.column_stack([field, sided]), j[:, :8], same[:, :8])
    mean16 = _mean(np.column_stack([field, shape, density, q]), j[:, :16], same[:, :16])
    mean32 = _mean(np.column_stack([sided, q, gap.coverage]), j, same)
    c = field.shape[1]
    levels = [mean8[:, :c], mean16[:, :c], _mean(field, j, weights)]
    wide = [level[:, 4:] for level in levels]
    for _ in range(2):
        wide.append(_mean(wide[-1], j[:, ::2], weights[:, ::2]))
    wide += surface.coarse(field[:, 4:], near)

    columns: list[np.ndarray] = []
    for x in levels:
        drift = np.linalg.norm(x[:, 1:4], axis=1)
        columns += [np.log((x[:, 0] + 1e-4) / scale), np.log((drift + 1e-4) / scale)]
    columns += [_squash(field[:, 0] / scale), _squash(10 * size[0] * (1 - support[0]) / scale)]
    for i in range(len(fitted)):
        columns.append(_squash(field[:, 4 + i] / scale))
        for x in wide:
            signed, absolute = x[:, i], x[:, len(fitted) + i]
            columns += [
                _squash(2 * signed / scale),
                np.log((absolute + 1e-4) / scale),
                np.log((np.abs(signed) + 1e-4) / scale),
            ]
    for i in range(2):
        columns += [sided[:, i], mean8[:, c + i], mean32[:, i]]
    columns += [*np.log(shape + 0.02).T, *np.log(mean16[:, c : c + 3] + 0.02).T, density, mean16[:, c + 3]]
    columns += gap.columns()
    # Neighbours on one side only: a rim, or the border of the view.
    for k, middle in ((16, mean16[:, c + 4 :]), (32, mean32[:, 2:5])):
        columns.append(np.linalg.norm(middle - q, axis=1) / distance[:, k - 1])
    columns += gap.carried((gap.coverage.take(around) * beside).max(0), mean32[:, 5])
    columns += [np.full(len(q), np.log(noise + 1e-4)), np.log(local + 1e-4), np.log(local / (noise + 1e-4))]
    columns.append(1 - beside.mean(0))  # of the neighbours, those on the other side of a thin wall
    columns += _along(q, normals, field[:, 4 : 4 + len(fitted)], levels[0][:, 4], j, side, local, scale)
    nodes = np.stack([x.astype(np.float32) for x in columns]).T
    return ScanFeatures(
        nodes=nodes,
        neighbours=j,
        points=q.astype(np.float32),
        normals=normals,
        gap=float(np.mean(np.partition(gap.found.wide, -5)[-5:])),
        typical=gap.found.typical,
        complete=gap.found.complete,
        noise=noise,
        spacing=float(np.median(local)),
    ), departures


def _along(
    points: np.ndarray,
    normals: np.ndarray,
    planes: np.ndarray,
    calm: np.ndarray,
    j: np.ndarray,
    side: np.ndarray,
    local: np.ndarray,
    scale: np.float32,
) -> list[np.ndarray]:
    """Departures ``planes [N, V]`` averaged along the line on which a point's neighbours depart most: grooves are long and narrow.

    The line is the long axis of the neighbours weighted by their departure ``calm [N]``, less that of the neighbours alone (a structure
    tensor); how long it is comes first, then two rounds of means over neighbours not further than half a spacing beside it.
    ``side [32, N]``: how far the neighbours ``j [N, 32]`` face the same way.
    """
    around = j.T
    a, b = (x.T.astype(np.float32) for x in plane_axes(normals))
    same = (side > 0.3).astype(np.float32)
    count = np.maximum(same.sum(0), 1)
    strength = np.abs(calm).take(around) * same
    excess = strength / np.maximum(strength.sum(0), 1e-12) - same / count
    v = [c.take(around) - c for c in points.T.astype(np.float32)]
    u, w = (v[0] * x[0] + v[1] * x[1] + v[2] * x[2] for x in (a, b))
    squares = u * u, w * w
    uu, ww, uw = (np.einsum("kn,kn->n", excess, x) for x in (*squares, u * w))
    extent = np.einsum("kn,kn->n", same, squares[0] + squares[1]) / count
    turn = 0.5 * np.arctan2(2 * uw, uu - ww)
    beside = 2 * (w * (np.cos(turn) / local) - u * (np.sin(turn) / local))
    weights = np.ascontiguousarray(np.maximum(same * np.exp(-beside * beside), np.float32(1e-6)).T)
    columns, x = [np.hypot(uu - ww, 2 * uw) / np.maximum(extent, 1e-12)], planes
    for _ in range(2):
        x = _mean(x, j, weights)
        for signed in x.T:
            columns += [_squash(2 * signed / scale), np.log((np.abs(signed) + 1e-4) / scale)]
    return columns


class _Gaps:
    """Surface that a scan should have seen and did not, carried to the points beside it, and how gappy the scan is anyway."""

    def __init__(
        self,
        surface: Surface,
        find: Neighbours,
        points: np.ndarray,
        local: np.ndarray,
        near: np.ndarray,
        normals: np.ndarray,
    ) -> None:
        self.surface, self.points, self.local, self.near = surface, points, local, near
        self.found = gaps(surface, find, local, normals)
        self.beside = surface.near.T
        self.coverage = self.found.wide[near]
        self._hops = [self.found.wide]
        for _ in range(3):
            self._hops.append(self._hops[-1].take(self.beside).max(0))

    def _log(self, x: np.ndarray) -> np.ndarray:
        return np.log((0.1 + x) / (0.1 + self.found.typical))

    def columns(self) -> list[np.ndarray]:
        """Distance to the nearest gap, and the gaps up to three steps away."""
        # A scan's points stand apart by several of the surface's: from a gap's inside to its rim it may be a few steps.
        core = np.flatnonzero(self.found.wide > 0.4 + 1.4 * self.found.typical)
        lost = np.full(len(self.points), 0.1)
        if len(core):
            lost = np.minimum(Neighbours(self.surface.points[core])(self.points)[0], 0.1)
        return [
            np.log(lost + 0.002),
            np.log((lost + 0.002) / self.local),
            *(self._log(h[self.near]) for h in self._hops[2:]),
        ]

    def carried(self, most: np.ndarray, mean: np.ndarray) -> list[np.ndarray]:
        """Emptiness at and beside the points; of the points' neighbours the ``most`` and the ``mean``."""
        near, found = self.near, self.found
        beside = self._hops[1][near]
        carried = [
            found.empty[near],
            self.coverage,
            beside,
            found.empty.take(self.beside).max(0)[near],
            most,
            mean,
            found.wide.take(self.beside).mean(0)[near],
        ]
        return [
            *(np.log(0.1 + v) for v in carried),
            self._log(beside),
            self._log(most),
            found.expected[near],
            found.expected.take(self.beside).mean(0)[near],
            np.full(len(near), np.log(0.1 + found.typical)),
        ]
