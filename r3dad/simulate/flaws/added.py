"""Defects of extra material: lumps, beads, fins, spatter."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.flaws.base import (
    MARGIN,
    Defect,
    along,
    ball_around,
    edge_spot,
    exposed_spot,
    frame,
    places_near,
    thickness,
    walk,
)
from r3dad.simulate.parts import Part
from r3dad.simulate.sdf import Array, Ripple, blend, turn


def caps(p: Array, tops: Array, normals: Array, radii: Array, heights: Array, under: float) -> Array:
    """Distance to spheres that stand out of the surface by `heights` above its points `tops`, cut off `under` them."""
    d = np.full(len(p), np.inf)
    for top, n, r, h in zip(tops, normals, radii, heights, strict=True):
        v = p - top
        d = np.minimum(d, np.maximum(np.linalg.norm(v - (h - r) * n, axis=1) - r, -under - v @ n))
    return d


def dots(part: Part, depth: float, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Heights (or depths) and radii of small spheres."""
    heights = np.maximum(depth * rng.uniform(0.4, 1, count), 0.002 * part.diagonal)
    return heights, np.maximum(heights * rng.uniform(0.8, 1.6, count), 0.004 * part.diagonal)


def blob(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """Extra material: a few lumps grown together on the surface."""
    c, n = exposed_spot(part, rng)
    size = depth * rng.uniform(1.0, 4.0) + 0.006 * part.diagonal
    tops, normals = places_near(part, c, n, 1.2 * size, int(rng.integers(1, 5)), rng)
    heights = depth * rng.uniform(0.6, 1, len(tops))
    radii = np.maximum(size * rng.uniform(0.6, 1, len(tops)), heights)
    under = 0.5 * thickness(part, c, n)

    def change(p: Array, d: Array) -> Array:
        return blend(d, caps(p, tops, normals, radii, heights, under), 0.004 * part.diagonal)

    reach = 4 * size + MARGIN * part.diagonal
    return Defect("blob", float(heights.max()), c, n, c, reach, change=change)


def bead(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """A raised line, like a weld bead or a run of glue."""
    line, normals = walk(part, rng, part.diagonal * rng.uniform(0.1, 0.45), 0.08, True)
    r = max(depth * rng.uniform(0.7, 1.5), 0.006 * part.diagonal)
    grow = 1 + rng.uniform(0, 0.3) * np.sin(np.arange(len(line)) * rng.uniform(0.3, 1.2))
    middle = len(line) // 2
    under = 0.5 * thickness(part, line[middle], normals[middle])

    def change(p: Array, d: Array) -> Array:
        i, j, height, beside = along(p, line, normals, 3 * (r + depth))
        tube = np.maximum(np.hypot(height - depth + r, beside) - r * grow[j], -height - under)
        d = np.minimum(d, r + depth)  # beyond the bound of the search
        d[i] = np.minimum(d[i], tube)
        return d

    centre, reach = ball_around(line, 2 * (r + depth) + MARGIN * part.diagonal)
    return Defect("bead", depth, line[middle], normals[middle], centre, reach, change=change)


def fin(part: Part, depth: float, rng: np.random.Generator, flash: bool) -> Defect:
    """Thin ridge: a burr that goes on from a face past its edge, or flash along a parting plane across the surface."""
    c, n, _ = edge_spot(part, rng)
    if flash:
        n0, n = n, turn(*frame(n), rng.uniform(0, np.pi))[0]
    thick = part.diagonal * rng.uniform(0.006, 0.014)
    radius = part.diagonal * rng.uniform(0.07, 0.2)
    rough, ragged = Ripple(rng, 0.08 * part.diagonal), rng.uniform(0.1, 0.5)

    def change(p: Array, d: Array) -> Array:
        v = p - c
        taper = np.maximum(1 - (v * v).sum(1) / radius**2, -1)
        height = depth * np.minimum(2 * taper, 1) * (1 + ragged * (rough(p) - 0.5))
        lie = v @ n if flash else v @ n + 0.5 * thick
        return np.minimum(d, np.maximum(np.abs(lie) - 0.5 * thick, d - height))

    reach = radius + 2 * depth + MARGIN * part.diagonal
    return Defect("flash" if flash else "burr", depth, c, n0 if flash else n, c, reach, change=change)


def spatter(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """Weld spatter: a cluster of small beads on the surface."""
    c, n = exposed_spot(part, rng)
    radius = part.diagonal * rng.uniform(0.04, 0.15)
    tops, normals = places_near(part, c, n, radius, int(rng.integers(5, 41)), rng)
    heights, radii = dots(part, depth, len(tops), rng)
    under = 0.5 * thickness(part, c, n)

    def change(p: Array, d: Array) -> Array:
        return np.minimum(d, caps(p, tops, normals, radii, heights, under))

    reach = radius + 3 * float(radii.max()) + MARGIN * part.diagonal
    return Defect("spatter", float(heights.max()), c, n, c, reach, change=change)
