"""Solids as signed distance fields: primitives, points on the zero level, rays.

A field takes points [N, 3] float64 (mm) and returns the signed distance to the surface [N] (mm, negative inside).
Booleans of distances (`min`, `max`) are bounds of the distance away from the surface and exact near it, which is all
that the sampling and the sphere tracing below need (J. C. Hart, "Sphere tracing", The Visual Computer 12, 1996).
The primitives take coordinates as separate arrays [N], so that sections are extruded or revolved by naming them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Field = Callable[[Array], Array]


# ---------------------------------------------------------------- primitives on coordinates


def rect(x: Array, y: Array, a: float, b: float, r: float = 0.0) -> Array:
    """Rectangle of half sides a, b with corners rounded by r."""
    u, v = np.abs(x) - (a - r), np.abs(y) - (b - r)
    return np.minimum(np.maximum(u, v), 0) + np.hypot(np.maximum(u, 0), np.maximum(v, 0)) - r


def disc(x: Array, y: Array, r: float) -> Array:
    """Disc of radius r."""
    return np.hypot(x, y) - r


def segment(x: Array, y: Array, a: Array, b: Array) -> Array:
    """Distance to the segment from a [2] to b [2]."""
    u, v = x - a[0], y - a[1]
    e = b - a
    t = np.clip((u * e[0] + v * e[1]) / max(float(e @ e), 1e-12), 0, 1)
    return np.hypot(u - t * e[0], v - t * e[1])


def path(x: Array, y: Array, corners: Array, bend: float = 0.0, pieces: int = 4) -> Array:
    """Distance to an open polyline [K, 2]; its inner corners become arcs of about radius `bend`, in `pieces` pieces."""
    line = [corners[0]]
    for before, corner, after in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        a, b = before - corner, after - corner
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        tangent = bend / np.tan(np.arccos(np.clip(a @ b, -1, 1)) / 2)
        s = np.linspace(0, 1, pieces + 1 if bend else 1)[:, None]  # the quadratic Bezier is close to the arc
        line.extend((1 - s) ** 2 * (corner + tangent * a) + 2 * s * (1 - s) * corner + s**2 * (corner + tangent * b))
    line.append(corners[-1])
    d = segment(x, y, line[0], line[1])
    for a, b in zip(line[1:-1], line[2:], strict=True):
        d = np.minimum(d, segment(x, y, a, b))
    return d


def polygon(x: Array, y: Array, corners: Array) -> Array:
    """Simple polygon [K, 2]."""
    inside = np.zeros(len(x), bool)
    d = np.full(len(x), np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        d = np.minimum(d, segment(x, y, a, b))
        if a[1] != b[1]:
            inside ^= ((a[1] > y) != (b[1] > y)) & (x < a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1]))
    return np.where(inside, -d, d)


def extrude(section: Array, z: Array, half: float, r: float = 0.0) -> Array:
    """A section (distances in its plane) drawn out to |z| <= half, its edges rounded by r."""
    u, v = section + r, np.abs(z) - (half - r)
    return np.minimum(np.maximum(u, v), 0) + np.hypot(np.maximum(u, 0), np.maximum(v, 0)) - r


def box(x: Array, y: Array, z: Array, a: float, b: float, c: float, r: float = 0.0) -> Array:
    """Box of half sides a, b, c, edges rounded by r."""
    return extrude(rect(x, y, a, b, r), z, c, r)


def cut(d: Array, *tools: Array) -> Array:
    """What is left of d after the tools are taken away."""
    for tool in tools:
        d = np.maximum(d, -tool)
    return d


def blend(a: Array, b: Array, k: float) -> Array:
    """Union with a fillet of about k (polynomial smooth minimum)."""
    h = np.maximum(k - np.abs(a - b), 0) / k
    return np.minimum(a, b) - 0.25 * k * h * h


def turn(x: Array, y: Array, angle: float | Array) -> tuple[Array, Array]:
    """Coordinates in axes turned by `angle` (rad)."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def wheel(x: Array, y: Array, count: int) -> tuple[Array, Array]:
    """Coordinates folded into one of `count` equal sectors, centred on the x axis."""
    sector = 2 * np.pi / count
    a = np.arctan2(y, x)
    a = a - sector * np.round(a / sector)
    r = np.hypot(x, y)
    return r * np.cos(a), r * np.sin(a)


def row(x: Array, pitch: float, count: int) -> Array:
    """Coordinate folded onto `count` places, `pitch` apart, centred on 0."""
    k = np.clip(np.round(x / pitch + (count - 1) / 2), 0, count - 1)
    return x - pitch * (k - (count - 1) / 2)


