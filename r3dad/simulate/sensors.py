"""Simulated sensors: what they see of a shape, how densely, and with which errors.

A sensor returns a `Capture` of about `count` points. Rays are traced on the shape itself (perspective, from a few
diagonals away), so that parts shade themselves exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r3dad.simulate.sdf import Array, Ripple, Shape, unit


@dataclass(frozen=True)
class Capture:
    """Points [M, 3] on the surface (mm), normals [M, 3], measuring error [M, 3] (mm), stray [M]: points that lie nowhere."""

    points: Array
    normals: Array
    error: Array
    stray: NDArray[np.bool_]

    def take(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Capture:
        return Capture(self.points[keep], self.normals[keep], self.error[keep], self.stray[keep])


Sensor = Callable[[Shape, np.random.Generator, int, float, Array], Capture]


def merge(captures: list[Capture]) -> Capture:
    """Captures one after the other."""
    points, normals, error, stray = (
        np.concatenate([getattr(c, name) for c in captures]) for name in ("points", "normals", "error", "stray")
    )
    return Capture(points, normals, error, stray)


# ---------------------------------------------------------------- points without a view


def uniform(shape: Shape, rng: np.random.Generator, count: int, sigma: float, view: Array) -> Capture:
    """Whole surface, uneven smooth density, noise `sigma` (mm) along the normal and a little across. `view` is not used."""
    p, n = shape.sample(rng, 2 * count)
    key = rng.exponential(size=len(p)) / np.exp(0.6 * Ripple(rng, 0.7 * shape.size)(p))
    keep = np.sort(np.argpartition(key, count - 1)[:count])  # weighted draw without replacement
    p, n = p[keep], n[keep]
    error = sigma * (rng.normal(size=(count, 1)) * n + 0.3 * rng.normal(size=p.shape))
    return Capture(p, n, error, np.zeros(count, bool))


def cmm(shape: Shape, rng: np.random.Generator, count: int, sigma: float, view: Array) -> Capture:
    """Touch probe: whole surface, even spacing, a quarter of the noise. `view` is not used."""
    p, n = shape.sample(rng, 4 * count)
    low, high = 1e-3 * shape.size, shape.size
    for _ in range(12):  # spacing that leaves about `count` points
        pitch = 0.5 * (low + high)
        boxes = np.floor(p / pitch).astype(np.int64) @ (1, 1 << 20, 1 << 40)
        first = np.unique(boxes, return_index=True)[1]
        low, high = (pitch, high) if len(first) > count else (low, pitch)
    first = np.sort(first)
    error = 0.25 * sigma * rng.normal(size=(len(first), 1)) * n[first]
    return Capture(p[first], n[first], error, np.zeros(len(first), bool))


# ---------------------------------------------------------------- cameras


@dataclass(frozen=True)
class _Image:
    """Rays of a camera: lattice indices row, column [M]; depth along the ray (mm, inf: none), eye [3], rays [M, 3]."""

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    depth: Array
    eye: Array
    rays: Array


def _look(shape: Shape, rng: np.random.Generator, count: int, view: Array, stretch: float, jitter: float) -> _Image:
    """Trace a lattice of pixels that gives about `count` points; rows are `stretch` times further apart than columns."""
    radius, away = 0.55 * shape.size, shape.size * rng.uniform(2.0, 5.0)
    eye = view * away
    a = unit(np.cross(view, unit(rng.normal(size=3))))
    b = np.cross(view, a)

    def shoot(u: Array, v: Array) -> tuple[Array, Array]:
        rays = unit(u[:, None] * a + v[:, None] * b - eye)
        near = away - 0.8 * shape.size
        return near + shape.trace(eye + near * rays, rays, 1.6 * shape.size), rays

    # A coarse image tells the share of the frame that the part fills, and where finer rays are worth while.
    side = 44
    ticks = (np.arange(side) + 0.5) / side * 2 * radius - radius
    u, v = (x.ravel() for x in np.meshgrid(ticks, ticks))
    seen = np.isfinite(shoot(u, v)[0]).reshape(side, side)
    pitch = 2 * radius * np.sqrt(max(seen.mean(), 0.002) / count / stretch)
    padded = np.pad(seen, 1)
    near = np.any([padded[i : i + side, j : j + side] for i in range(3) for j in range(3)], axis=0)

    columns, rows = (np.arange(-radius, radius, step) for step in (pitch, pitch * stretch))
    column, row = (x.ravel() for x in np.meshgrid(np.arange(len(columns)), np.arange(len(rows))))
    cell = [
        np.minimum(((x + radius) / (2 * radius) * side).astype(int), side - 1) for x in (rows[row], columns[column])
    ]
    keep = near[cell[0], cell[1]]
    row, column = row[keep], column[keep]
    spread = jitter * pitch * rng.uniform(-0.5, 0.5, (2, len(row)))
    depth, rays = shoot(columns[column] + spread[0], rows[row] + spread[1])
    return _Image(row, column, depth, eye, rays)


def _surface(shape: Shape, image: _Image) -> tuple[NDArray[np.intp], Array, Array, Array]:
    """Rays that met the surface: their indices, the points, normals, and cosines of incidence."""
    hit = np.flatnonzero(np.isfinite(image.depth))
    p = image.eye + image.depth[hit, None] * image.rays[hit]
    n = shape.normals(p)
    return hit, p, n, -(n * image.rays[hit]).sum(1)


def one_sided(shape: Shape, rng: np.random.Generator, count: int, sigma: float, view: Array) -> Capture:
    """Depth camera: one view, noise along the ray that grows with the angle of incidence, no points at grazing rays."""
    image = _look(shape, rng, int(1.1 * count), view, 1.0, rng.uniform(0, 1))
    hit, p, n, cos = _surface(shape, image)
    keep = cos > rng.uniform(0.08, 0.2)
    hit, p, n, cos = hit[keep], p[keep], n[keep], cos[keep]
    along = sigma * rng.normal(size=len(p)) * (0.6 + 0.4 / np.sqrt(cos))
    error = along[:, None] * image.rays[hit] + 0.2 * sigma * rng.normal(size=p.shape)
    return Capture(p, n, error, np.zeros(len(p), bool))


def lines(shape: Shape, rng: np.random.Generator, count: int, sigma: float, view: Array) -> Capture:
    """Laser line scanner: dense profiles 2-6 spacings apart, seen by a camera beside the laser (shadows of both).

    The noise grows with the tangent of the angle of incidence; each profile has a small offset of its own.
    """
    image = _look(shape, rng, int(1.35 * count), view, rng.uniform(2, 6), 0.0)
    hit, p, n, cos = _surface(shape, image)
    camera = unit(view + np.tan(rng.uniform(0.3, 0.7)) * unit(np.cross(view, rng.normal(size=3))))
    keep = cos > 0.15
    keep[keep] = shape.visible(p[keep], n[keep], camera)
    hit, p, n, cos = hit[keep], p[keep], n[keep], cos[keep]
    steep = np.minimum(np.sqrt(1 / cos**2 - 1), 5)
    offset = 0.4 * sigma * rng.normal(size=int(image.row.max(initial=0)) + 1)
    along = sigma * rng.normal(size=len(p)) * (0.6 + 0.5 * steep) + offset[image.row[hit]]
    return Capture(p, n, along[:, None] * image.rays[hit], np.zeros(len(p), bool))


def structured(shape: Shape, rng: np.random.Generator, count: int, sigma: float, view: Array) -> Capture:
    """Structured light: a pixel lattice, depth in steps, patchy dropouts, flying pixels where the depth jumps."""
    image = _look(shape, rng, int(1.3 * count), view, 1.0, 0.0)
    hit, p, n, cos = _surface(shape, image)
    depth = image.depth[hit]
    error = depth + sigma * rng.normal(size=len(p)) * (0.5 + 0.3 / np.maximum(cos, 0.15))
    grain = shape.size * rng.uniform(0.0005, 0.002)
    error = np.round(error / grain) * grain - depth

    # Flying pixels: near a jump to the next pixel of the row or column some points hang between the two depths.
    lattice = np.full((image.row.max(initial=0) + 2, image.column.max(initial=0) + 2), np.inf)
    lattice[image.row[hit], image.column[hit]] = depth
    behind = np.maximum(lattice[image.row[hit] + 1, image.column[hit]], lattice[image.row[hit], image.column[hit] + 1])
    gap = np.where(np.isfinite(behind), behind - depth, 0.06 * shape.size * rng.random(len(p)))
    stray = (gap > 0.02 * shape.size) & (rng.random(len(p)) < rng.uniform(0.1, 0.4))
    error = np.where(stray, gap * rng.uniform(0.1, 0.9, len(p)), error)

    patchy = Ripple(rng, 0.15 * shape.size)(p) > rng.uniform(0.9, 1.3)
    keep = ~patchy & (rng.random(len(p)) < np.clip((cos - 0.1) / 0.25, 0, 1))
    return Capture(p, n, error[:, None] * image.rays[hit], stray).take(keep)


SEVERAL = "multiview"  # one_sided from 2-4 sides
SENSORS: dict[str, Sensor] = {
    "uniform": uniform, "one_sided": one_sided, "lines": lines, "structured": structured, SEVERAL: one_sided, "cmm": cmm,
}  # fmt: skip
SIDED = ("one_sided", "lines", "structured", SEVERAL)


def several(sensor: Sensor, shape: Shape, rng: np.random.Generator, count: int, sigma: float, views: Array) -> Capture:
    """Captures from several views [V, 3], each a little out of place (about `sigma`), merged."""
    captures = []
    for view in views:
        one = sensor(shape, rng, max(count // len(views), 1), sigma, view)
        if len(views) > 1:
            shift, tilt = 0.7 * sigma * rng.normal(size=3), sigma / shape.size * rng.normal(size=3)
            one = Capture(one.points, one.normals, one.error + shift + np.cross(tilt, one.points), one.stray)
        captures.append(one)
    return merge(captures)
