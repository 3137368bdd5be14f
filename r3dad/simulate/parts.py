"""Parametric manufactured parts as signed distance fields, made by the package itself.

`part(family, seed)` draws the proportions of one design; scans of it (`r3dad.simulate.scan`) are instances of that
design. Families are written in a cube of about -1..1 and scaled to a bounding-box diagonal of 40-400 mm.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from r3dad.errors import InputError
from r3dad.simulate.families import MAKERS, THIN
from r3dad.simulate.sdf import Array, Shape, find_cells, grid, unit

FAMILIES: tuple[str, ...] = tuple(MAKERS)
THIN_WALLED: tuple[str, ...] = tuple(THIN)

CELL = 0.0215  # side of the cubes that hold the surface, in the families' own unit
COARSE = 2  # they are found by halving a grid of larger cubes this often


def stream(*key: object) -> np.random.Generator:
    """Independent random stream of a key of strings and integers."""
    words = [zlib.crc32(str(k).encode()) for k in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


@dataclass(frozen=True)
class Part:
    """One design: family and seed that made it, its nominal shape (mm, centred on 0) and diagonal of its box (mm)."""

    family: str
    seed: int
    shape: Shape
    low: Array
    high: Array

    @property
    def diagonal(self) -> float:
        return float(np.linalg.norm(self.high - self.low))

    def sdf(self, points: Array) -> Array:
        """Signed distance [N] of points [N, 3] to the nominal surface (mm, negative inside)."""
        return self.shape.field(points)

    @cached_property
    def cloud(self) -> tuple[Array, Array]:
        """6000 points of the nominal surface and their normals."""
        return self.shape.sample(stream("cloud", self.family, self.seed), 6000)

    @cached_property
    def exposed(self) -> NDArray[np.intp]:
        """Indices into `cloud` of some hundred points that are seen from a good part of all directions."""
        p, n = self.cloud[0][:500], self.cloud[1][:500]
        ways = unit(np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)[np.r_[0:13:2, 14:27:2]] + 0.05)
        seen = np.zeros(len(p))
        for way in ways:
            seen += self.shape.visible(p, n, way)
        return np.flatnonzero(seen >= min(3, np.quantile(seen, 0.8)))


def part(family: str, seed: int) -> Part:
    """The design number `seed` of a family (one of `FAMILIES`); raises InputError for an unknown family."""
    if family not in MAKERS:
        raise InputError(f"part family {family!r}: expected one of {', '.join(FAMILIES)}")
    rng = stream("part", family, seed)
    solid = MAKERS[family](rng)

    def field(p: Array) -> Array:
        return solid(*np.ascontiguousarray(p.T))

    edge = CELL * 2**COARSE
    count = int(np.ceil(3 / edge))
    cells, cell = find_cells(field, grid(np.full(3, -1.5), np.full(3, count), edge), edge, COARSE)
    surface, _ = Shape(field, cells, cell, 2.0).sample(rng, 3000)
    low, high = surface.min(0), surface.max(0)
    scale = float(np.exp(rng.uniform(np.log(40), np.log(400)))) / float(np.linalg.norm(high - low))
    middle = 0.5 * (low + high)

    def scaled(p: Array) -> Array:
        return scale * field(p / scale + middle)

    diagonal = scale * float(np.linalg.norm(high - low))
    shape = Shape(scaled, (cells - middle) * scale, cell * scale, diagonal)
    return Part(family, seed, shape, (low - middle) * scale, (high - middle) * scale)
