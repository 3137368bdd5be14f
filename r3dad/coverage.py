"""What a scan should have seen of a surface, and did not: missing material leaves no point to score.

Lengths are shares of the part's diagonal. Everything is linear in the number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r3dad.neighbours import Neighbours, facing
from r3dad.surface import Surface

ALIKE = 0.05
"""Views whose surface a scan covers this much less than the best-covered view's (a share) may be the sensor's too."""
SHOWN = 0.2
"""The sensor's views show nearly all that the scan covers: one that shows this much less of it than the best of them is none."""
LARGEST = 0.05
"""A hole is at most this share of the surface; what is not covered and larger is the side away from the sensor."""
HIDDEN, DOUBT = 0.1, 0.5
"""Where less than this share of a place not covered is expected, it is the side away from the sensor: what is counts half."""
BEHIND = (4, 24)
"""Nearest points of a scan among which one on the same side of a thin wall is looked for; where all are on the other, among more."""
EVERYWHERE = 0.9
"""A scan that covers this share of what no view shows for sure (walls of pockets, gaps between fins) was taken from everywhere."""


@dataclass
class Gaps:
    """How empty a scan leaves a surface; arrays have one entry per surface point."""

    empty: np.ndarray  #: distance to the scan, in spacings of the scan there; 0 where the sensor could not look, less where it may not have
    wide: np.ndarray  #: mean of it over the neighbours
    expected: np.ndarray  #: how surely the scan should have seen the point: float32, 0 to 1
    typical: float  #: what 95 % of the covered surface stay below in ``wide``: a large hole does not hide behind its own share
    complete: float  #: share of the surface that can be seen which the scan covers


def gaps(surface: Surface, scan: Neighbours, spacing: np.ndarray, normals: np.ndarray) -> Gaps:
    """Gaps of a scan.

    ``scan``: its points; ``spacing [N]``: its local spacing; ``normals [N, 3]``: of the surface at its points. Points
    on the other side of a thin wall do not cover this one.
    """
    least, i, found = _beside(surface.normals, normals, *scan(surface.find, BEHIND[0]))
    if len(lost := np.flatnonzero(~found)):
        least[lost], i[lost], _ = _beside(surface.normals[lost], normals, *scan(surface.points[lost], BEHIND[1]))
    empty = np.minimum(least, 0.15) / spacing[i]
    # A scan covers a fifth of the surface at least.
    covered = empty < 1.5 * max(1.0, 2 * float(np.quantile(empty, 0.2)))
    seen = expected(surface, covered)
    empty = (empty * seen).astype(np.float32)
    wide = empty.take(surface.near.T).mean(0)
    usual = wide[covered & (seen > 0)]
    typical = float(np.quantile(usual, 0.95)) if len(usual) else 1.0
    return Gaps(empty, wide, seen, typical, float(covered[surface.sure].mean()))


def _beside(
    own: np.ndarray, normals: np.ndarray, distance: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of neighbours ``j [S, k]`` the nearest whose normal can be of the same side as ``own [S, 3]``: distance, index, whether there is one.

    Else the last one, which bounds the distance.
    """
    same = facing(normals[j], own[:, None])
    found = np.asarray(same.any(1))
    same[:, -1] = True
    first = same.argmax(1)[:, None]
    return np.take_along_axis(distance, first, 1)[:, 0], np.take_along_axis(j, first, 1)[:, 0], found


def expected(surface: Surface, covered: np.ndarray) -> np.ndarray:
    """How surely a scan should have seen each surface point ``[S]`` (float32, 0 to 1), given those it did (``covered [S]``, bool).

    The views whose surface the scan covers about as well as any view's, holes counted as covered, and that show most of what it covers,
    are taken as the sensor's; a point is expected where such a view and nearly all views next to it see it, and its surroundings too.
    From a scan taken from everywhere the whole surface is expected.
    """
    place = _places(surface, covered)
    bare = place >= 0
    size = np.bincount(place[bare], minlength=1)
    filled = covered.copy()
    filled[bare] = size[place[bare]] < LARGEST * len(covered)
    total = np.bitwise_count(surface.seen_bits).sum(1, dtype=np.int64)
    share = _seen(surface, filled) / np.maximum(total, 1)
    share[total < 0.02 * total.max()] = 0
    shown = _seen(surface, covered) / max(int(covered.sum()), 1)
    alike = share > share.max() - ALIKE
    alike &= shown > shown[alike].max() - SHOWN
    bits = np.bitwise_or.reduce(surface.sure_bits[alike], 0)
    found = np.unpackbits(bits, count=len(covered)).astype(bool)
    for _ in range(2):
        found = found & (found.take(surface.near.T).sum(0, dtype=np.uint8) > 0.9 * surface.near.shape[1])
    unsure = covered[~found]
    if len(unsure) == 0 or unsure.mean() > EVERYWHERE:
        return np.ones(len(covered), np.float32)
    sure = found.astype(np.float32)
    inside = np.bincount(place[bare], found[bare], len(size)) / np.maximum(size, 1)
    sure[bare] *= np.where(inside < HIDDEN, DOUBT, 1)[place[bare]]
    return sure


def _seen(surface: Surface, chosen: np.ndarray) -> np.ndarray:
    """How many of the ``chosen`` points ``[S]`` (bool) each view sees ``[VIEWS]``."""
    return np.bitwise_count(surface.seen_bits & np.packbits(chosen)).sum(1, dtype=np.int64)


def _places(surface: Surface, covered: np.ndarray) -> np.ndarray:
    """Number of the connected place that each surface point not covered belongs to ``[S]``; -1 for those covered."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    bare = np.flatnonzero(~covered)
    place = np.full(len(covered), -1)
    place[bare] = np.arange(len(bare))
    near = surface.near[bare, 1:7]
    row, column = np.nonzero(place[near] >= 0)
    links = coo_matrix((np.ones(len(row), bool), (row, place[near[row, column]])), (len(bare), len(bare)))
    place[bare] = connected_components(links, directed=False)[1]
    return place