class Ripple:
    """Random smooth field: a few plane waves of about `wavelength` mm, values roughly in -1..1."""

    def __init__(self, rng: np.random.Generator, wavelength: float, waves: int = 5) -> None:
        self.k = unit(rng.normal(size=(waves, 3))) * (2 * np.pi / wavelength) * rng.uniform(0.6, 1.4, (waves, 1))
        self.phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, p: Array) -> Array:
        return np.sin(p @ self.k.T + self.phase).sum(1) * (1.4 / len(self.phase))


def unit(v: Array) -> Array:
    """Vectors scaled to length 1 (last axis)."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


# ---------------------------------------------------------------- the surface of a field

_TETRAHEDRON = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], float)


def gradient(field: Field, p: Array, step: float) -> Array:
    """Gradient [N, 3] from four values `step` mm around each point."""
    values = field((p[None] + step * _TETRAHEDRON[:, None]).reshape(-1, 3)).reshape(4, -1)
    return np.asarray(values.T @ _TETRAHEDRON) / (4 * step)


@dataclass(frozen=True)
class Shape:
    """A field with the small cubes that hold its surface.

    field: signed distance (mm); cells [C, 3]: centres of the cubes (mm); cell: their side (mm);
    size: a length of the whole (mm), to which tolerances are relative.
    """

    field: Field
    cells: Array
    cell: float
    size: float

    def normals(self, p: Array) -> Array:
        """Unit normals [N, 3] at points on or near the surface."""
        return unit(gradient(self.field, p, 1e-5 * self.size))

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Array, Array]:
        """`count` random points of uniform density on the surface, and their normals.

        Points drawn in a thin shell around the surface are brought down to it along the gradient.
        """
        shell = 0.25 * self.cell
        points: list[Array] = []
        normals: list[Array] = []
        have, drawn, share = 0, 0, 0.2  # share of the draws that end on the surface, learnt below
        while have < count:
            draws = int((count - have) / share * 1.05) + 64
            drawn += draws
            p = self.cells[rng.integers(len(self.cells), size=draws)]
            p = p + self.cell * rng.uniform(-0.5, 0.5, p.shape)
            d = self.field(p)
            near = np.abs(d) < 1.5 * shell
            p, d = p[near], d[near]
            for last in (False, True):
                g = gradient(self.field, p, 1e-5 * self.size)
                steep = np.maximum((g * g).sum(1), 1e-3)
                if not last:
                    keep = np.abs(d) < shell * np.sqrt(steep)
                    p, d, g, steep = p[keep], d[keep], g[keep], steep[keep]
                p = p - (d / steep)[:, None] * g
                d = self.field(p)
            keep = np.abs(d) < 1e-4 * self.size
            points.append(p[keep])
            normals.append(unit(g[keep]))
            have += int(keep.sum())
            share = max(have / drawn, 0.02)
        return np.concatenate(points)[:count], np.concatenate(normals)[:count]

    def trace(self, origin: Array, ray: Array, far: float, steps: int = 72) -> Array:
        """Distance (mm) from origins [N, 3] along unit rays [N, 3] to the surface, inf beyond `far` (sphere tracing)."""
        t = np.zeros(len(origin))
        out = np.full(len(origin), np.inf)
        live = np.arange(len(origin))
        for _ in range(steps):
            d = self.field(origin[live] + t[live, None] * ray[live])
            hit = np.abs(d) < 1e-4 * self.size
            out[live[hit]] = t[live[hit]] + d[hit]
            t[live] += 0.85 * d
            live = live[~hit & (t[live] < far)]
            if not len(live):
                break
        return out

    def visible(self, p: Array, n: Array, toward: Array) -> NDArray[np.bool_]:
        """Which surface points p [N, 3] with normals n are seen from direction(s) `toward` ([3] or [N, 3], far away)."""
        ray = np.broadcast_to(toward, p.shape)
        seen = (n * ray).sum(1) > 0.05
        start = p[seen] + 2e-3 * self.size * n[seen]
        seen[seen] = ~np.isfinite(self.trace(start, ray[seen], 1.2 * self.size))
        return seen


def find_cells(field: Field, cells: Array, cell: float, levels: int, slack: float = 1.3) -> tuple[Array, float]:
    """Cubes that hold the surface: those of `cells` [C, 3] (side `cell`), halved `levels` times."""
    corners = _corner_offsets()
    for level in range(levels + 1):
        if level:
            cells = (cells[:, None] + 0.25 * cell * corners).reshape(-1, 3)
            cell = 0.5 * cell
        cells = cells[np.abs(field(cells)) < slack * 0.5 * np.sqrt(3) * cell]
    return cells, cell


def grid(low: Array, counts: NDArray[np.intp], cell: float) -> Array:
    """Centres [C, 3] of `counts` [3] cubes of side `cell` from the corner `low` on."""
    axes = [a + cell * (np.arange(n) + 0.5) for a, n in zip(low, counts, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _corner_offsets() -> Array:
    return np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
