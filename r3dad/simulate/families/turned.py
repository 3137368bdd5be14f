"""Turned parts and wheels."""

from __future__ import annotations

import numpy as np

from r3dad.simulate.families.tools import Solid, family, half_wall, spread
from r3dad.simulate.sdf import Array, blend, box, cut, disc, extrude, path, polygon, rect, row, segment, turn, wheel


@family()
def gear(rng: np.random.Generator) -> Solid:
    """Spur or helical gear with a hub, a thinner web, a bore and a keyway."""
    teeth, t = int(rng.integers(10, 33)), rng.uniform(0.12, 0.3)
    depth, bore, hub = 2.2 / teeth, rng.uniform(0.12, 0.22), rng.uniform(0.05, 0.2)
    half, helix, key = np.pi / teeth, rng.choice([0.0, rng.uniform(-0.6, 0.6)]), rng.uniform(0.03, 0.06)
    flank = np.array(
        [
            [0.5, 0.55 * half],
            [1 - depth, 0.56 * half],
            [1, 0.28 * half],
            [1, -0.28 * half],
            [1 - depth, -0.56 * half],
            [0.5, -0.55 * half],
        ]
    )
    windows, web = int(rng.choice([0, 3, 4, 5])), rng.uniform(0.4, 0.8) * t

    def solid(x: Array, y: Array, z: Array) -> Array:
        u, v = turn(x, y, helix * z)
        u, v = wheel(u, v, teeth)
        d = np.minimum(polygon(u, v, flank), disc(x, y, 1 - depth))
        d = extrude(d, z, t)
        r = np.hypot(x, y)
        groove = np.maximum(np.abs(r - 0.5 * (bore + 0.85 - depth)) - 0.5 * (0.65 - depth - bore), web - np.abs(z))
        d = cut(d, groove)
        d = np.minimum(d, extrude(r - bore - 0.12, z, t + hub, 0.01))
        if windows:
            u, v = wheel(x, y, windows)
            d = cut(d, disc(u - 0.5 * (bore + 1 - depth), v, 0.13))
        return cut(d, r - bore, rect(x - bore, y, key, key))

    return solid


@family()
def shaft(rng: np.random.Generator) -> Solid:
    """Turned shaft with steps, grooves, a keyway and a flat."""
    count = int(rng.integers(4, 8))
    ends = np.sort(np.concatenate([[-1, 1], spread(rng, count - 1, 0.85, 0.01, 0.14)[:, 0]]))
    radii = rng.uniform(0.1, 0.34, len(ends) - 1)
    at, key, flat = int(rng.integers(len(radii))), rng.uniform(0.03, 0.06), rng.uniform(0.5, 0.9)
    groove, bevel = rng.uniform(0.02, 0.05), rng.uniform(0.0, 0.03)

    def solid(x: Array, y: Array, z: Array) -> Array:
        r = np.hypot(y, z)
        d = np.full(len(x), np.inf)
        for a, b, radius in zip(ends[:-1], ends[1:], radii, strict=True):
            step = rect(x - 0.5 * (a + b), r, 0.5 * (b - a) + 1e-3, radius)
            step = np.maximum(step, (np.abs(x - 0.5 * (a + b)) - 0.5 * (b - a) + r - radius + bevel) * 0.7071)
            d = np.minimum(d, np.minimum(step, rect(x - 0.5 * (a + b), r, 0.5 * (b - a) + 1e-3, radius - bevel)))
        middle = 0.5 * (ends[at] + ends[at + 1])
        slot = np.maximum(
            segment(x, y, np.array([middle - 0.08, 0]), np.array([middle + 0.08, 0])) - key, radii[at] - 0.07 - z
        )
        other = (at + 1) % len(radii)
        mid = 0.5 * (ends[other] + ends[other + 1])
        ring = np.maximum(np.abs(x - mid) - groove, radii[other] - 0.04 - r)
        return cut(d, slot, ring, np.maximum(flat * radii[-1] - z, ends[-2] + 0.02 - x))

    return solid


@family()
def flange(rng: np.random.Generator) -> Solid:
    """Pipe flange: disc with bolt holes, a tapered neck, a bore and a raised face."""
    t, bolts, neck = rng.uniform(0.07, 0.14), int(rng.integers(4, 11)), rng.uniform(0.3, 0.5)
    high, bore, circle = rng.uniform(0.3, 0.8), neck - rng.uniform(0.08, 0.14), rng.uniform(0.72, 0.8)
    face, lean, odd = rng.uniform(0.02, 0.05), rng.uniform(0.0, 0.25), bool(rng.random() < 0.5)

    def solid(x: Array, y: Array, z: Array) -> Array:
        r = np.hypot(x, y)
        d = extrude(r - 1, z, t, 0.02)
        cone = np.maximum((r - neck + lean * (z - t)) / np.hypot(1, lean), np.abs(z - 0.5 * high) - 0.5 * high - t)
        d = blend(d, cone, 0.06)
        d = np.minimum(d, extrude(r - 0.6, z + t, face))
        u, v = wheel(x, y, bolts)
        d = cut(d, np.maximum(disc(u - circle, v, 0.08), z - t - 0.05), r - bore)
        return cut(d, rect(x - 1, y, 0.06, 0.2)) if odd else d

    return solid


