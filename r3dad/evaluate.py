"""``r3dad evaluate``: fit and test every class of a data set; resumable class by class."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import metrics
from r3dad.detector import Detector
from r3dad.doctor import environment
from r3dad.errors import InputError
from r3dad.scans import DatasetClass, list_classes, read_scan, read_truth, write_atomic

FIGURES = ("o_auroc", "p_auroc", "o_ap", "p_ap")
Progress = Callable[[str, float, str], None]


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
        results = {
            "classes": done,
            "mean": {figure: _mean([c[figure] for c in done.values()]) for figure in (*FIGURES, "seconds_per_scan")},
            "config": config,
            "environment": environment(),
            "skipped": skipped,
        }
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
    rows, labels, scores = [], [], []
    for i, test in enumerate(item.test):
        if progress:
            progress(item.name, i / len(item.test), f"test {test.path.stem}")
        started = time.perf_counter()
        scan = read_scan(test.path)
        prediction = detector.predict(scan)
        seconds = time.perf_counter() - started
        labels.append(read_truth(test, scan.points))
        scores.append(prediction.point_scores)
        rows.append({"file": test.path.name, "good": test.good, "score": prediction.score, "seconds": seconds})
    figures = metrics.summary([not r["good"] for r in rows], [r["score"] for r in rows], labels, scores)
    result = {
        **figures,
        "seconds_per_scan": float(np.median([r["seconds"] for r in rows])),
        "seconds_to_fit": fit_seconds,
        "threshold": detector.threshold,
        "scans": rows,
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
