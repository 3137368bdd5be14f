"""Defects of the texture, and patches that a scan misses."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.flaws.base import Defect, exposed_spot, frame, thickness
from r3dad.simulate.parts import Part
from r3dad.simulate.sdf import Array, Ripple, turn


def texture(part: Part, depth: float, rng: np.random.Generator, chatter: bool) -> Defect:
    """Chatter marks (waves along one direction) or a rough patch."""
    c, n = exposed_spot(part, rng)
    radius = part.diagonal * rng.uniform(0.06, 0.2)
    wave = part.diagonal * rng.uniform(0.02, 0.06)
    height = min(depth, 0.3 * wave, 0.35 * thickness(part, c, n))
    way = turn(*frame(n), rng.uniform(0, np.pi))[0] * (2 * np.pi / wave)
    rough, edge = Ripple(rng, wave, 8), rng.uniform(1.0, 4.0)

    def change(p: Array, d: Array) -> Array:
        v = p - c
        window = np.minimum(edge * np.maximum(1 - (v * v).sum(1) / radius**2, 0), 1)
        return d - height * window * (np.sin(v @ way) if chatter else rough(p))

    return Defect("chatter" if chatter else "rough", height, c, n, c, radius * 1.01, change=change)


def hole(part: Part, depth: float, rng: np.random.Generator) -> Defect:
    """A patch of surface that is missing from the scan; larger for larger depths."""
    c, n = exposed_spot(part, rng)
    size = float(np.exp(rng.uniform(np.log(0.7), np.log(2.2))))
    radius = part.diagonal * size * float(np.sqrt(depth / part.diagonal)) * 0.42
    a, b = frame(n)
    a, b = turn(a, b, rng.uniform(0, np.pi))
    stretch, wobble = rng.uniform(0.6, 1.6), Ripple(rng, 1.5 * radius)
    through = bool(rng.random() < 0.5)  # both sides of a thin wall
    limit = rng.uniform(0.3, 1.0) * radius

    def missing(p: Array, normals: Array) -> Array:
        v = p - c
        x = np.hypot(v @ a / stretch, v @ b * stretch) + 0.15 * radius * wobble(p) - radius
        side = (np.abs(v @ n) < limit) & (through | (normals @ n > -0.2))
        return np.where(side, x, np.inf)

    reach = 2 * radius + 0.03 * part.diagonal
    return Defect("hole", 0.0, c, n, c, reach, missing=missing)
