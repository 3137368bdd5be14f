"""Defects on the geometry of a part: changes of its signed distance field.

A defect bends space (dents, bent portions), adds or takes material (blobs, burrs, grooves, cracks, pits) or leaves a
patch of the surface unseen. Depths are given in mm; other lengths follow from the diagonal of the part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from r3dad.simulate.flaws import added, bent, taken, texture
from r3dad.simulate.flaws.base import MARGIN, Defect
from r3dad.simulate.parts import COARSE, Part
from r3dad.simulate.sdf import Array, Shape, find_cells, grid

RIM = 0.012  # points this near to missing surface are its rim (share of the diagonal)
LOST = 0.006  # nominal surface further than this from the defective part is missing (share of the diagonal)

_KINDS: dict[str, Callable[[Part, float, np.random.Generator], Defect]] = {
    "bump": partial(bent.press, sign=1),
    "dent": partial(bent.press, sign=-1),
    "scratch": partial(taken.groove, crack=False),
    "crack": partial(taken.groove, crack=True),
    "hole": texture.hole,
    "chip": taken.chip,
    "break": taken.break_off,
    "burr": partial(added.fin, flash=False),
    "flash": partial(added.fin, flash=True),
    "bend": bent.bend,
    "warp": bent.warp,
    "wear": taken.wear,
    "pits": taken.pits,
    "spatter": added.spatter,
    "blob": added.blob,
    "bead": added.bead,
    "chatter": partial(texture.texture, chatter=True),
    "rough": partial(texture.texture, chatter=False),
}
DEFECTS: tuple[str, ...] = tuple(_KINDS)


def defect(part: Part, kind: str, depth: float, rng: np.random.Generator) -> Defect:
    """A random defect of a kind (one of `DEFECTS`), about `depth` mm deep or high (thin walls limit it)."""
    return _KINDS[kind](part, depth, rng)


def flawed(part: Part, flaw: Defect) -> Shape:
    """The part's shape with the defect."""
    margin = MARGIN * part.diagonal

    def field(p: Array) -> Array:
        away = np.linalg.norm(p - flaw.centre, axis=1) - flaw.reach
        near = away < 0
        q = p
        if flaw.source is not None:
            q = p.copy()
            q[near] = flaw.source(p[near])
        d = part.sdf(q)
        if flaw.change is not None:
            d[near] = flaw.change(p[near], d[near])
        # Outside its reach the defect's own surface may be nearer than the part's: step no further than up to it.
        return np.where(near, d, np.minimum(d, away + margin))

    # New cubes, on the lattice of the part's own, in a box around the defect.
    nominal, bound = part.shape, 0.1 * part.diagonal
    edge, base = nominal.cell * 2**COARSE, nominal.cells[0] - 0.5 * nominal.cell
    low = base + edge * np.floor((np.maximum(flaw.centre - flaw.reach, part.low - bound) - base) / edge)
    counts = np.ceil((np.minimum(flaw.centre + flaw.reach, part.high + bound) - low) / edge).astype(int)
    inside = (np.abs(nominal.cells - low - 0.5 * edge * counts) < 0.5 * edge * counts).all(1)
    cells, cell = find_cells(field, grid(low, counts, edge), edge, COARSE)
    return Shape(field, np.concatenate([nominal.cells[~inside], cells]), cell, nominal.size)


def displacement(part: Part, flaw: Defect, p: Array) -> Array:
    """How far [N] the defect moved the surface at points p [N, 3] of it, along the normal (mm; + material, - missing).

    The distance to the nominal surface; or, where space was bent and that is more, the way of the point along its
    nominal normal (a thin wall dented by its own thickness still lies near the wall's other side).
    """
    depth = np.zeros(len(p))
    near = np.flatnonzero(np.linalg.norm(p - flaw.centre, axis=1) < flaw.reach)
    depth[near] = part.sdf(p[near])
    if flaw.source is not None:
        q = flaw.source(p[near])
        way = ((p[near] - q) * part.shape.normals(q)).sum(1)
        depth[near] = np.where(np.abs(way) > np.abs(depth[near]), way, depth[near])
    return depth


def lost(part: Part, flaw: Defect, shape: Shape, rng: np.random.Generator) -> Array:
    """Points [K, 3] of the nominal surface that are gone with the material; `shape` is the part with the defect."""
    nominal = part.shape
    cells = nominal.cells[np.linalg.norm(nominal.cells - flaw.centre, axis=1) < flaw.reach]
    if not flaw.cuts or not len(cells):
        return np.zeros((0, 3))
    count = 100 + 30_000 * len(cells) // len(nominal.cells)
    p, _ = replace(nominal, cells=cells).sample(rng, count)
    return p[shape.field(p) > LOST * part.diagonal]
