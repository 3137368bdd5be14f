"""A scan in memory, and the checks every scan passes whatever it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r3dad.errors import InputError

#: Coordinates beyond this are no lengths of a part; their squares would overflow float32.
LARGEST_COORDINATE = 1e15


class Unreadable(Exception):
    """Why a file or object is no scan, and the remedy. Internal: callers put the name of the file before it."""


@dataclass(frozen=True)
class Scan:
    """One scan of a part.

    points: [M, 3] float64, in the file's own units and frame (mm unless told), finite, in the file's order
    name: the file's stem, or a name given by the caller
    path: the file, if there is one
    dropped: points with NaN or inf that were left out
    sampled: the points were drawn from the faces of a mesh
    """

    points: np.ndarray
    name: str
    path: Path | None = None
    dropped: int = 0
    sampled: bool = False


@dataclass(frozen=True)
class Raw:
    """What a format's reader hands over: points [M, 3] as they stand in the file, NaN and inf included."""

    points: np.ndarray
    sampled: bool = False


def checked(raw: Raw, name: str, path: Path | None) -> Scan:
    """Scan of the finite points.

    Raises Unreadable: not [M, 3] numbers, no finite point, or coordinates beyond LARGEST_COORDINATE.
    """
    points = np.asarray(raw.points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise Unreadable(f"expected points of shape [M, 3], found {list(points.shape)}; keep the columns x, y, z only")
    if points.dtype.kind not in "fiu":
        raise Unreadable(f"expected numbers, found values of type {points.dtype}; convert them to float64")
    points = np.array(points, dtype=np.float64, order="C")
    finite = np.isfinite(points).all(axis=1)
    dropped = len(points) - int(finite.sum())
    if dropped:
        points = points[finite]
    if not len(points):
        why = f"all {dropped} points have NaN or inf" if dropped else "there are no points"
        raise Unreadable(f"{why}; expected at least one point with finite x, y, z; export the scan again")
    largest = float(np.abs(points).max())
    if largest > LARGEST_COORDINATE:
        raise Unreadable(f"coordinates up to {largest:.3g} are no lengths of a part; check the export and its units")
    return Scan(points, name, path, dropped, raw.sampled)


#: Least extent across a scan's longest direction, as a share of the extent along it.
NARROWEST = 1e-4


def check_spread(points: np.ndarray) -> None:
    """Raises InputError: the points [M, 3] lie on one line or in one place, so no surface goes through them."""
    away = points - points.mean(0)
    variance = np.linalg.eigvalsh(away.T @ away)
    if variance[1] <= NARROWEST**2 * variance[2]:
        raise InputError(
            "its points lie on one line or on top of each other: expected points spread over a surface; export it again"
        )


#: A point of a packed file that takes more bytes in memory counts as several in `check_most`.
WIDEST_POINT = 256


def check_most(points: int, most: int) -> None:
    """Raises Unreadable: more points than the caller wants in memory."""
    if points > most:
        raise Unreadable(f"expected at most {most:,} points, found {points:,}; thin the scan and export it again")
