"""Synthetic scans: good geometry with defects along its true normals, seen by a sensor that is not perfect.

Everything random is drawn from the generator given. Lengths are shares of the part's diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from r3dad.neighbours import Neighbours
from r3dad.surface import Surface
from r3dad.views import front, plane_axes, unit

LABEL_AT = 0.0015
"""A point moved further than this is labelled as defective."""
RIM = 0.014
"""Width of the labelled rim of missing material."""


@dataclass
class Geometry:
    """Points of one good instance ``[N, 3]``, outward normals, edge-ness, and the labels so far."""

    points: np.ndarray
    normals: np.ndarray
    curvature: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, cloud: np.ndarray, surface: Surface) -> tuple[Geometry, Geometry]:
        """A good scan ``[N, 3]`` laid onto its surface, and as it is, noise and all."""
        away = surface.departure(cloud)
        n, curvature, label = surface.normals[away.near], surface.curvature[away.near], np.zeros(len(cloud), bool)
        return cls(cloud - away.vector, n, curvature, label), cls(cloud, n, curvature, label)

    def take(self, index: np.ndarray) -> Geometry:
        return Geometry(self.points[index], self.normals[index], self.curvature[index], self.label[index])

    def moved(self, by: np.ndarray) -> Geometry:
        size = np.linalg.norm(by, axis=1)
        return replace(self, points=self.points + by, label=self.label | (size > LABEL_AT))


def ripple(rng: np.random.Generator, wavelength: float) -> Callable[[np.ndarray], np.ndarray]:
    """Random smooth scalar field, values roughly in -1..1."""
    k = unit(rng.normal(size=(4, 3))) * 2 * np.pi / wavelength * rng.uniform(0.6, 1.2, (4, 1))
    phase = rng.uniform(0, 2 * np.pi, 4)
    return lambda p: 1.4 * np.sin(p @ k.T + phase).mean(1)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _edge(g: Geometry, rng: np.random.Generator) -> int:
    sharp = np.flatnonzero(g.curvature >= np.quantile(g.curvature, 0.85))
    return int(rng.choice(sharp))


def _patch(g: Geometry, c: int, rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Wobbly distance from point ``c`` in radii, and which points face the same way."""
    v = g.points - g.points[c]
    facing = g.normals @ g.normals[c]
    stretch = np.ones(3)
    if rng.random() < 0.3:
        a, b = plane_axes(g.normals[c])
        turn = rng.uniform(0, np.pi)
        axis = np.cos(turn) * a + np.sin(turn) * b
        v = v - (1 - rng.uniform(0.4, 0.8)) * (v @ axis)[:, None] * axis
    x = np.linalg.norm(v * stretch, axis=1) / radius
    return x * (1 + 0.15 * ripple(rng, 0.15)(g.points)), facing


