"""The same part scanned n times: how far do score, deviations and verdicts spread?"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import __version__
from r3dad.detector import Detector
from r3dad.errors import InputError
from r3dad.inspection import Inspection
from r3dad.line.gauge import Type1, type1
from r3dad.line.one import inspect_anyway, inspect_file
from r3dad.report.growing import cell
from r3dad.scans import write_atomic

SCHEMA = "r3dad.repeatability/1"
PLACES = 400
"""Places spread over the part at which the deviation's spread is taken."""
REACH = 0.02
"""A place is what lies within this share of the part's diagonal."""
LEAST = 5
"""A place counts where every scan has at least this many points."""
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Repeatability:
    """What n scans of one part say of the measurement.

    Attributes:
        model: its name. threshold: of the score. rows: per scan name, verdict, score, low, high (1 and 99 % quantile of the deviation, mm),
        note. studies: score, low, high, and one per named place and for the place that spreads most. places: [Q, 3] mm in the part's frame.
        spread: [Q] standard deviation of the mean deviation at each (mm). cloud: [M, 3] the first scan in that frame. radius: of a place
        (mm). left_out: places that some scan did not show.
    """

    model: str
    threshold: float
    rows: list[dict[str, Any]]
    studies: list[Type1]
    places: np.ndarray
    spread: np.ndarray
    cloud: np.ndarray
    radius: float
    left_out: int
    tolerance: float | None
    reference: float | None
    verdicts: Counter[str] = field(default_factory=Counter)

    @property
    def to_threshold(self) -> float:
        """Distance from the mean score to the threshold in standard deviations; below 3 the verdict may turn."""
        score = self.studies[0]
        return abs(self.threshold - score.mean) / score.s if score.s else math.inf

    def to_json(self) -> dict[str, Any]:
        """Schema ``SCHEMA``; what is not known or not finite is None."""
        return {
            "schema": SCHEMA,
            "r3dad": __version__,
            "model": self.model,
            "threshold": _plain(self.threshold),
            "verdicts": dict(self.verdicts),
            "score_to_threshold_s": _plain(self.to_threshold),
            "tolerance_mm": self.tolerance,
            "reference_mm": self.reference,
            "studies": [
                {k: v.tolist() if isinstance(v, np.ndarray) else _plain(v) for k, v in vars(study).items()}
                | {"capable": study.capable}
                for study in self.studies
            ],
            "places": {
                "count": len(self.places),
                "left_out": self.left_out,
                "radius_mm": _plain(self.radius),
                "s_median_mm": _plain(float(np.median(self.spread))) if len(self.spread) else None,
                "s_95_mm": _plain(float(np.quantile(self.spread, 0.95))) if len(self.spread) else None,
                "s_largest_mm": _plain(float(self.spread.max())) if len(self.spread) else None,
            },
            "scans": [{k: _plain(v) for k, v in row.items()} for row in self.rows],
        }


