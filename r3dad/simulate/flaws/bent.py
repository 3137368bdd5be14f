"""Defects that bend space: bumps and dents, bent portions, regions out of shape."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.flaws.base import Defect, ball_around, exposed_spot, frame, thickness, tip_of
from r3dad.simulate.parts import Part
from r3dad.simulate.sdf import Array, Ripple, turn


def press(part: Part, depth: float, rng: np.random.Generator, sign: int) -> Defect:
    """Bump (+1) or dent (-1): an irregular patch pushed along its normal; thin walls give way on both sides."""
    c, n = exposed_spot(part, rng)
    radius = max(part.diagonal * float(np.exp(rng.uniform(np.log(0.03), np.log(0.13)))), 2.2 * depth)
    a, b = frame(n)
    a, b = turn(a, b, rng.uniform(0, np.pi))
    stretch, wobble, plateau = rng.uniform(0.65, 1.5), Ripple(rng, 1.5 * radius), rng.uniform(1.0, 2.2)
    deep = 1.0 if thickness(part, c, n) < 2 * depth else min(2.0, 0.35 * radius / depth)

    def source(p: Array) -> Array:
        v = p - c
        x = np.sqrt((v @ a / stretch) ** 2 + (v @ b * stretch) ** 2 + (deep * (v @ n)) ** 2) / radius
        x = np.minimum(x * (1 + 0.15 * wobble(p)), 1)
        h = 1 - np.sin(np.pi / 2 * np.sin(np.pi / 2 * x**plateau)) ** 2 if plateau > 1.6 else np.cos(np.pi / 2 * x) ** 2
        return p - (sign * depth * h)[:, None] * n

    return Defect(
        "bump" if sign > 0 else "dent", depth, c, n, c, 1.25 * radius * max(stretch, 1 / stretch, 1) + depth, source
    )


def bend(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """A protruding portion turned about an axis at its root, by `depth` at its tip."""
    u, offset, tip = tip_of(part, rng.uniform(0.04, 0.2), rng)
    reach = float((tip @ u).max() - offset)
    root = tip[(tip @ u - offset) < 0.2 * reach].mean(0)
    a, b = frame(u)
    axis = turn(a, b, rng.uniform(0, 2 * np.pi))[0]
    angle, soft = min(depth / reach, 0.4), rng.uniform(0.2, 0.6)

    def source(p: Array) -> Array:
        s = np.clip((p @ u - offset) / (soft * reach), 0, 1)
        return root + rotated(p - root, axis, -angle * s * s * (3 - 2 * s))

    end = tip[np.argmax(tip @ u)]
    normal = part.shape.normals(end[None])[0]
    centre, radius = ball_around(tip, 0.05 * part.diagonal + depth)
    return Defect("bend", angle * reach, end, normal, centre, radius, source)


def rotated(v: Array, axis: Array, angle: Array) -> Array:
    """Vectors [N, 3] turned about an axis by angles [N] (Rodrigues)."""
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return v * c + np.cross(axis, v) * s + np.outer(v @ axis, axis) * (1 - c)


def warp(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """A region out of shape: saddle, wave, or twist about a tangent."""
    c, n = exposed_spot(part, rng)
    radius = max(part.diagonal * rng.uniform(0.14, 0.3), 5 * depth)
    a, b = frame(n)
    a, b = turn(a, b, rng.uniform(0, np.pi))
    form = int(rng.integers(3))

    def source(p: Array) -> Array:
        v = p - c
        x = np.linalg.norm(v, axis=1) / radius
        window = np.maximum(1 - x * x, 0) ** 2
        s, t = v @ a / radius, v @ b / radius
        if form == 2:
            return c + rotated(v, a, -2.0 * depth / radius * window * np.exp(-s * s))
        h = 5.0 * (s * s - t * t) if form == 0 else np.sin(4.5 * s)
        return p - (depth * h * window)[:, None] * n

    return Defect("warp", depth, c, n, c, radius * 1.01, source)
