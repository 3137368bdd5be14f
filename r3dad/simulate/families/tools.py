"""What the families of parts are written with: their register, thin walls, places for holes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from r3dad.simulate.sdf import Array, disc

Solid = Callable[[Array, Array, Array], Array]  # coordinates x, y, z [N] of a cube of about -1..1 to distances [N]
Family = Callable[[np.random.Generator], Solid]  # draws the proportions of one design

MAKERS: dict[str, Family] = {}
THIN: list[str] = []  # families with walls of 0.8-2 % of the diagonal


def family(thin: bool = False) -> Callable[[Family], Family]:
    """Register a family under the name of its function."""

    def register(make: Family) -> Family:
        MAKERS[make.__name__] = make
        if thin:
            THIN.append(make.__name__)
        return make

    return register


def half_wall(rng: np.random.Generator, *extents: float) -> float:
    """Half of a thin wall: 0.8-2 % of the diagonal of a box with these half sides."""
    return float(rng.uniform(0.008, 0.02) * np.linalg.norm(extents))


def spread(rng: np.random.Generator, count: int, a: float, b: float, gap: float) -> Array:
    """Up to `count` places [K, 2] in the rectangle of half sides a, b, at least `gap` apart."""
    found: list[Array] = []
    for place in rng.uniform(-1, 1, (12 * count, 2)) * (max(a, 0.01), max(b, 0.01)):
        if len(found) < count and all(np.linalg.norm(place - other) > gap for other in found):
            found.append(place)
    return np.array(found)


def discs(x: Array, y: Array, places: Array, radii: Array) -> Array:
    """Distance to the nearest of several discs."""
    d = np.full(len(x), np.inf)
    for (u, v), r in zip(places, radii, strict=True):
        d = np.minimum(d, disc(x - u, y - v, r))
    return d