def bump(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """Round bulge or dent; a thin wall may give way on both sides."""
    x, facing = _patch(g, int(rng.integers(len(g.points))), rng, _between(rng, 0.02, 0.14))
    h = np.cos(np.pi / 2 * np.minimum(x, 1)) ** rng.choice([1, 2, 2, 4])
    both = rng.random() < 0.4
    side = np.where(facing > 0, 1.0, -1.0 if both else 0.0) * (np.abs(facing) > 0.1)
    return g.moved((rng.choice([-1, 1]) * depth * h * side)[:, None] * g.normals)


def plateau(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """Patch raised or lowered with a steep border: a stuck chip, a spalled flake, a step."""
    x, facing = _patch(g, int(rng.integers(len(g.points))), rng, _between(rng, 0.015, 0.09))
    h = np.clip((1 - x) / rng.uniform(0.05, 0.4), 0, 1) * (facing > 0.3)
    return g.moved((rng.choice([-1, 1]) * depth * h)[:, None] * g.normals)


def rough(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """Patch of short waves, pits or orange peel."""
    x, facing = _patch(g, int(rng.integers(len(g.points))), rng, _between(rng, 0.03, 0.12))
    wave = ripple(rng, rng.uniform(0.015, 0.06))(g.points)
    shape = rng.integers(3)
    wave = wave if shape == 0 else np.maximum(wave, 0) if shape == 1 else -np.maximum(wave, 0)
    h = np.clip((1 - x) / 0.3, 0, 1) * (facing > 0.2)
    return g.moved((depth * wave * h)[:, None] * g.normals)


def groove(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """Scratch or crack: a narrow valley along a straight, curved or meandering line, lips or none; sometimes a ridge."""
    p, c = g.points, int(rng.integers(len(g.points)))
    v, facing = p - p[c], g.normals @ g.normals[c]
    a = unit(np.cross(g.normals[c], rng.normal(size=3)))
    s, w, length = v @ a, v @ np.cross(g.normals[c], a), rng.uniform(0.08, 0.5)
    if rng.random() < 0.6:
        w = w - rng.uniform(0, 0.03) * np.sin(s / rng.uniform(0.01, 0.05) + rng.uniform(0, 6))
    w = w - rng.uniform(-1, 1) * s * s
    half = rng.uniform(0.006, 0.016)
    x = np.abs(w) / half
    dip = np.maximum(1 - x ** rng.choice([1, 2]), 0)
    if rng.random() < 0.5:
        dip = dip - rng.uniform(0, 0.3) * np.maximum(1 - np.abs(x - 1.35) / 0.35, 0)
    end = np.clip((length / 2 - np.abs(s)) / (0.08 * length), 0, 1) ** 0.5
    within = (np.abs(v @ g.normals[c]) < rng.uniform(0.03, 0.3)) & (facing > rng.choice([-0.2, 0.3]))
    sign = 1 if rng.random() < 0.15 else -1
    h = sign * depth * dip * end * within * (1 + 0.3 * ripple(rng, 0.06)(p))
    return g.moved(h[:, None] * g.normals)


def burr(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """Ridge that stands out along a sharp edge, or an edge worn away."""
    p, c = g.points, _edge(g, rng)
    far = np.linalg.norm(p - p[c], axis=1)
    sharp = g.curvature >= np.quantile(g.curvature, 0.85)
    edge = p[sharp & (far < rng.uniform(0.05, 0.18))]
    axis = np.linalg.eigh((edge - p[c]).T @ (edge - p[c]))[1][:, 2]
    off = edge - p[c] - np.outer((edge - p[c]) @ axis, axis)
    line = edge[np.linalg.norm(off, axis=1) < 0.012]
    d = Neighbours(line if len(line) else p[c : c + 1])(p)[0]
    half = rng.uniform(0.010, 0.022)
    push = depth * np.maximum(1 - d / half, 0) ** rng.choice([1, 1.5]) * (1 + 0.35 * ripple(rng, 0.05)(p))
    out = unit(g.normals[far < 0.03].mean(0))
    facing = g.normals @ out > -0.1
    if rng.random() < 0.25:
        return g.moved((-0.8 * push * facing)[:, None] * out)
    return g.moved((push * facing)[:, None] * out)


def blob(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """Drops that sit on the surface (spatter, chips, dirt): one to six small domes."""
    total = np.zeros(len(g.points))
    c = int(rng.integers(len(g.points)))
    near = np.flatnonzero(np.linalg.norm(g.points - g.points[c], axis=1) < rng.uniform(0.02, 0.15))
    for k in [c, *rng.choice(near, rng.integers(0, 6))]:
        x = np.linalg.norm(g.points - g.points[k], axis=1) / rng.uniform(0.012, 0.03)
        total = np.maximum(total, np.sqrt(np.maximum(1 - x * x, 0)) * (g.normals @ g.normals[k] > 0))
    return g.moved((depth * total)[:, None] * g.normals)


def hole(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """A patch of surface missing; its rim is labelled, and rolled inwards or not."""
    c = int(rng.integers(len(g.points)))
    radius = _between(rng, 0.025, 0.11)
    v = g.points - g.points[c]
    x = np.linalg.norm(v, axis=1) + 0.12 * radius * ripple(rng, 0.12)(g.points) - radius
    side = (np.abs(v @ g.normals[c]) < rng.uniform(0.02, 0.1)) & (g.normals @ g.normals[c] > -0.2)
    keep = (x > 0) | ~side
    rim = side & (x > 0) & (x < RIM)
    roll = rng.uniform(0, 0.6) * depth * rim * np.maximum(1 - x / RIM, 0) ** 2
    return replace(g, points=g.points - roll[:, None] * g.normals, label=g.label | rim).take(keep)


def _end(g: Geometry, rng: np.random.Generator, share: float) -> tuple[np.ndarray, np.ndarray, float]:
    """A direction, the points' heights along it, and the height above which a protruding ``share`` lies."""
    u = unit(rng.normal(size=(12, 3)))
    s = g.points @ u.T
    at = np.quantile(s, 1 - share, axis=0)
    k = rng.choice(np.argsort(s.max(0) - at)[-5:])
    return u[k], s[:, k], float(at[k])


def cut(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """A corner broken off along a rough plane; the fracture closes the rim and is labelled."""
    u, s, at = _end(g, rng, rng.uniform(0.005, 0.04))
    wave = ripple(rng, 0.06)
    h = s - at - 0.003 * wave(g.points)
    rim = g.points[(h < 0) & (h > -0.012)]
    keep = h < 0
    if len(rim) < 8:
        return g
    rim = rim - (rim @ u - at)[:, None] * u
    a, b = rim[rng.integers(len(rim), size=(2, 3 * len(rim)))]
    cap = a + rng.random((len(a), 1)) * (b - a)
    cap = cap[np.linalg.norm(a - b, axis=1) < rng.uniform(0.05, 0.3)][: len(rim)]
    cap = cap + 0.003 * wave(cap)[:, None] * u
    kept = replace(g, label=g.label | (h > -0.006)).take(keep)
    return Geometry(
        np.concatenate([kept.points, cap]),
        np.concatenate([kept.normals, np.broadcast_to(u, cap.shape)]),
        np.append(kept.curvature, np.zeros(len(cap))),
        np.append(kept.label, np.ones(len(cap), bool)),
    )


def bend(g: Geometry, rng: np.random.Generator, depth: float) -> Geometry:
    """A protruding end bent, twisted or shifted about its root."""
    u, s, at = _end(g, rng, rng.uniform(0.02, 0.14))
    reach = max(s.max() - at, 1e-3)
    root = g.points[np.abs(s - at) < 0.03].mean(0)
    x = np.clip((s - at) / (rng.uniform(0.15, 0.6) * reach), 0, 1)
    x = x * x * (3 - 2 * x)
    if rng.random() < 0.25:
        return g.moved((depth * x)[:, None] * unit(np.cross(u, rng.normal(size=3))))
    axis = u if rng.random() < 0.15 else unit(np.cross(u, rng.normal(size=3)))
    angle = (min(1.3 * depth / reach, 0.35) * x)[:, None]
    r = g.points - root
    turned = r * np.cos(angle) + np.cross(axis, r) * np.sin(angle) + np.outer(r @ axis, axis) * (1 - np.cos(angle))
    return g.moved(turned - r)


KINDS: dict[str, Callable[[Geometry, np.random.Generator, float], Geometry]] = {
    f.__name__: f for f in (bump, plateau, rough, groove, burr, blob, hole, cut, bend)
}
"""Kinds of synthetic defect; `synthetic` draws from them by ``FREQUENCY``."""
FREQUENCY = {"bump": 3, "plateau": 1, "rough": 1, "groove": 4, "burr": 2, "blob": 1, "hole": 3, "cut": 2, "bend": 2}


def draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """``count`` kinds of defect, drawn by ``FREQUENCY``."""
    odds = np.array(list(FREQUENCY.values()), float)
    return [str(k) for k in rng.choice(list(FREQUENCY), count, p=odds / odds.sum())]


def seen_from(g: Geometry, views: np.ndarray, spacing: float) -> np.ndarray:
    """Which points ``[N]`` an orthographic camera in one of the directions ``views [V, 3]`` sees (depth buffer)."""
    pixel = 2.2 * spacing
    seen = np.zeros(len(g.points), bool)
    for view in views:
        behind, _ = front(g.points, view, pixel)
        cos = g.normals @ view
        slack = pixel * np.sqrt(np.maximum(1 / np.maximum(cos, 0.1) ** 2 - 1, 0)) + 0.8 * spacing
        seen |= (cos > 0.12) & (behind < slack)
    return seen


@dataclass(frozen=True)
class Sensor:
    """Ranges that a synthetic scan's imperfections are drawn from."""

    warp: float = 0.002
    scale: float = 0.002
    noise: tuple[float, float] = (0.0004, 0.0017)
    stray: float = 0.003
    turn: float = 0.004
    shift: float = 0.001
    one_sided: float = 0.3


def synthetic(
    rng: np.random.Generator,
    good: Geometry,
    kinds: Sequence[str],
    *,
    raw: bool = False,
    sensor: Sensor = Sensor(),
    most: int = 12_000,
    view: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A new scan of a good instance: a defect of each of ``kinds``, warp, uneven density, noise, stray points, a small pose error.

    Returns points ``[M, 3]`` and labels ``[M]`` (bool). ``view``: seen from about that direction only; drawn with the sensor's
    probability where not given. ``raw``: the good instance is a scan that has its own noise already, so less is added.
    """
    g = good
    spacing = float(np.median(Neighbours(g.points)(g.points[::7], 3)[0][:, 2])) * 1.3
    for name in kinds:
        g = KINDS[str(name)](g, rng, _between(rng, 0.0025, 0.03))
    p = g.points
    g = replace(g, points=(p + rng.uniform(0, sensor.warp) * np.stack([ripple(rng, 1.2)(p) for _ in range(3)], 1)))
    g.points *= 1 + rng.uniform(-sensor.scale, sensor.scale)
    weight = np.exp(rng.uniform(0.2, 0.9) * ripple(rng, 0.7)(g.points))
    ray = g.normals
    if view is None and rng.random() < sensor.one_sided:
        view = unit(rng.normal(size=3))
        if g.label.any() and rng.random() < 0.7:
            view = unit(g.normals[g.label].mean(0) + 0.6 * unit(rng.normal(size=3)))
    if view is not None:
        a, b = plane_axes(view)
        tilt = rng.choice([0.0, 0.15, 0.25, 0.4])
        looks = np.stack([view, *(unit(view + tilt * v) for v in (a, -a / 2 + b, -a / 2 - b))])
        seen = np.flatnonzero(seen_from(g, looks if tilt else looks[:1], spacing))
        g, weight = g.take(seen), weight[seen]
        cos = np.clip(g.normals @ view, 0.05, 1)
        weight = weight * cos ** rng.uniform(0, 1)
        ray = view * (0.6 + 0.4 / np.sqrt(cos))[:, None]
    count = int(min(rng.uniform(0.6, 1) * len(g.points), rng.uniform(0.5, 1) * most))
    pick = np.argsort(np.log(rng.random(len(g.points))) / weight)[-count:]
    g, ray = g.take(pick), ray[pick]
    noise = _between(rng, *sensor.noise) * (rng.uniform(0, 0.6) if raw else 1)
    p = g.points + noise * (rng.normal(size=(len(ray), 1)) * ray + 0.3 * rng.normal(size=ray.shape))
    stray = rng.random(len(p)) < rng.uniform(0, sensor.stray)
    p[stray] += rng.uniform(0.005, 0.04, (stray.sum(), 1)) * unit(rng.normal(size=(int(stray.sum()), 3)))
    turn = sensor.turn * rng.normal(size=3)
    p = p + np.cross(turn, p) + sensor.shift * rng.normal(size=3)
    return p, g.label & ~stray
