"""A scan, what was said of it and the truth; and the figures of many of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import metrics
from r3dad.detector import Detector, Prediction
from r3dad.errors import InputError
from r3dad.metrics import FIGURES
from r3dad.report import ReportItem
from r3dad.scans import LabelledScan, Scan, read_scan, read_truth

COSTS = ("seconds_per_scan", "fit_seconds", "memory_bank_mb", "model_mb", "peak_mb")


@dataclass(frozen=True)
class Outcome:
    """A scan, what the detector says of it, and the truth where it is known.

    Attributes:
        seconds: from file to scores. good: truth of the scan; labels: [M] bool, truth of its points.
    """

    scan: Scan
    prediction: Prediction
    seconds: float
    good: bool | None = None
    labels: np.ndarray | None = None

    def report_item(self, name: str = "") -> ReportItem:
        """The outcome as a row of a report."""
        dropped = f"{self.scan.dropped} points with NaN or inf dropped" if self.scan.dropped else ""
        p = self.prediction
        return ReportItem(
            name=name or self.scan.name,
            points=self.scan.points,
            point_scores=p.point_scores,
            score=p.score,
            is_defective=p.is_defective,
            displacement=p.displacement,
            deviation=p.deviation,
            label=None if self.good is None else not self.good,
            labels=self.labels,
            note="; ".join(filter(None, (p.note, dropped))),
            seconds=self.seconds,
        )


def predict_file(detector: Detector, file: Path, truth: LabelledScan | None = None) -> Outcome:
    """Read and score one scan file.

    Raises:
        InputError: the scan or its truth cannot be read or used.
    """
    started = time.perf_counter()
    scan = read_scan(file)
    try:
        prediction = detector.predict(scan)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    seconds = time.perf_counter() - started
    if truth is None:
        return Outcome(scan, prediction, seconds)
    return Outcome(scan, prediction, seconds, truth.good, read_truth(truth, scan.points))


@dataclass(frozen=True)
class Scored:
    """A test scan with truth, as any method scored it: points [M, 3], labels [M] bool, point_scores [M]; seconds from file to scores."""

    points: np.ndarray
    good: bool
    labels: np.ndarray
    score: float
    point_scores: np.ndarray
    seconds: float


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """``metrics.summary`` of outcomes with truth, and the median of their seconds per scan."""
    return figures_of(
        [
            Scored(o.scan.points, o.good, o.labels, o.prediction.score, o.prediction.point_scores, o.seconds)
            for o in outcomes
            if o.good is not None and o.labels is not None
        ]
    )


def figures_of(scored: Sequence[Scored]) -> dict[str, Any]:
    """``metrics.summary`` of scored scans, and the median of their seconds per scan."""
    summary = metrics.summary(
        [not s.good for s in scored],
        [s.score for s in scored],
        [s.points for s in scored],
        [s.labels for s in scored],
        [s.point_scores for s in scored],
    )
    return {**summary, "seconds_per_scan": float(np.median([s.seconds for s in scored]))}


def tabulated(classes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``classes`` and their ``mean``, as ``results.json`` holds them."""
    names = (*FIGURES, *COSTS)
    return {"classes": classes, "mean": {name: _mean([c.get(name) for c in classes.values()]) for name in names}}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
