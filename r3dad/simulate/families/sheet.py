"""Plates, brackets and sheet metal."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.families.tools import Solid, discs, family, half_wall, spread
from r3dad.simulate.sdf import Array, blend, box, cut, disc, extrude, path, polygon, rect, row, segment, turn


@family()
def plate(rng: np.random.Generator) -> Solid:
    """Plate with holes, a slot, a pocket and a boss."""
    b, t, r = rng.uniform(0.45, 0.9), rng.uniform(0.04, 0.11), rng.uniform(0.02, 0.2)
    gap = rng.uniform(0.24, 0.34)
    places = spread(rng, 8, 0.82, b - 0.16, gap)
    radii = rng.uniform(0.04, 0.11, len(places))
    depth, boss, high = rng.uniform(0.3, 0.7) * t, places[0], rng.uniform(0.05, 0.2)
    long = rng.uniform(0.05, 0.15)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = extrude(rect(x, y, 1, b, r), z, t, 0.012)
        d = blend(d, extrude(disc(x - boss[0], y - boss[1], radii[0] + 0.07), z, t + high, 0.01), 0.04)
        d = cut(d, discs(x, y, places[:-1], radii[:-1]))
        slot = segment(x, y, places[-1] - (long, 0), places[-1] + (long, 0)) - 0.6 * radii[-1]
        pocket = extrude(rect(x - places[1, 0], y - places[1, 1], 0.2, 0.13, 0.05), z - t, depth)
        return cut(d, slot, pocket)

    return solid


@family()
def bracket(rng: np.random.Generator) -> Solid:
    """Angle of two thick plates with holes and gussets."""
    w, h, t = rng.uniform(0.35, 0.7), rng.uniform(0.6, 1.0), rng.uniform(0.05, 0.1)
    places, wall = spread(rng, 3, 0.5, w - 0.15, 0.35), rng.uniform(-0.4, 0.4) * w
    radii, ribs, reach = rng.uniform(0.06, 0.11, len(places)), int(rng.integers(1, 4)), rng.uniform(0.3, 0.7)
    gusset = np.array([[-0.95, 0.0], [-0.95 + 1.2 * reach, 0.0], [-0.95, 1.2 * h * reach]])
    bore, fillet = rng.uniform(0.1, 0.2), rng.uniform(0.03, 0.12)

    def solid(x: Array, y: Array, z: Array) -> Array:
        base = box(x, y, z, 1, w, t, 0.02)
        back = box(x + 1 - t, y, z - h + t, t, w, h, 0.02)
        d = blend(base, back, fillet)
        d = np.minimum(d, extrude(polygon(x, z, gusset), row(y, 1.6 * w / ribs, ribs), 0.5 * t))
        d = cut(d, np.maximum(discs(x - 0.35, y, places, radii), np.abs(z) - 0.2))
        return cut(d, np.maximum(disc(y - wall, z - 1.4 * h, bore), np.abs(x + 1) - 0.4))

    return solid


@family(thin=True)
def sheet(rng: np.random.Generator) -> Solid:
    """Bent sheet metal: an L, U, Z, hat or stepped section with punched holes and a notch."""
    w, h, run = rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.5)
    section = [
        [[-0.9, h], [-0.9, 0], [0.9, 0]],
        [[-0.9, h], [-0.9, 0], [0.9, 0], [0.9, h * rng.uniform(0.5, 1)]],
        [[-0.9, 0], [0, 0], [0, h], [0.9, h]],
        [[-1, 0], [-run, 0], [-run, h], [run, h], [run, 0], [1, 0]],
        [[-0.9, h], [-0.9, 0], [0.3, 0], [0.3, 0.4 * h], [1, 0.4 * h]],
    ][int(rng.integers(5))]
    corners, t, bend = np.array(section), half_wall(rng, 0.9, w, 0.5 * h), rng.uniform(0.06, 0.13)
    places = spread(rng, 6, 0.8, w - 0.15, 0.3)
    radii, side = rng.uniform(0.04, 0.11, len(places)), rng.uniform(0.1, 0.25)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = extrude(path(x, z, corners, bend) - t, y, w)
        d = cut(d, discs(x, y, places, radii))
        return cut(d, rect(x - 0.9, y - w, side, side))

    return solid


@family(thin=True)
def profile(rng: np.random.Generator) -> Solid:
    """Extruded hollow profile with inner webs and an open slot."""
    a, b, length = rng.uniform(0.3, 0.55), rng.uniform(0.25, 0.5), rng.uniform(0.7, 1.0)
    t, r = half_wall(rng, a, b, length), rng.uniform(0.02, 0.1)
    webs, slot, cross = int(rng.integers(0, 3)), rng.uniform(0.2, 0.4) * a, bool(rng.random() < 0.5)
    lip = rng.uniform(0.05, 0.15)

    def solid(x: Array, y: Array, z: Array) -> Array:
        shell = np.abs(rect(x, y, a, b, r) + t) - t
        inside = rect(x, y, a, b, r)
        for k in range(webs):
            shell = np.minimum(shell, np.maximum(np.abs(x - a * (0.9 * (k + 1) / (webs + 1) - 0.45)) - 0.8 * t, inside))
        if cross:
            shell = np.minimum(shell, np.maximum(np.abs(y + 0.25 * b) - 0.8 * t, inside))
        opening = rect(x, y - b, slot, 2.5 * t)
        lips = rect(np.abs(x) - slot, y - b + lip, t, lip)
        return extrude(np.minimum(cut(shell, opening), lips), z, length)

    return solid


@family(thin=True)
def tray(rng: np.random.Generator) -> Solid:
    """Thin tray with a rim, round corners and stamped beads."""
    b, h = rng.uniform(0.5, 0.95), rng.uniform(0.1, 0.3)
    t, r, rim = half_wall(rng, 1, b, h), rng.uniform(0.1, 0.3), rng.uniform(0.0, 0.12)
    beads, high, pitch = int(rng.integers(2, 6)), rng.uniform(0.03, 0.07), 1.3 / 5
    places, drain = spread(rng, 3, 0.6, b - 0.3, 0.3), rng.uniform(0.04, 0.08)

    def solid(x: Array, y: Array, z: Array) -> Array:
        wave = high * np.exp(-((row(x, pitch, beads) / 0.06) ** 2)) / (1 + np.exp((np.abs(y) - 0.6 * b) / 0.03))
        floor = np.abs(z + h - wave) - t
        d = np.maximum(floor * 0.8, rect(x, y, 1, b, r))
        walls = np.maximum(np.abs(rect(x, y, 1, b, r) + t) - t, np.abs(z) - h - t)
        flange = extrude(np.maximum(rect(x, y, 1 + rim, b + rim, r + rim), -rect(x, y, 1, b, r) - 2 * t), z - h, t)
        d = np.minimum(d, np.minimum(walls, flange))
        return cut(d, np.maximum(discs(x, y, places, np.full(len(places), drain)), z))

    return solid


@family(thin=True)
def clip(rng: np.random.Generator) -> Solid:
    """Spring clip: a strip bent into a hook with a curl."""
    w, r = rng.uniform(0.15, 0.45), rng.uniform(0.3, 0.5)
    sweep = np.linspace(0.15, rng.uniform(1.2, 1.6), 9) * np.pi
    hook = np.stack([r * np.cos(sweep), r * np.sin(sweep)], 1)
    tail = hook[-1] + np.array([[0.4, -0.05], [rng.uniform(0.8, 1.1), rng.uniform(-0.3, 0.2)]])
    corners = np.concatenate([[hook[0] + [rng.uniform(0.1, 0.5), -0.1]], hook, tail])
    t, hole, narrow = half_wall(rng, 0.8, w, 0.6), rng.uniform(0.04, 0.4 * w), rng.uniform(0.0, 0.3)

    def solid(x: Array, y: Array, z: Array) -> Array:
        x = x + 0.4
        d = extrude(path(x, z, corners) - t, y, w)
        d = np.maximum(d, 0.95 * (np.abs(y) - w + narrow * w * np.clip(x, 0, 1)))
        return cut(d, np.maximum(disc(x - tail[0, 0], y, hole), np.abs(z - tail[0, 1]) - 0.2))

    return solid


@family(thin=True)
def grill(rng: np.random.Generator) -> Solid:
    """Frame with slanted louvres."""
    b, h = rng.uniform(0.5, 0.9), rng.uniform(0.06, 0.15)
    t, count, tilt = half_wall(rng, 1, b, h), int(rng.integers(4, 10)), rng.uniform(-0.7, 0.7)
    frame, pitch = rng.uniform(0.06, 0.14), 1.75 / count

    def solid(x: Array, y: Array, z: Array) -> Array:
        ring = extrude(np.maximum(rect(x, y, 1, b, 0.08), -rect(x, y, 1 - frame, b - frame, 0.03)), z, h, 0.01)
        u, v = turn(row(x, pitch, count), z, tilt)
        bars = np.maximum(rect(u, v, t, 1.1 * h), np.abs(y) - b + 0.5 * frame)
        stay = box(x, y, z, 1 - 0.5 * frame, t, 0.6 * h)
        return np.minimum(np.minimum(ring, bars), stay)

    return solid
