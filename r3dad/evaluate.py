"""Running a detector over files: one scan, one class, a whole data set (``r3dad evaluate``, resumable class by class)."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import baselines, metrics
from r3dad.detector import Detector
from r3dad.doctor import environment
from r3dad.errors import InputError
from r3dad.metrics import FIGURES
from r3dad.outcome import COSTS, Scored, figures_of, tabulated
from r3dad.scans import (
    DatasetClass,
    class_folders,
    list_classes,
    read_scan,
    read_truth,
    write_atomic,
)

RECIPES = {"r3dad": "aligned", "r3dad-paper": "paper"}
"""Methods that are a recipe of this package; the others are in ``r3dad.baselines.METHODS``."""
Progress = Callable[[float, str], None]
ClassProgress = Callable[[str, float, str], None]


def methods() -> list[str]:
    """Names of all methods that ``run_class`` and ``evaluate`` take."""
    return [*RECIPES, *baselines.METHODS]


def run_class(
    item: DatasetClass,
    method: str,
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    out: Path,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The unit of work: fit one method on the good scans of a class and score its test scans; last model, nothing selected on them.

    Args:
        method: of :func:`methods`.
        seed: 0, 1, ... of the repetition, added to the method's own seed.
        settings: of the recipe or of the baseline's class.
        out: gets ``<method>/seed<k>/<class>/``: ``figures.json``, ``scores.csv`` and, of a recipe, ``model.safetensors``. What is there
            with the same settings is not run again; an interrupted training goes on.
        progress: called with the share done and a few words.

    Returns:
        ``metrics.FIGURES``, ``intervals`` (of each its 95 % bootstrap over scans), ``seconds_per_scan`` (median, from file to scores),
        ``fit_seconds``, ``memory_bank_mb`` (what is kept of the good scans), ``model_mb`` (parameters), ``peak_mb`` (most memory of the
        process, libraries included; of the GPU where it runs there; None where the system does not say), ``threshold`` (None for a
        method without), ``note`` (which weights) and per scan its score.

    Raises:
        InputError: an unknown method or setting, a scan or its truth that cannot be used, or results of other settings in ``out``.
    """
    if method not in methods():
        raise InputError(f"method {method!r} is unknown: expected one of {', '.join(methods())}")
    say = progress or (lambda share, words: None)
    settings = dict(settings or {})
    folder = out / method / f"seed{seed}" / item.name
    kept = folder / "figures.json"
    config = {"method": method, "seed": seed, "settings": settings, "train": [path.name for path in item.train]}
    config = json.loads(json.dumps(config))  # as it is read back
    if kept.exists():
        found = json.loads(kept.read_text())
        if found["config"] != config:
            raise InputError(f"{kept}: results of other settings; give another --out or delete the folder")
        return found["figures"]
    for test in checked(item).test:  # before a long fit, that nothing is found wrong after it
        read_truth(test, read_scan(test.path).points)
    peak = _Peak(device)
    fitted = (_Recipe if method in RECIPES else _Baseline)(method, seed, settings, device)
    started = time.perf_counter()
    fitted.fit(item, folder, lambda share, words: say(0.5 * share, f"fit {words}"))
    fit_seconds = time.perf_counter() - started
    scored = []
    for i, test in enumerate(item.test):
        say(0.5 + 0.5 * i / len(item.test), f"test {test.path.stem}")
        started = time.perf_counter()
        points = read_scan(test.path).points
        try:
            score, point_scores = fitted.score(points)
        except InputError as error:
            raise InputError(f"class {item.name}: {test.path}: {error}") from None
        seconds = time.perf_counter() - started
        scored.append(Scored(points, test.good, read_truth(test, points), score, point_scores, seconds))
    result = {
        **figures_of(scored),
        "fit_seconds": fit_seconds,
        "memory_bank_mb": fitted.bank_bytes() / 1e6,
        "model_mb": fitted.model_bytes() / 1e6,
        "peak_mb": peak.megabytes(),
        "threshold": fitted.threshold,
        "note": fitted.note,
        "scans": [
            {"file": test.path.name, "good": test.good, "score": s.score, "seconds": s.seconds}
            for test, s in zip(item.test, scored)
        ],
    }
    _write_scores(folder / "scores.csv", item, scored)
    write_atomic(kept, json.dumps({"config": config, "figures": result}, indent=1))
    return result


