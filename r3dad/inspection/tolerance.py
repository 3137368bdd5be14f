"""Tolerances that a person gives: for the whole part, and for places named by a box or a painted cloud."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r3dad.errors import InputError

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
BESIDE = 0.02
"""Share of the part's diagonal from which on a painted cloud does not lie on the part."""
COLOURED = 40
"""A painted point's red, green and blue differ by more than this; grey and white points are not painted."""


def parse_limits(text: str) -> tuple[float, float]:
    """``+0.2,-0.1`` or ``0.2`` (both ways) -> (lowest, highest) allowed deviation in mm.

    Raises:
        InputError: it is something else, or the two are not one above and one below 0.
    """
    numbers = text.replace(" ", "").split(",")
    if not 1 <= len(numbers) <= 2 or not all(re.fullmatch(_NUMBER, n) for n in numbers):
        raise InputError(f"tolerance {text!r}: expected two numbers in mm as +0.2,-0.1, or one for both ways as 0.2")
    values = [float(n) for n in numbers]
    if len(values) == 1:  # a lone negative one is a limit whose fellow was forgotten
        values.append(-values[0] if values[0] > 0 else values[0])
    low, high = min(values), max(values)
    if not low < 0 < high:
        raise InputError(
            f"tolerance {text!r}: expected one limit above 0 and one below, with decimal points, as +0.2,-0.1 or 0.2"
        )
    return low, high


@dataclass(frozen=True)
class Region:
    """A place of the part with limits of its own: inside ``box [2, 3]`` (mm), or where ``painted [P, 3]`` is nearer than ``plain [Q, 3]``.

    Both in the frame of the part, which is that of the first good scan. text: what was given.
    """

    limits: tuple[float, float]
    box: np.ndarray | None = None
    painted: np.ndarray | None = None
    plain: np.ndarray | None = None
    text: str = "region"

    def check(self, part: np.ndarray) -> None:
        """Whether it lies on the part with the points ``[N, 3]`` (mm).

        Raises:
            InputError: a box without a point of the part, or a cloud that is not the part in its frame.
        """
        from r3dad.neighbours import Neighbours

        low, high = part.min(0), part.max(0)
        lies, wanted = bool(self.holds(part).any()), "a box"
        if self.painted is not None and self.plain is not None:
            cloud, wanted = np.concatenate([self.painted, self.plain]), "a cloud of the whole part"
            apart = max(np.median(Neighbours(a)(b)[0]) for a, b in ((part, self.painted), (cloud, part)))
            lies = apart < BESIDE * np.linalg.norm(high - low)
        if not lies:
            spans = ", ".join(f"{a} {b:.1f} to {c:.1f}" for a, b, c in zip("xyz", low, high, strict=True))
            raise InputError(
                f"region {self.text!r}: does not lie on the part; expected {wanted} in mm, in the frame of the first good scan ({spans})"
            )

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Which of the points ``[N, 3]`` (mm, part's frame) lie in it: bool ``[N]``."""
        if self.box is not None:
            return np.asarray(((points >= self.box[0]) & (points <= self.box[1])).all(1))
        assert self.painted is not None and self.plain is not None
        from r3dad.neighbours import Neighbours

        near = Neighbours(self.painted)(points)[0]
        return near < Neighbours(self.plain)(points)[0] if len(self.plain) else np.ones(len(points), bool)


@dataclass(frozen=True)
class Tolerance:
    """Limits of the deviation in mm: ``limits`` everywhere (None: the learned ones), ``regions`` over them, the last one wins.

    ``coverage``: a scan that shows less than this share of the part is not OK.
    """

    limits: tuple[float, float] | None = None
    regions: tuple[Region, ...] = field(default=())
    coverage: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is given."""
        return bool(self.limits or self.regions or self.coverage)

    @classmethod
    def parse(cls, limits: str | None, regions: list[str] | None = None, coverage: float = 0.0) -> Tolerance:
        """From the command line: ``+0.2,-0.1``, and regions ``x0,y0,z0,x1,y1,z1:+0.1,-0.1`` or ``painted.ply:+0.1,-0.1``.

        Raises:
            InputError: a text of another form, a file that is no painted PLY, or a coverage that is no share.
        """
        if not 0 <= coverage <= 1:
            raise InputError(f"coverage {coverage:g}: expected a share of the part's surface, 0 to 1, as 0.9")
        whole = parse_limits(limits) if limits else None
        return cls(whole, tuple(parse_region(text) for text in regions or []), coverage)

    def of(self, points: np.ndarray) -> np.ndarray:
        """Limits ``[N, 2]`` (lowest, highest) at points ``[N, 3]`` of the part's frame (mm); NaN where none were given."""
        out = np.full((len(points), 2), np.nan)
        if self.limits:
            out[:] = self.limits
        for region in self.regions:
            out[region.holds(points)] = region.limits
        return out

    def to_text(self) -> str:
        """For the report's settings."""
        said = [f"{self.limits[1]:+g}, {self.limits[0]:+g} mm"] if self.limits else ["learned"]
        for region in self.regions:
            place = "box" if region.box is not None else "painted place"
            said.append(f"{place}: {region.limits[1]:+g}, {region.limits[0]:+g} mm")
        if self.coverage:
            said.append(f"at least {self.coverage:.0%} of the part to be seen")
        return "; ".join(said)


def parse_region(text: str) -> Region:
    """``BOX:LIMITS`` or ``PAINTED.ply:LIMITS``.

    Raises:
        InputError: as `Tolerance.parse`.
    """
    place, colon, limits = text.rpartition(":")
    if not colon:
        raise InputError(f"region {text!r}: expected x0,y0,z0,x1,y1,z1:+0.1,-0.1 or painted.ply:+0.1,-0.1")
    allowed = parse_limits(limits)
    numbers = place.replace(" ", "").split(",")
    if len(numbers) == 6 and all(re.fullmatch(_NUMBER, n) for n in numbers):
        corners = np.array([float(n) for n in numbers]).reshape(2, 3)
        return Region(allowed, box=np.sort(corners, axis=0), text=text)
    if Path(place).suffix.lower() == ".ply":
        return Region(allowed, None, *_painted(Path(place)), text=text)
    raise InputError(f"region {text!r}: expected six numbers in mm or a .ply file before the colon")


def _painted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Painted and plain points of a PLY."""
    from r3dad.scans import read_scan

    points = read_scan(path).points  # checks the file, and says what is wrong with it
    import trimesh

    loaded = trimesh.load(path, process=False)
    visual = getattr(loaded, "visual", None)
    colours = getattr(visual, "vertex_colors", None) if getattr(visual, "kind", None) == "vertex" else None
    if colours is None:
        colours = getattr(loaded, "colors", None)
    if colours is None or len(colours) != len(points):
        raise InputError(f"{path}: expected a PLY with a colour per point; paint the place and save colours with it")
    rgb = np.asarray(colours)[:, :3].astype(int)
    painted = np.ptp(rgb, axis=1) > COLOURED
    if not painted.any():
        raise InputError(f"{path}: no painted point; paint the place in a colour (grey and white do not count)")
    return points[painted], points[~painted]
