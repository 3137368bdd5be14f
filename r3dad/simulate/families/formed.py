"""Pipes, blades, castings and levers."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.families.tools import Solid, family, half_wall
from r3dad.simulate.sdf import Array, Ripple, blend, box, cut, disc, extrude, path, rect, segment, turn, unit, wheel


@family(thin=True)
def elbow(rng: np.random.Generator) -> Solid:
    """Bent pipe with a flange at each end."""
    pipe, angle = rng.uniform(0.17, 0.3), rng.uniform(0.8, 1.7)
    legs, bend = rng.uniform(0.75, 1.1, 2), rng.uniform(0.35, 0.5)
    t = half_wall(rng, *(0.8 * legs), pipe)
    rim, thick, bolts = rng.uniform(0.08, 0.16), rng.uniform(0.03, 0.06), int(rng.integers(3, 7))
    ways = np.array([[-1.0, 0.0], [np.cos(angle), np.sin(angle)]])  # outwards, of the two ends
    ends = ways * legs[:, None]
    line = np.stack([1.2 * ends[0], [0.0, 0.0], 1.2 * ends[1]])

    def solid(x: Array, y: Array, z: Array) -> Array:
        x, y = x - 0.25, y - 0.3
        core = np.hypot(path(x, y, line, bend, 9), z) - pipe
        d = np.abs(core + t) - t
        for way, end in zip(ways, ends, strict=True):
            u, v = turn(x - end[0], y - end[1], np.arctan2(way[1], way[0]))
            d = np.maximum(d, u)
            f, g = wheel(v, z, bolts)
            ring = cut(extrude(disc(v, z, pipe + rim), u + thick, thick), disc(f - pipe - 0.55 * rim, g, 0.3 * rim))
            d = np.minimum(d, cut(ring, core + t))
        return d

    return solid


@family(thin=True)
def blade(rng: np.random.Generator) -> Solid:
    """Twisted, tapered aerofoil on a root block."""
    twist, taper, camber = rng.uniform(-0.7, 0.7), rng.uniform(0.0, 0.35), rng.uniform(0.02, 0.12)
    chord, thick = rng.uniform(0.35, 0.55), rng.uniform(0.03, 0.055)
    root, fillet = rng.uniform(0.1, 0.18), rng.uniform(0.02, 0.08)

    def solid(x: Array, y: Array, z: Array) -> Array:
        u, v = turn(x, y, twist * (z + 0.8))
        grow = np.clip(1 - taper * (z + 0.8) / 1.8, 0.3, 1)
        u, v = u / grow, v / grow
        v = v + camber * (1 - (u / chord) ** 2)
        s = np.clip((u + chord) / (2 * chord), 0, 1)
        half = thick * (0.25 + 2.2 * np.sqrt(s) * (1 - s) ** 0.9)
        d = 0.6 * np.maximum(np.abs(v) - half, np.abs(u) - chord)
        d = np.maximum(d, np.abs(z - 0.1) - 0.9)
        return blend(d, box(x, y, z + 0.85, chord + 0.12, root + 0.06, root, 0.02), fillet)

    return solid


@family(thin=True)
def impeller(rng: np.random.Generator) -> Solid:
    """Disc with curved thin blades, a hub and a bore."""
    count, t = int(rng.integers(5, 10)), half_wall(rng, 0.9, 0.9, 0.3)
    curl, h, hub = rng.uniform(-1.4, 1.4), rng.uniform(0.25, 0.5), rng.uniform(0.18, 0.28)
    base, slope = rng.uniform(0.03, 0.06), rng.uniform(0.0, 0.5)

    def solid(x: Array, y: Array, z: Array) -> Array:
        r = np.hypot(x, y)
        u, v = turn(x, y, curl * (r - 0.2))
        u, v = wheel(u, v, count)
        top = h * (1 - slope * r)
        fins = 0.7 * np.maximum(np.maximum(np.abs(v) - t, r - 0.97), np.maximum(-z, z - top))
        d = blend(extrude(r - 1, z, base, 0.01), fins, 0.03)
        d = np.minimum(d, extrude(r - hub, z - 0.5 * h, 0.5 * h + base, 0.02))
        return cut(d, r - 0.55 * hub, rect(x - 0.55 * hub, y, 0.04, 0.03))

    return solid


@family()
def casting(rng: np.random.Generator) -> Solid:
    """Freeform casting: rounded lumps grown together, bosses, a machined face and a bore."""
    radii, axes = rng.uniform(0.22, 0.42, int(rng.integers(3, 6))), unit(rng.normal(size=(2, 3)) + (0, 0, 2))
    steps = unit(rng.normal(size=(len(radii), 3)) * (1, 0.8, 0.5)) * (radii + np.roll(radii, 1))[:, None] * 0.75
    lumps = np.cumsum(steps, axis=0)
    lumps = lumps - lumps.mean(0)
    skin, face, bore = Ripple(rng, 0.8), rng.uniform(0.25, 0.4), rng.uniform(0.08, 0.15)
    smooth = rng.uniform(0.15, 0.35)

    def solid(x: Array, y: Array, z: Array) -> Array:
        p = np.stack([x, y, z], 1)
        d = np.linalg.norm(p - lumps[0], axis=1) - radii[0]
        for centre, r in zip(lumps[1:], radii[1:], strict=True):
            d = blend(d, np.linalg.norm(p - centre, axis=1) - r, smooth)
        d = 0.85 * (d + 0.03 * skin(p))
        for centre, axis in zip(lumps[:2], axes, strict=True):
            q = p - centre
            s = q @ axis
            r = np.sqrt(np.maximum((q * q).sum(1) - s * s, 0))
            d = blend(d, np.maximum(r - 0.18, np.abs(s - 0.3) - 0.25), 0.08)
            d = cut(d, np.maximum(r - bore, 0.2 - s))
        return np.maximum(d, -z - face)

    return solid


@family()
def lever(rng: np.random.Generator) -> Solid:
    """Connecting rod: two eyes, a waisted shank with a recess, maybe bent."""
    big, small, t = rng.uniform(0.25, 0.38), rng.uniform(0.15, 0.24), rng.uniform(0.06, 0.13)
    bend, shank, deep = rng.uniform(0, 0.3), rng.uniform(0.08, 0.14), rng.uniform(0.02, 0.05)
    a, b, c = np.array([-0.65, 0.0]), np.array([0.05, bend]), np.array([0.75, 0.0])

    def solid(x: Array, y: Array, z: Array) -> Array:
        line = np.minimum(segment(x, y, a, b), segment(x, y, b, c))
        eyes = np.minimum(
            extrude(disc(x - a[0], y, big), z, 1.5 * t, 0.015), extrude(disc(x - c[0], y, small), z, 1.2 * t, 0.015)
        )
        d = blend(eyes, extrude(line - shank, z, t, 0.02), 0.08)
        recess = np.maximum(line - 0.55 * shank, t - deep - np.abs(z))
        ends = np.minimum(disc(x - a[0], y, big + 0.06), disc(x - c[0], y, small + 0.06))
        d = cut(d, np.maximum(recess, -ends))
        return cut(d, disc(x - a[0], y, 0.6 * big), disc(x - c[0], y, 0.5 * small))

    return solid


@family()
def clevis(rng: np.random.Generator) -> Solid:
    """Fork with a cross hole on a round, stepped shank."""
    w, gap, r = rng.uniform(0.25, 0.4), rng.uniform(0.09, 0.16), rng.uniform(0.14, 0.24)
    hole, long = rng.uniform(0.4, 0.6) * w, rng.uniform(0.2, 0.5)
    collar, deep = rng.uniform(1.15, 1.5), rng.uniform(0.3, 0.55)

    def solid(x: Array, y: Array, z: Array) -> Array:
        arm = segment(x, z, np.array([0.6, 0.0]), np.array([0.0, 0.0])) - w
        fork = cut(extrude(arm, y, gap + 0.14, 0.02), np.maximum(np.abs(y) - gap, 0.6 - deep - x))
        rod = extrude(disc(y, z, r), x + 0.5, 0.5, 0.02)
        ring = extrude(disc(y, z, collar * r), x + 0.35, 0.06, 0.01)
        d = blend(fork, np.minimum(rod, ring), 0.06)
        return cut(d, disc(x - 0.6, z, hole), np.maximum(disc(y, z, 0.5 * r), x + 1 - long))

    return solid


@family()
def handle(rng: np.random.Generator) -> Solid:
    """Bow handle: an arched bar that swells, on two feet with screw holes."""
    h, r, foot = rng.uniform(0.35, 0.6), rng.uniform(0.07, 0.11), rng.uniform(0.14, 0.2)
    arch = np.array([[-0.8, 0], [-0.8 + rng.uniform(0.05, 0.3), h], [0.8 - rng.uniform(0.05, 0.3), h], [0.8, 0]])
    swell, flat = rng.uniform(0, 0.5), rng.uniform(1.0, 1.6)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = np.hypot(path(x, z, arch, 0.14), y / flat) - r * (1 + swell * np.exp(-((x / 0.4) ** 2)))
        u = np.abs(x) - 0.8
        d = blend(0.7 * d, extrude(rect(u, y, foot, foot, 0.06), z, 0.05, 0.01), 0.06)
        return np.maximum(cut(d, np.maximum(disc(u - 0.5 * foot, y, 0.04), np.abs(z) - 0.2)), -z - 0.05)

    return solid
