"""Ribs, fins and boxes."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.families.tools import Solid, discs, family, half_wall, spread
from r3dad.simulate.sdf import Array, blend, box, cut, disc, extrude, rect, row


@family(thin=True)
def heatsink(rng: np.random.Generator) -> Solid:
    """Base plate with thin fins, some of them shorter, and holes."""
    b, h, base = rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.6), rng.uniform(0.04, 0.08)
    count, t = int(rng.integers(6, 13)), half_wall(rng, 1, b, 0.5 * h)
    pitch, gap, draft = 1.85 / count, rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.02)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = box(x, y, z, 1, b, base, 0.01)
        top = h * (1 - 0.3 * (np.abs(x) < 1.1 * pitch))
        u = np.abs(row(x, pitch, count)) - t - draft * (0.5 * h - z)
        fins = np.maximum(np.maximum(u, np.abs(y) - b), np.maximum(-z, z - top))
        fins = cut(fins, np.abs(y - 0.3 * b) - 0.5 * gap) if gap > 0.05 else fins
        return cut(np.minimum(d, fins), disc(np.abs(x) - 0.9, np.abs(y) - b + 0.12, 0.05))

    return solid


@family(thin=True)
def ribbed(rng: np.random.Generator) -> Solid:
    """Moulded cover: thin skin with a grid of ribs and screw bosses underneath."""
    b, h = rng.uniform(0.6, 1.0), rng.uniform(0.12, 0.25)
    t, nx, ny = half_wall(rng, 1, b, 0.5 * h), int(rng.integers(2, 5)), int(rng.integers(1, 4))
    places = spread(rng, 4, 0.75, b - 0.2, 0.5)
    r, crown = rng.uniform(0.07, 0.11), rng.uniform(0.0, 0.15)

    def solid(x: Array, y: Array, z: Array) -> Array:
        z = z + crown * (x * x + y * y) * 0.5
        outline = rect(x, y, 1, b, 0.15)
        skin = np.maximum(outline, np.abs(z - h) - t)
        ribs = np.minimum(np.abs(row(x, 1.5 / nx, nx)) - 0.8 * t, np.abs(row(y, 1.5 * b / ny, ny)) - 0.8 * t)
        ribs = np.minimum(ribs, np.abs(outline + t) - t)
        boss = discs(x, y, places, np.full(len(places), r))
        d = np.minimum(ribs, boss)
        d = np.minimum(skin, np.maximum(np.maximum(d, outline), np.abs(z) - h))
        return 0.9 * cut(d, np.maximum(boss + 0.5 * r, z - h + 0.1))

    return solid


@family(thin=True)
def housing(rng: np.random.Generator) -> Solid:
    """Open box with inner bosses, a window in a wall and cooling slots."""
    a, b, h = rng.uniform(0.7, 1.0), rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.6)
    t, r = 1.2 * half_wall(rng, a, b, h), rng.uniform(0.05, 0.15)
    window, slots = rng.uniform(0.1, 0.25), int(rng.integers(2, 6))
    at, bosses = rng.uniform(-0.4, 0.4) * a, rng.uniform(0.07, 0.11)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = cut(box(x, y, z, a, b, h, r), box(x, y, z - 2 * t - 1, a - 2 * t, b - 2 * t, h + 1, 0.8 * r))
        u, v = np.abs(x) - a + 0.18, np.abs(y) - b + 0.18
        posts = extrude(disc(u, v, bosses), z + 0.25 * h, 0.7 * h)
        d = blend(d, cut(posts, disc(u, v, 0.5 * bosses) + 10 * np.maximum(-z - h + 0.2, 0)), 0.03)
        tool = np.maximum(rect(x - at, z, window, 0.5 * h, 0.03), np.abs(y - b) - 4 * t)
        vents = np.maximum(rect(row(y, 0.16, slots), z, 0.035, 0.4 * h, 0.03), np.abs(x + a) - 4 * t)
        return cut(d, tool, vents)

    return solid


@family()
def manifold(rng: np.random.Generator) -> Solid:
    """Milled block with crossing bores, counterbores and bevelled edges."""
    b, c, bevel = rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.6), rng.uniform(0.03, 0.12)
    bores, r = int(rng.integers(2, 5)), rng.uniform(0.09, 0.14)
    pitch, main, step = 1.7 / bores, rng.uniform(0.12, 0.2), rng.uniform(0.05, 0.15)
    places = spread(rng, 4, 0.8, c - 0.15, 0.35)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = box(x, y, z, 1, b, c)
        d = np.maximum(d, (np.abs(y) + np.abs(z) - b - c + bevel) * 0.7071)
        u = row(x, pitch, bores)
        d = cut(d, np.maximum(disc(u, y, r), -z), np.maximum(disc(u, y, 1.6 * r), c - step - z), disc(y, z, main))
        return cut(d, np.maximum(discs(x, z, places, np.full(len(places), 0.6 * r)), b - 0.3 - y))

    return solid
