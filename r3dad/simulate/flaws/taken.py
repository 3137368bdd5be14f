"""Defects of missing material: grooves, cracks, pits, chips, broken ends, wear."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.flaws.added import caps, dots
from r3dad.simulate.flaws.base import (
    Defect,
    along,
    ball_around,
    edge_spot,
    exposed_spot,
    places_near,
    thickness,
    tip_of,
    walk,
)
from r3dad.simulate.parts import Part
from r3dad.simulate.sdf import Array, Ripple, unit


def groove(part: Part, depth: float, rng: np.random.Generator, crack: bool) -> Defect:
    """Scratches (straight or curved, some with lips, up to three) or a meandering crack with steep sides."""
    count = 1 if crack else int(rng.choice([1, 1, 2, 3]))
    half = part.diagonal * (rng.uniform(0.004, 0.010) if crack else rng.uniform(0.005, 0.017))
    length = part.diagonal * (rng.uniform(0.15, 0.5) if crack else rng.uniform(0.1, 0.45))
    wander, over = (rng.uniform(0.2, 0.6), True) if crack else (0.02, False)
    line, normals = walk(part, rng, length, wander, over)
    for _ in range(4):  # from a place too near an edge, try others
        if len(line) > 24:
            break
        line, normals = max((line, normals), walk(part, rng, length, wander, over), key=lambda x: len(x[0]))
    middle = len(line) // 2
    wall = thickness(part, line[middle], normals[middle])
    if not (crack and rng.random() < 0.4):  # some cracks go through the wall
        depth = min(depth, 0.7 * wall)
    end = np.minimum(np.arange(len(line)), np.arange(len(line))[::-1]) / (rng.uniform(0.1, 0.5) * len(line))
    deep = depth * np.minimum(end + 0.05, 1) ** 0.5
    for k in range(1, count):
        beside = np.cross(normals, np.gradient(line, axis=0))
        shift = k * rng.uniform(2.5, 5) * half * unit(beside)
        line, normals, deep = (
            np.concatenate([x, y])
            for x, y in (
                (line, line[: len(shift)] + shift),
                (normals, normals[: len(shift)]),
                (deep, deep[: len(shift)]),
            )
        )
    power, lips = (1.0, 0.0) if crack else (rng.choice([1.0, 2.0, 4.0]), rng.choice([0.0, rng.uniform(0.1, 0.35)]))
    rough = Ripple(rng, 0.06 * part.diagonal)

    def change(p: Array, d: Array) -> Array:
        i, j, height, beside = along(p, line, normals, 2 * half + 2 * depth)
        x = beside / half
        dip = deep[j] * np.maximum(1 - x**power, 0) * (1 + 0.25 * rough(p[i]))
        tool = np.maximum(np.maximum(-height - dip, beside - half), height - depth - half)
        low = np.abs(height) < min(0.4 * wall, depth + half)
        d = d.copy()
        d[i] = np.maximum(d[i] - low * lips * deep[j] * np.exp(-(((x - 1.4) / 0.3) ** 2)), -tool)
        return d

    centre, reach = ball_around(line, 2 * (half + depth) + 0.01 * part.diagonal)
    return Defect("crack" if crack else "scratch", depth, line[middle], normals[middle], centre, reach, change=change)


def pits(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """Porosity: a cluster of small round pits."""
    c, n = exposed_spot(part, rng)
    radius = part.diagonal * rng.uniform(0.04, 0.15)
    tops, normals = places_near(part, c, n, radius, int(rng.integers(5, 41)), rng)
    depths, radii = dots(part, min(depth, 0.8 * thickness(part, c, n)), len(tops), rng)

    def change(p: Array, d: Array) -> Array:
        return np.maximum(d, -caps(p, tops, -normals, radii, depths, 2 * float(radii.max())))

    return Defect("pits", float(depths.max()), c, n, c, radius + 3 * float(radii.max()), change=change)


def chip(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """Material broken out of an edge: a rough, faceted bite."""
    c, n, out = edge_spot(part, rng)
    count = int(rng.integers(1, 5))
    radii = depth * rng.uniform(1.2, 3.5, count) + 0.01 * part.diagonal
    centres = c + (radii - depth * rng.uniform(0.5, 1, count))[:, None] * out + depth * rng.normal(size=(count, 3))
    rough = Ripple(rng, 0.05 * part.diagonal)

    def change(p: Array, d: Array) -> Array:
        bite = np.full(len(p), np.inf)
        for centre, r in zip(centres, radii, strict=True):
            bite = np.minimum(bite, np.linalg.norm(p - centre, axis=1) - r)
        return np.maximum(d, -(bite + 0.1 * depth * rough(p)))

    reach = float((np.linalg.norm(centres - c, axis=1) + radii).max()) + 0.5 * depth
    return Defect("chip", depth, c, n, c, reach, change=change, cuts=True)


def break_off(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """A protruding end broken off along a rough face; larger for larger depths."""
    u, offset, tip = tip_of(part, float(np.clip(1.3 * depth / part.diagonal, 0.005, 0.06)), rng)
    rough, amount = Ripple(rng, part.diagonal * rng.uniform(0.04, 0.12)), part.diagonal * rng.uniform(0.001, 0.004)
    lean = unit(u + 0.2 * rng.normal(size=3))
    root = tip[np.argsort(tip @ u)[: max(len(tip) // 4, 1)]].mean(0)

    def change(p: Array, d: Array) -> Array:
        return np.maximum(d, (p - root) @ lean + amount * rough(p))

    centre, reach = ball_around(tip, 0.06 * part.diagonal)
    spot = tip[np.argmin(((tip - root) ** 2).sum(1))]
    return Defect("break", float((tip @ u).max() - offset), spot, u, centre, reach, change=change, cuts=True)


def wear(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """Material worn off: an edge or face flattened, or a shallow dish ground into it."""
    c, n, out = edge_spot(part, rng) if rng.random() < 0.6 else (*exposed_spot(part, rng), None)
    depth = min(depth, 0.7 * thickness(part, c, n))
    way = n if out is None else out
    ball = part.diagonal * float(np.exp(rng.uniform(np.log(0.1), np.log(1.0))))
    radius = min(1.3 * np.sqrt(2 * ball * depth), 0.2 * part.diagonal)

    def change(p: Array, d: Array) -> Array:
        v = p - c
        dish = np.linalg.norm(v - (ball - depth) * way, axis=1) - ball
        return np.maximum(d, -np.maximum(dish, np.linalg.norm(v, axis=1) - radius))

    return Defect("wear", depth, c, n, c, radius * 1.05, change=change)
