"""Running a detector over files: one scan, one class, a whole data set (``r3dad evaluate``, resumable class by class)."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import metrics
from r3dad.detector import Detector, Prediction
from r3dad.doctor import environment
from r3dad.errors import InputError
from r3dad.report import ReportItem
from r3dad.scans import DatasetClass, LabelledScan, Scan, list_classes, read_scan, read_truth, write_atomic

FIGURES = ("o_auroc", "p_auroc", "o_ap", "p_ap")
Progress = Callable[[str, float, str], None]


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


def figures(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """O- and P-figures and the median seconds per scan of outcomes with truth; the points of all scans are pooled."""
    summary = metrics.summary(
        [not o.good for o in outcomes],
        [o.prediction.score for o in outcomes],
        [o.labels for o in outcomes if o.labels is not None],
        [o.prediction.point_scores for o in outcomes],
    )
    return {**summary, "seconds_per_scan": float(np.median([o.seconds for o in outcomes]))}


def tabulated(classes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``classes`` and their ``mean``, as ``results.json`` holds them."""
    names = (*FIGURES, "seconds_per_scan")
    return {"classes": classes, "mean": {name: _mean([c[name] for c in classes.values()]) for name in names}}


def evaluate(
    root: Path,
    out: Path,
    *,
    recipe: str,
    settings: dict[str, Any],
    classes: list[str] | None = None,
    layout: str = "auto",
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit each class on its good scans and score its test scans; last model, nothing selected on test scans.

    Args:
        root: of the data set, in one of the layouts of ``r3dad.scans``.
        out: gets ``results.json``, ``results.csv``, and per class its figures, per-scan scores and model. A class that is already
            there with the same recipe and settings is not run again; an interrupted fit goes on.
        progress: called with (class, share done, words).

    Returns:
        What ``results.json`` holds: ``classes.<name>.{o_auroc, p_auroc, o_ap, p_ap, seconds_per_scan, ...}``, ``mean``, ``config``,
        ``environment``, ``skipped`` (class -> reason).

    Raises:
        InputError: no class can be run, or ``out`` holds results of other settings.
    """
    config = {"recipe": recipe, "settings": settings, "layout": layout}
    done: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    for item in list_classes(root, layout, classes):
        try:
            done[item.name] = _class(item, out, recipe, settings, config, device, progress)
        except InputError as error:
            skipped[item.name] = str(error)
        results = {**tabulated(done), "config": config, "environment": environment(), "skipped": skipped}
        _write(out, results)
    if not done:
        raise InputError(f"{root}: no class could be run ({'; '.join(f'{n}: {why}' for n, why in skipped.items())})")
    return results


def _class(
    item: DatasetClass,
    out: Path,
    recipe: str,
    settings: dict[str, Any],
    config: dict[str, Any],
    device: str | None,
    progress: Progress | None,
) -> dict[str, Any]:
    kept = out / "classes" / f"{item.name}.json"
    if kept.exists():
        found = json.loads(kept.read_text())
        if found["config"] != config:
            raise InputError(f"{kept}: results of other settings; give another --out or delete the folder")
        return found["figures"]
    detector, fit_seconds = _detector(item, out, recipe, settings, device, progress)
    outcomes = []
    for i, test in enumerate(item.test):
        if progress:
            progress(item.name, i / len(item.test), f"test {test.path.stem}")
        outcomes.append(predict_file(detector, test.path, test))
    result = {
        **figures(outcomes),
        "seconds_to_fit": fit_seconds,
        "threshold": detector.threshold,
        "scans": [
            {"file": test.path.name, "good": test.good, "score": o.prediction.score, "seconds": o.seconds}
            for test, o in zip(item.test, outcomes)
        ],
    }
    write_atomic(kept, json.dumps({"config": config, "figures": result}, indent=1))
    return result


def _detector(
    item: DatasetClass,
    out: Path,
    recipe: str,
    settings: dict[str, Any],
    device: str | None,
    progress: Progress | None,
) -> tuple[Detector, float]:
    detector = Detector(recipe, device=device, **settings)
    started = time.perf_counter()
    detector.fit(
        item.train,
        progress=(lambda share, words: progress(item.name, share, f"fit {words}")) if progress else None,
        resume=out / "models" / f"{item.name}.training",
    )
    detector.save(out / "models" / f"{item.name}.safetensors")
    return detector, time.perf_counter() - started


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _write(out: Path, results: dict[str, Any]) -> None:
    write_atomic(out / "results.json", json.dumps(results, indent=1))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["class", *FIGURES, "seconds_per_scan"])
    for name, figures in [*results["classes"].items(), ("mean", results["mean"])]:
        writer.writerow([name, *(figures[f] for f in (*FIGURES, "seconds_per_scan"))])
    write_atomic(out / "results.csv", table.getvalue())
