"""One scan's result as the report takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r3dad.errors import InputError

WORST_FIRST = ("defective", "NG", "REVIEW", "NOT THIS PART", "UNREADABLE", None, "good", "OK")
"""Verdicts; None: there is none."""


@dataclass(frozen=True)
class ReportItem:
    """Result of one scan. M may be 0 (a scan without a result, explained by `note`).

    points [M, 3] float64 in the scan's own units and frame; point_scores [M] float, higher is worse; score of the
    whole scan; is_defective None where the model has no threshold. displacement [M, 3] leads from the scan to its
    good shape (reconstruction = points + displacement); deviation [M] is signed along the normal in the report's unit
    (+ material, - missing). label and labels [M] bool are the truth where it is known. note is one line for people;
    seconds the time the scan took.

    Of an inspection also: verdict in its own words; threshold of the scan's score; alignment in words; limits [M, 2], the
    allowed deviation of each point, and band, the limits that the colours show; defects, each a mapping with the fields of
    `r3dad.inspection.Defect` as JSON; las: write a LAS beside the PLY. listed: False for a scan that the report counts and
    nothing more.

    Raises InputError where shapes do not fit each other or values are not finite (score may be NaN where M is 0).
    """

    name: str
    points: np.ndarray
    point_scores: np.ndarray
    score: float
    is_defective: bool | None
    displacement: np.ndarray | None = None
    deviation: np.ndarray | None = None
    label: bool | None = None
    labels: np.ndarray | None = None
    note: str = ""
    seconds: float | None = None
    verdict: str | None = None
    threshold: float | None = None
    alignment: str = ""
    limits: np.ndarray | None = None
    band: tuple[float, float] | None = None
    defects: Sequence[Mapping[str, Any]] = ()
    las: bool = False
    listed: bool = True

    @property
    def words(self) -> str | None:
        """The verdict as the page shows it."""
        return self.verdict or (None if self.is_defective is None else "defective" if self.is_defective else "good")

    @property
    def truth(self) -> str | None:
        """The label as the page shows it."""
        return None if self.label is None else "defective" if self.label else "good"

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts the worst scans first: by verdict, then by score."""
        return WORST_FIRST.index(self.words), -self.score if math.isfinite(self.score) else 0.0

    def __post_init__(self) -> None:
        count = len(self.points)
        shapes = {
            "points": (count, 3),
            "point_scores": (count,),
            "displacement": (count, 3),
            "deviation": (count,),
            "labels": (count,),
            "limits": (count, 2),
        }
        for field, shape in shapes.items():
            values = getattr(self, field)
            if values is None:
                continue
            if np.shape(values) != shape:
                raise InputError(f"{self.name}: {field} must have shape {list(shape)}, found {list(np.shape(values))}")
            if field != "limits" and not np.isfinite(values).all():
                raise InputError(f"{self.name}: {field} must be finite; drop such points before scoring")
