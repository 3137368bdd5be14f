"""What an inspection says of one scan: verdict, how it lies, its defects, and the maps. Lengths in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

SCHEMA = "r3dad.inspection/1"
"""Of `Inspection.to_json`; raised when a reader of the older one could misread it."""
Verdict = Literal["OK", "NG", "REVIEW", "NOT THIS PART", "UNREADABLE"]
VERDICTS: tuple[Verdict, ...] = ("NG", "REVIEW", "NOT THIS PART", "UNREADABLE", "OK")
Kind = Literal["bump", "dent", "scratch", "missing", "broken edge", "bent"]


@dataclass(frozen=True)
class Alignment:
    """How the scan lies on the part (`r3dad.align.Pose`).

    Attributes:
        rms_mm: root mean square of the distances to the surface, each capped at 2 % of the part's diagonal. overlap: share of the scan
            within 1 % of the diagonal of the surface. coverage: share of the part's surface (what some view shows for sure) that the scan
            shows. margin: how much worse the best pose of another kind fits; inf if there is none.
        matrix: [4, 4] float64, from the scan's frame to the part's.
    """

    rms_mm: float
    overlap: float
    coverage: float
    margin: float
    matrix: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain values; a margin of inf is None."""
        return {
            "rms_mm": self.rms_mm,
            "overlap": self.overlap,
            "coverage": self.coverage,
            "margin": _finite(self.margin),
            "matrix": self.matrix.tolist(),
        }


@dataclass(frozen=True)
class Defect:
    """One connected region. docs/inspect.md says how each figure is taken.

    Attributes:
        id: 1 for the worst. kind: a guess from the shape. centre_scan, centre_part: [3] in the scan's and the part's frame. extent_mm: [3]
            size along the region's own axes, longest first. area_mm2: of the part's surface, missing surface included. depth_mm: signed,
            + material, - missing; None where nothing was measured (a hole). volume_mm3: signed; None as the depth. score: mean of the five
            highest point scores, 0..1; for a region of missing surface alone 1. tolerance_mm: learned tolerance at the place.
        share_of_tolerance: abs(depth_mm) / tolerance_mm, or None. outside_limits: leaves the limits that the user gave.
        points: number of (scored) points; 0 for missing surface alone. marker: [3] a point on the surface;
            normal: [3] out of the material there; both in the scan's frame.
    """

    id: int
    kind: Kind
    centre_scan: np.ndarray
    centre_part: np.ndarray
    extent_mm: np.ndarray
    area_mm2: float
    depth_mm: float | None
    volume_mm3: float | None
    score: float
    tolerance_mm: float
    share_of_tolerance: float | None
    outside_limits: bool
    points: int
    marker: np.ndarray
    normal: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Inspection:
    """Of a scan of M points, in the scan's own units (mm) and frame.

    Attributes:
        verdict: OK; NG; REVIEW: the score lies so near the threshold, or another pose fits so well, that a person should look;
            NOT THIS PART: the scan does not fit, so there is no score; UNREADABLE: there is no scan (``note`` says why).
        score: of the scan, NaN without one. threshold: scores above it are alarms. review: scores between these two are REVIEW.
        false_alarm_rate: of good scans at the threshold, as calibrated.
        alignment: None for a recipe without a pose. defects: worst first.
        points: [M, 3]. point_scores: [M] float32, 0..1. deviation: [M] signed, + material, - missing; zeros for a recipe without.
        displacement: [M, 3] from each point to its good place. limits: [M, 2] lowest and highest allowed deviation at the point: the
            user's where given, else the learned tolerance.
        missing: [Q, 3] places of the part that the scan should show and does not, in the scan's frame.
        note: one line for people, or empty. seconds: from file or array to the result. source: the scan's file.
    """

    name: str
    verdict: Verdict
    score: float
    threshold: float
    review: tuple[float, float]
    false_alarm_rate: float
    alignment: Alignment | None
    defects: list[Defect]
    points: np.ndarray
    point_scores: np.ndarray
    deviation: np.ndarray
    displacement: np.ndarray
    limits: np.ndarray
    missing: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    note: str = ""
    seconds: float = 0.0
    source: Path | None = None

    @classmethod
    def unreadable(cls, name: str, note: str, *, source: Path | None = None, seconds: float = 0.0) -> Inspection:
        """The row of a file that is no scan; ``note`` is the error's line."""
        none = np.zeros((0, 3))
        return cls(
            name=name,
            verdict="UNREADABLE",
            score=math.nan,
            threshold=math.nan,
            review=(math.nan, math.nan),
            false_alarm_rate=math.nan,
            alignment=None,
            defects=[],
            points=none,
            point_scores=none[:, 0],
            deviation=none[:, 0],
            displacement=none,
            limits=none[:, :2],
            note=note,
            seconds=seconds,
            source=source,
        )

    @property
    def outside_limits(self) -> int:
        """Number of points whose deviation leaves the limits."""
        return int(((self.deviation < self.limits[:, 0]) | (self.deviation > self.limits[:, 1])).sum())

    def to_json(self) -> dict[str, Any]:
        """JSON values, no arrays of points (schema ``SCHEMA``, docs/inspect.md); what is not known is None."""
        known = len(self.points) > 0
        return {
            "schema": SCHEMA,
            "name": self.name,
            "source": None if self.source is None else self.source.name,
            "verdict": self.verdict,
            "score": _finite(self.score),
            "threshold": _finite(self.threshold),
            "review": [_finite(v) for v in self.review],
            "false_alarm_rate": _finite(self.false_alarm_rate),
            "alignment": None if self.alignment is None else self.alignment.to_json(),
            "points": len(self.points),
            "outside_limits": self.outside_limits,
            "deviation_mm": [float(v) for v in np.quantile(self.deviation, (0.01, 0.5, 0.99))] if known else None,
            "defects": [d.to_json() for d in self.defects],
            "note": self.note,
            "seconds": self.seconds,
        }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