def evaluate(
    root: Path,
    out: Path,
    *,
    method: str = "r3dad",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    classes: list[str] | None = None,
    layout: str = "auto",
    device: str | None = None,
    progress: ClassProgress | None = None,
) -> dict[str, Any]:
    """:func:`run_class` of every class of a data set, in one of the layouts of ``r3dad.scans``.

    Args:
        out: gets ``<method>/seed<k>/`` with a folder per class, ``results.json`` and ``results.csv``.
        progress: called with (class, share done, words).

    Returns:
        What ``results.json`` holds: ``classes.<name>`` (as of :func:`run_class`), ``mean``, ``config``, ``environment``,
        ``skipped`` (class -> reason).

    Raises:
        InputError: no class can be run.
    """
    config = {"method": method, "seed": seed, "settings": dict(settings or {}), "layout": layout}
    done: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    for name in class_folders(root, layout, classes):

        def say(share: float, words: str, name: str = name) -> None:
            if progress:
                progress(name, share, words)

        try:
            (item,) = list_classes(root, layout, [name])
            done[name] = run_class(item, method, seed=seed, settings=settings, out=out, device=device, progress=say)
        except InputError as error:
            skipped[name] = str(error)
        results = {**tabulated(done), "config": config, "environment": environment(), "skipped": skipped}
        _write(out / method / f"seed{seed}", results)
    if not done:
        raise InputError(f"{root}: no class could be run ({'; '.join(f'{n}: {why}' for n, why in skipped.items())})")
    return results


def checked(item: DatasetClass) -> DatasetClass:
    """The class, if figures can be had of it; no scan is read.

    Raises:
        InputError: it has no good or no defective test scans, or a defective one has no label file; names class and file.
    """
    folder = item.train[0].parent.parent / "test"
    for good, word in ((True, "good"), (False, "defective")):
        if not any(test.good == good for test in item.test):
            raise InputError(f"class {item.name}: {folder}: no {word} test scans; expected some of both kinds")
    for test in item.test:
        if not test.good and test.truth is None:
            raise InputError(f"class {item.name}: {test.path}: no label file {test.path.stem}.txt in GT or gt; add it")
    return item


class _Recipe:
    """A recipe of this package, as ``run_class`` runs it."""

    note = ""

    def __init__(self, method: str, seed: int, settings: dict[str, Any], device: str | None) -> None:
        self._recipe, self._device = RECIPES[method], device
        first = settings.get("seed", {"aligned": 0, "paper": 2020}[self._recipe])
        self._detector = Detector(self._recipe, device=device, **{**settings, "seed": first + seed})

    def fit(self, item: DatasetClass, folder: Path, progress: Progress) -> None:
        self._detector.fit(item.train, progress=progress, resume=folder / "model.training")
        self._detector.save(folder / "model.safetensors")

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        prediction = self._detector.predict(points)
        return prediction.score, prediction.point_scores

    @property
    def threshold(self) -> float:
        return self._detector.threshold

    def bank_bytes(self) -> int:
        """Of the aligned recipe its surface and tables; the paper's keeps nothing."""
        return sum(v.numel() * v.element_size() for k, v in self._tensors() if k.startswith(("surface.", "frame.")))

    def model_bytes(self) -> int:
        return sum(v.numel() * v.element_size() for _, v in self._tensors()) - self.bank_bytes()

    def _tensors(self) -> list[tuple[str, Any]]:
        return list(self._detector.recipe.state()[0].items())


class _Baseline:
    """A method of ``r3dad.baselines``, as ``run_class`` runs it."""

    threshold = None

    def __init__(self, method: str, seed: int, settings: dict[str, Any], device: str | None) -> None:
        settings = dict(settings)
        seed += settings.pop("seed", 0)
        self._method = baselines.create(method, seed=seed, device=device or "cpu", **settings)

    def fit(self, item: DatasetClass, folder: Path, progress: Progress) -> None:
        progress(0.0, "")
        self._method.fit([read_scan(path).points for path in item.train])

    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        return self._method.score(points)

    @property
    def note(self) -> str:
        return self._method.note

    def bank_bytes(self) -> int:
        return self._method.bank_bytes()

    def model_bytes(self) -> int:
        return self._method.model_bytes()


class _Peak:
    """Most memory since it was made: of the GPU where the method runs there, else resident memory of the process (Linux)."""

    def __init__(self, device: str | None) -> None:
        import torch

        self._cuda = torch.cuda.is_available() and (device or "cuda").startswith("cuda")
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets VmHWM
        except OSError:
            pass

    def megabytes(self) -> float | None:
        if self._cuda:
            import torch

            return torch.cuda.max_memory_allocated() / 1e6
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


def _write_scores(file: Path, item: DatasetClass, scored: Sequence[Scored]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "good", "score", "p_auroc", "points", "seconds"])
    for test, s in zip(item.test, scored):
        within = metrics.auroc(s.labels, s.point_scores)
        writer.writerow([test.path.name, int(s.good), s.score, within, len(s.points), round(s.seconds, 4)])
    write_atomic(file, table.getvalue())


def _write(out: Path, results: dict[str, Any]) -> None:
    write_atomic(out / "results.json", json.dumps(results, indent=1))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = (*FIGURES, *COSTS)
    writer.writerow(["class", *names])
    for name, row in [*results["classes"].items(), ("mean", results["mean"])]:
        writer.writerow([name, *(row.get(n) for n in names)])
    write_atomic(out / "results.csv", table.getvalue())
