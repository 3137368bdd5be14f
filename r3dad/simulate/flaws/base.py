"""A defect as a change of a part's signed distance field, and where on a part defects can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r3dad.simulate.parts import Part
from r3dad.simulate.sdf import Array, unit

MARGIN = 0.03  # what a defect adds stays this far inside its reach (share of the diagonal)


@dataclass(frozen=True)
class Defect:
    """A change of a part's surface; nothing changes further than `reach` (mm) from `centre` [3].

    depth: how far the surface moves at most (mm); spot, normal [3]: where it can be seen, and the surface's normal there;
    source: points [N, 3] of the defective part to where they were; change: (points, distance) -> distance;
    missing: (points, normals) -> distance (mm) to the rim of a missing patch, negative in it;
    cuts: surface is gone with the material (what is left of a thin wall beside it has not moved).
    """

    kind: str
    depth: float
    spot: Array
    normal: Array
    centre: Array
    reach: float
    source: Callable[[Array], Array] | None = None
    change: Callable[[Array, Array], Array] | None = None
    missing: Callable[[Array, Array], Array] | None = None
    cuts: bool = False


def frame(n: Array) -> tuple[Array, Array]:
    """Two unit vectors that span the plane with normal n."""
    a = unit(np.cross(n, np.eye(3)[np.argmin(np.abs(n))]))
    return a, np.cross(n, a)


def exposed_spot(part: Part, rng: np.random.Generator) -> tuple[Array, Array]:
    """A random exposed surface point and its normal."""
    i = int(rng.choice(part.exposed))
    return part.cloud[0][i], part.cloud[1][i]


def edge_spot(part: Part, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """An exposed point near a convex edge (the sharpest of a few), its normal and the mean normal around it."""
    p, n = part.cloud
    picks = rng.choice(part.exposed, size=min(10, len(part.exposed)), replace=False)
    best, found = 2.0, (p[picks[0]], n[picks[0]], n[picks[0]])
    for i in picks:
        v = p - p[i]
        near = (v * v).sum(1) < (0.035 * part.diagonal) ** 2
        # On a convex edge the neighbours lie below the plane; a thin wall's far side is no neighbour.
        near &= (n @ n[i] > -0.5) & (v @ n[i] < 0.004 * part.diagonal)
        mean = n[near].mean(0)
        if np.linalg.norm(mean) < best:
            best, found = float(np.linalg.norm(mean)), (p[i], n[i], unit(mean))
    return found


def thickness(part: Part, p: Array, n: Array) -> float:
    """Thickness (mm) of the material under surface point p with normal n."""
    t, step = 0.0, 0.002 * part.diagonal
    while t < 0.4 * part.diagonal:
        d = float(part.sdf((p - (t + step) * n)[None])[0])
        if d > -1e-4 * part.diagonal:
            break
        t += max(-d, step)
    return t + step


def tip_of(part: Part, share: float, rng: np.random.Generator) -> tuple[Array, float, Array]:
    """A plane that cuts a protruding `share` of the surface off: its direction u, offset (mm), the points beyond it."""
    p = part.cloud[0]
    ways = unit(rng.normal(size=(24, 3)))
    s = p @ ways.T
    offset = np.quantile(s, 1 - share, axis=0)
    k = int(rng.choice(np.argsort(s.max(0) - offset)[-8:]))
    return ways[k], float(offset[k]), p[s[:, k] > offset[k]]


def walk(part: Part, rng: np.random.Generator, length: float, wander: float, over_edges: bool) -> tuple[Array, Array]:
    """A line along the surface from an exposed point both ways: points [K, 3] and normals, 0.25 % of the diagonal apart.

    wander: random turns per step (rad); a smooth curl is drawn besides. Without `over_edges` it ends where the normal turns.
    """
    c, m = exposed_spot(part, rng)
    step = 0.01 * part.diagonal
    a, b = frame(m)
    heading, curl = rng.uniform(0, 2 * np.pi), rng.choice([0, 1]) * rng.normal() * 0.05
    halves = []
    for way in (1, -1):
        p, n, t = c, m, way * (np.cos(heading) * a + np.sin(heading) * b)
        line = []
        for _ in range(int(length / 2 / step)):
            t = unit(t - (t @ n) * n + (wander * rng.normal() + way * curl) * np.cross(n, t))
            q = (p + step * t)[None]
            for _ in range(2):
                g = part.shape.normals(q)
                q = q - part.sdf(q)[:, None] * g
            if np.linalg.norm(q[0] - p) > 1.8 * step or (not over_edges and g[0] @ n < 0.8):
                break
            p, n = q[0], g[0]
            line.append((p, n))
        halves.append(line)
    line = halves[1][::-1] + [(c, m)] + halves[0]
    p, n = (np.array(v) for v in zip(*line, strict=True))
    at = np.linspace(0, len(p) - 1, 4 * len(p) - 3)
    fine = [np.stack([np.interp(at, np.arange(len(p)), v[:, k]) for k in range(3)], 1) for v in (p, n)]
    return fine[0], unit(fine[1])


def along(
    p: Array, line: Array, normals: Array, bound: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], Array, Array]:
    """Points nearer than `bound` to the line: their indices, nearest line points, height above it, distance beside it."""
    from scipy.spatial import cKDTree

    d, j = cKDTree(line).query(p, distance_upper_bound=bound)
    i = np.flatnonzero(np.isfinite(d))
    j = j[i]
    height = ((p[i] - line[j]) * normals[j]).sum(1)
    return i, j, height, np.sqrt(np.maximum(d[i] ** 2 - height**2, 0))


def ball_around(points: Array, extra: float) -> tuple[Array, float]:
    """A ball around points, larger by `extra`."""
    centre = 0.5 * (points.min(0) + points.max(0))
    return centre, float(np.linalg.norm(points - centre, axis=1).max() + extra)


def places_near(
    part: Part, c: Array, n: Array, radius: float, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Up to `count` surface points within `radius` of a point that face as it does, and their normals."""
    p, normals = part.cloud
    near = np.flatnonzero((((p - c) ** 2).sum(1) < radius**2) & (normals @ n > 0.2))
    picks = rng.choice(near, size=min(count, len(near)), replace=False)
    return np.concatenate([c[None], p[picks]])[:count], np.concatenate([n[None], normals[picks]])[:count]
