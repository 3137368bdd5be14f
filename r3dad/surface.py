"""The good scans fused into one denoised surface, and where a scan departs from it.

Lengths are in the unit of the clouds given (the aligned recipe uses shares of the part's diagonal). Normals point out of the material.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from r3dad.neighbours import OPPOSITE, Neighbours, apart, facing, thin
from r3dad.planes import face_normals, surface_normals
from r3dad.views import Looks, directions, unit

PATCHES = 1500
EDGE = 24
"""Neighbours that tell how sharp an edge is."""
WALL, SIDES = 2.0, 12
"""At a thin wall distances off a plane count so many times those along it; points of the surface among which a side is looked for."""
AROUND = 40
"""Nearest points among which 17 on the same side of a wall are looked for."""
ALONE = 4
"""A point with so few of its 17 nearest (itself among them) on its side has a wrong normal."""


@dataclass
class Departure:
    """Where points lie beside the surface: all arrays have one entry per point.

    At an edge the nearest surface point may belong to the wrong face: ``signed`` and ``vector`` give the benefit of the doubt (the least
    plane distance of several candidates), ``plane`` does not.
    """

    signed: np.ndarray  #: along the outward normal, + material, - missing
    vector: np.ndarray  #: [N, 3] from the surface to the point
    plane: np.ndarray  #: signed distance to the plane of the nearest surface point
    low: np.ndarray  #: least and greatest signed plane distance of the candidates: what sticks out of an edge lies beyond one plane only
    high: np.ndarray
    near: np.ndarray  #: index of the nearest surface point


@dataclass
class Surface:
    """A denoised, oriented cloud: what a good part looks like.

    ``points [S, 3]``, outward ``normals [S, 3]``, ``curvature [S]``, ``sees [S, VIEWS]`` (bool: seen from that direction).

    Made of them: ``near [S, 17]``, the nearest points on the same side of a wall, itself first and in place of those that lack; ``reach
    [S]``, how far they lie; ``walled [S]``, which share of the 16 nearest points is on the other side of a thin wall; ``seen_bits`` and
    ``sure_bits [VIEWS, S / 8]``, which points a view sees, and which for sure; ``sure [S]``, from some view.
    """

    points: np.ndarray
    normals: np.ndarray
    curvature: np.ndarray
    sees: np.ndarray
    spacing: float
    reach: np.ndarray = field(init=False)
    near: np.ndarray = field(init=False)
    walled: np.ndarray = field(init=False)
    seen_bits: np.ndarray = field(init=False)
    sure_bits: np.ndarray = field(init=False)
    sure: np.ndarray = field(init=False)
    patch: np.ndarray = field(init=False)
    patches: np.ndarray = field(init=False)
    alike: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.find = Neighbours(self.points)
        distance, near = self.find(self.find, AROUND)
        same = facing(self.normals[near], self.normals[:, None])
        self.walled = 1 - same[:, 1:17].mean(1)
        order = np.argsort(~same, 1, kind="stable")[:, :17]
        self.reach = apart(distance, same.T, 16)
        near = np.where(np.take_along_axis(same, order, 1), np.take_along_axis(near, order, 1), near[:, :1])
        self.near = np.asfortranarray(near)  # read neighbour by neighbour
        self._columns = [np.ascontiguousarray(c, np.float64) for x in (self.points, self.normals) for c in x.T]
        # At most PATCHES patches: the one of each point, the 9 nearest to each, and how far those face the same way.
        pick = thin(self.points, PATCHES)
        find, n = Neighbours(self.points[pick]), self.normals[pick]
        self.patch, self.patches = find(self.find)[1], find(find, 9)[1]
        self.alike = np.maximum(np.einsum("pi,pki->pk", n, n[self.patches]), 0.02)
        d = directions(self.sees.shape[1])
        around = (d @ d.T > np.cos(np.radians(17))).astype(np.float32)
        # Seen for sure: head-on enough for any sensor, and from nearly all directions around.
        firm = (self.sees.astype(np.float32) @ (around / around.sum(1)) > 0.9) & (self.normals @ d.T > 0.4)
        self.sure = firm.any(1)
        # View by view, a bit per point.
        self.seen_bits, self.sure_bits = (np.packbits(x.T, axis=1) for x in (self.sees, firm))

    @classmethod
    def build(cls, clouds: list[np.ndarray], most: int = 40_000, k: int = 40) -> Surface:
        """Fuse aligned clouds (each ``[N, 3]``) and denoise them: bilateral, so that edges stay and the two sides of a thin wall apart."""
        every = np.concatenate(clouds).astype(np.float64)
        pick = thin(every, most)
        k = int(np.clip(round(k * (len(every) / len(pick)) ** 0.7), k, 64))
        distance, j = Neighbours(every)(every[pick], k)
        w = np.exp(-((distance / (0.6 * distance[:, -1:])) ** 2))
        p, q = every[pick], every[j]
        n, sigma = face_normals(q - p[:, None], w)
        # Every neighbour's normal: that of the picked point nearest to it.
        owner = np.full(len(every), -1)
        owner[pick] = np.arange(len(pick))
        if len(pick) < len(every):
            owner = Neighbours(p)(every)[1]
        own = owner[j]
        for _ in range(2):
            dot = np.einsum("ni,nki->nk", n, n[own])
            n = unit(np.einsum("nk,nki->ni", w * np.exp((np.abs(dot) - 1) / 0.2) * np.sign(dot), n[own]))
        spacing = float(np.median(Neighbours(p)(p, 2)[0][:, 1]))
        looks = Looks(p, spacing)
        n = looks.outwards(n)
        for _ in range(2):  # now that sides are told apart: planes through the neighbours that face the same way
            off = np.einsum("ni,nki->nk", n, q - p[:, None])
            same = w * np.exp((np.einsum("ni,nki->nk", n, n[own]) - 1) / 0.05 - (off / (2 * sigma)) ** 2)
            refined, _ = surface_normals(every, j, same)
            n = np.where(np.einsum("ni,ni->n", refined, n)[:, None] < 0, -refined, refined)
        n = looks.outwards(n)
        sees = looks.seen(n)
        off = np.einsum("ni,nki->nk", n, q - p[:, None])
        dot = np.einsum("ni,nki->nk", n, n[own])
        _, curvature = surface_normals(every, j[:, :EDGE], (w * (dot > OPPOSITE))[:, :EDGE])
        w = w * np.exp((dot - 1) / 0.05 - (off / (4.5 * np.median(np.abs(off[:, :8])) + 1e-9)) ** 2)
        p = p + ((w * off).sum(1) / np.maximum(w.sum(1), 1e-12))[:, None] * n
        # Some points in ten thousand face another way than all around them: no scan would ever cover them.
        sure = facing(n[Neighbours(p)(p, 17)[1]], n[:, None]).sum(1) > ALONE
        return cls(p[sure], n[sure], curvature[sure], sees[sure], spacing)

    @property
    def thin(self) -> float:
        """Share of the 16 nearest points that are on the other side of a wall, mean over the surface."""
        return float(self.walled.mean())

    def departure(self, points: np.ndarray, k: int = 5, query: Neighbours | None = None) -> Departure:
        """How far each of ``points [N, 3]`` lies off the surface: the smallest of the plane distances of ``k`` candidates.

        ``query``: the points' own neighbours, where there are such already.
        """
        j = self.find(query or points, k)[1]
        if len(unsure := np.flatnonzero(self.walled[j[:, 0]] > 0)):
            j[unsure] = self._sided(points[unsure], k)
        j = np.ascontiguousarray(j.T)
        # Coordinate by coordinate, candidate by candidate: [k, N].
        v = [p - column.take(j) for p, column in zip(points.T, self._columns[:3], strict=True)]
        n = [column.take(j) for column in self._columns[3:]]
        off = v[0] * n[0] + v[1] * n[1] + v[2] * n[2]
        along = np.sqrt(np.maximum(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] - off * off, 0))
        beyond = np.maximum(along - 3 * self.spacing, 0)
        size = off * off + beyond * beyond
        # The far side of a thin wall is no candidate.
        other = n[0] * n[0][0] + n[1] * n[1][0] + n[2] * n[2][0] < OPPOSITE
        off, size = np.where(other, off[0], off), np.where(other, np.inf, size)
        best = size.argmin(0) * len(points) + np.arange(len(points))
        plane, low, high = off[0], off.min(0), off.max(0)
        size, off, along, beyond, *vn = (x.take(best) for x in (size, off, along, beyond, *v, *n))
        out = beyond / np.maximum(along, 1e-12)
        vector = np.stack([off * n + out * (v - off * n) for v, n in zip(vn[:3], vn[3:], strict=True)], 1)
        return Departure(np.sqrt(size) * np.where(off < 0, -1.0, 1.0), vector, plane, low, high, j[0])

    def _sided(self, points: np.ndarray, k: int) -> np.ndarray:
        """Candidates ``[N, k]`` for points at thin walls, all on the side that a point is likeliest on, the likeliest first.

        Where walls are as thick as points are apart, the nearest point is as often on the other side. Planes tell more: the
        distance to one counts WALL times as much as that along it.
        """
        j = self.find(points, max(SIDES, k))[1]
        v, n = points[:, None] - self.points[j], self.normals[j]
        off = np.einsum("nki,nki->nk", v, n)
        size = (WALL**2 - 1) * off * off + np.einsum("nki,nki->nk", v, v)
        first = np.take_along_axis(j, size.argmin(1)[:, None], 1)
        other = ~facing(n, self.normals[first])
        order = np.argsort(np.where(other, np.inf, size), 1, kind="stable")[:, :k]
        return np.where(np.take_along_axis(other, order, 1), first, np.take_along_axis(j, order, 1))

    def coarse(self, values: np.ndarray, near: np.ndarray) -> list[np.ndarray]:
        """``values [N, C]`` of points whose nearest surface points are ``near [N]``, averaged over the 9 patches around, and once more.

        Returns two arrays [N, C] float32.
        """
        patch = self.patch[near]
        count = np.bincount(patch, minlength=len(self.patches)).astype(float)
        total = np.stack([np.bincount(patch, column, len(count)) for column in values.T], 1)
        weight = np.maximum((self.alike * count[self.patches]).sum(1), 1e-6)[:, None]
        found = []
        for _ in range(2):
            mean = np.einsum("pk,pkc->pc", self.alike, total[self.patches]) / weight
            total = mean * count[:, None]
            found.append(mean[patch].astype(np.float32))
        return found