@family()
def pulley(rng: np.random.Generator) -> Solid:
    """Belt pulley: V or step grooves, spokes, hub and bore."""
    t, grooves, spokes = rng.uniform(0.18, 0.35), int(rng.integers(1, 4)), int(rng.integers(3, 7))
    pitch, depth, bore = 1.7 * t / grooves, rng.uniform(0.08, 0.14), rng.uniform(0.1, 0.18)
    rim, wide, hub = rng.uniform(0.7, 0.76), rng.uniform(0.07, 0.13), rng.uniform(0.08, 0.12)

    def solid(x: Array, y: Array, z: Array) -> Array:
        r = np.hypot(x, y)
        ring = np.maximum(np.maximum(r - 1, rim - r), np.abs(z) - t)
        vee = (np.abs(row(z, pitch, grooves)) - 0.3 * pitch * (r - 1 + depth) / depth) * 0.8
        ring = cut(ring, np.maximum(vee, 1 - depth - r))
        u, v = wheel(x, y, spokes)
        arm = np.maximum(rect(u - 0.45, v, 0.36, wide, 0.02), np.abs(z) - 0.4 * t)
        d = np.minimum(blend(ring, arm, 0.06), extrude(r - bore - hub, z, 1.15 * t, 0.01))
        return cut(d, r - bore, rect(x - bore, y, 0.04, 0.04))

    return solid


@family()
def knob(rng: np.random.Generator) -> Solid:
    """Lobed control knob with a domed top, a skirt and a pointer."""
    lobes, deep, h = int(rng.integers(3, 13)), rng.uniform(0.03, 0.1), rng.uniform(0.35, 0.7)
    skirt, dome, bore = rng.uniform(0.0, 0.12), rng.uniform(0.9, 2.0), rng.uniform(0.1, 0.2)
    point = rng.uniform(0.03, 0.06)

    def solid(x: Array, y: Array, z: Array) -> Array:
        r = np.hypot(x, y)
        wave = deep * np.cos(lobes * np.arctan2(y, x)) * np.clip((r - 0.2) / 0.5, 0, 1)
        d = 0.85 * (r - 0.8 - wave)
        d = np.maximum(d, np.abs(z) - h)
        d = np.maximum(d, np.sqrt(r * r + (z - h + dome) ** 2) - dome)
        d = np.minimum(d, extrude(r - 0.9 - skirt, z + h - 0.06, 0.06, 0.02))
        d = np.minimum(d, box(x - 0.5, y, z - h + 0.55 / dome, 0.4, point, 0.12, 0.02))
        return cut(d, np.maximum(disc(x, y, bore), z))

    return solid


@family()
def bolt(rng: np.random.Generator) -> Solid:
    """Hexagon or socket head screw with rings for its thread and a washer face."""
    r, head, high = rng.uniform(0.16, 0.26), rng.uniform(1.5, 1.9), rng.uniform(0.12, 0.25)
    pitch, start, socket = rng.uniform(0.05, 0.09), rng.uniform(-0.3, 0.5), bool(rng.random() < 0.5)
    corners = 0.6 * head * r * np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], 1)

    def solid(x: Array, y: Array, z: Array) -> Array:
        d = extrude(disc(y, z, r), x, 0.85, 0.03)
        turns = x - pitch * np.arctan2(z, y) / (2 * np.pi)
        thread = (np.abs(turns / pitch - np.round(turns / pitch)) - 0.25) * pitch
        d = np.maximum(d, 0.75 * np.minimum(np.hypot(y, z) - r + 0.5 * pitch - thread, start - x + 2 * r))
        u = x + 0.85
        if socket:
            cap = extrude(disc(y, z, head * r), u, high, 0.02)
            cap = cut(cap, np.maximum(polygon(y, z, corners), u + 0.3 * high))
        else:
            cap = extrude(polygon(y, z, corners * head), u, high)
            cap = np.maximum(cap, (np.hypot(y, z) - 0.62 * head * head * r - u - high + 0.12) * 0.8)
        return np.minimum(d, np.minimum(cap, extrude(disc(y, z, 1.3 * head * r), u - high, 0.03)))

    return solid


@family(thin=True)
def cup(rng: np.random.Generator) -> Solid:
    """Deep-drawn cup: a thin shell of revolution with steps, a rim and holes in its floor."""
    h, taper, step = rng.uniform(0.4, 0.9), rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.2)
    base, t = rng.uniform(0.45, 0.7), half_wall(rng, 0.9, 0.9, h)
    rim, holes = rng.uniform(0.05, 0.25), int(rng.integers(0, 6))
    line = np.array(
        [
            [0, -h],
            [base, -h],
            [base + 0.5 * taper, 0.2 * h],
            [base + 0.5 * taper + step + 0.05, 0.3 * h],
            [base + taper * 0.6 + step + 0.08, h],
            [base + taper * 0.6 + step + 0.08 + rim, h],
        ]
    )
    bend = 0.1 * h

    def solid(x: Array, y: Array, z: Array) -> Array:
        r = np.hypot(x, y)
        d = path(r, z, line, min(bend, 0.03)) - t
        d = cut(d, np.maximum(disc(x - 0.1, y + 0.08, 0.1), np.abs(z + h) - 0.1))
        if holes:
            u, v = wheel(x, y, holes)
            d = cut(d, np.maximum(disc(u - 0.65 * base, v, 0.06), np.abs(z + h) - 0.1))
        return d

    return solid