def repeatability(
    detector: Detector,
    files: Sequence[Path],
    *,
    model: str,
    tolerance: float | None = None,
    reference: float | None = None,
    at: Sequence[tuple[float, float, float]] = (),
    progress: Progress | None = None,
) -> Repeatability:
    """Inspect the scans and study their spread.

    Args:
        files: scans of one and the same part, as they were taken. tolerance: width in mm, for Cg. reference: true deviation in mm at the
            places ``at``, for bias and Cgk. at: places in the part's frame (mm), each studied by the mean deviation around it.

    Raises:
        InputError: fewer than two scans can be used, or some scan does not show a place of ``at``.
    """
    rows: list[dict[str, Any]] = []
    grid = _Grid(np.asarray(at, float).reshape(-1, 3))
    threshold = detector.threshold
    for i, file in enumerate(files):
        if progress:
            progress(i / len(files), file.name)
        inspection = inspect_anyway(lambda path: inspect_file(detector, path), file)
        usable = math.isfinite(inspection.score)
        low, high = np.quantile(inspection.deviation, (0.01, 0.99)) if usable else (math.nan, math.nan)
        rows.append(
            {
                "name": file.name,
                "verdict": inspection.verdict,
                "score": inspection.score,
                "low": float(low),
                "high": float(high),
                "note": inspection.note,
            }
        )
        if usable and inspection.alignment is not None:
            grid.add(inspection)
    good = [row for row in rows if math.isfinite(row["score"])]
    if len(good) < 2:
        why = next((f" ({row['note']})" for row in rows if row["note"]), "")
        raise InputError(
            f"repeatability: {len(good)} of {len(rows)} scans can be used{why}; give at least two scans of one part"
        )
    studies = [type1("score", [row["score"] for row in good], unit="")]
    places, spread = np.zeros((0, 3)), np.zeros(0)
    if grid.values:
        studies += [
            type1(f"{words} deviation ({share} % quantile)", [row[key] for row in good], tolerance=tolerance)
            for words, share, key in (("lowest", 1, "low"), ("highest", 99, "high"))
        ]
        places, values = grid.complete()
        spread = values.std(axis=0, ddof=1) if len(places) else spread
        for k, point in enumerate(at):
            column = np.array([v[k] for v in grid.values])
            if not np.isfinite(column).all():
                raise InputError(
                    f"--at {_place(point)}: fewer than {LEAST} points around it in some scan; name a place that all scans show"
                )
            studies.append(type1(f"deviation at {_place(point)}", column, tolerance=tolerance, reference=reference))
        if len(places):
            worst = int(spread.argmax())
            name = f"deviation where it spreads most, {_place(places[worst])}"
            studies.append(type1(name, values[:, worst], tolerance=tolerance))
    elif at:
        raise InputError(
            f"--at {_place(at[0])}: the model has no surface to place it on; fit the part with the aligned recipe"
        )
    return Repeatability(
        model, threshold, rows, studies, places, spread, grid.cloud, grid.radius, grid.size - len(places) - len(at),
        tolerance, reference, Counter(row["verdict"] for row in rows),
    )  # fmt: skip


class _Grid:
    """Mean deviations at fixed places of the part: the named ones ``[A, 3]``, then `PLACES` spread over the first scan."""

    def __init__(self, named: np.ndarray) -> None:
        self._places, self._named = named, len(named)
        self.values: list[np.ndarray] = []
        self.radius, self.cloud = 0.0, np.zeros((0, 3))

    @property
    def size(self) -> int:
        """Number of places, the named ones included."""
        return len(self._places)

    def add(self, inspection: Inspection) -> None:
        """Take the mean deviation around every place; NaN where there are fewer than `LEAST` points."""
        from scipy.spatial import cKDTree

        from r3dad.neighbours import thin

        assert inspection.alignment is not None
        matrix = inspection.alignment.matrix
        points = inspection.points @ matrix[:3, :3].T + matrix[:3, 3]
        if not self.values:
            self.cloud = points
            self.radius = REACH * float(np.linalg.norm(np.ptp(points, axis=0)))
            self._places = np.concatenate([self._places, points[thin(points, PLACES)]])
        near = cKDTree(points).query_ball_point(self._places, self.radius)
        self.values.append(
            np.array([inspection.deviation[n].mean() if len(n) >= LEAST else math.nan for n in near], float)
        )

    def complete(self) -> tuple[np.ndarray, np.ndarray]:
        """Places ``[Q, 3]`` that every scan shows, without the named ones, and the values ``[n, Q]``."""
        values = np.stack(self.values)[:, self._named :]
        shown = np.isfinite(values).all(axis=0)
        return self._places[self._named :][shown], values[:, shown]


def write(out: Path, result: Repeatability) -> Path:
    """Write ``repeatability.html``, ``.json`` and ``.csv`` (one row per scan) into the folder ``out``; the page's path.

    Raises:
        InputError: the folder cannot be written.
    """
    from r3dad.line.repeatability_page import page

    write_atomic(out / "repeatability.json", json.dumps(result.to_json(), indent=1, allow_nan=False))
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(list(result.rows[0]))
    writer.writerows([cell(_plain(v)) for v in row.values()] for row in result.rows)
    write_atomic(out / "repeatability.csv", table.getvalue())
    return write_atomic(out / "repeatability.html", page(result))


def _place(point: Sequence[float] | np.ndarray) -> str:
    return ",".join(f"{v:.1f}" for v in point)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
