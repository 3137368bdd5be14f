"""The two protocols for the paper's recipe: the last model, and what the public code reports, the best of evaluations on the test set.

``paper-best-epoch`` chooses on the very scans that it reports, metric by metric, so its figures are no estimate of what a new part
gets; it is here to show what that choice alone is worth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r3dad.config import PaperConfig, from_json, to_json
from r3dad.detector import Prediction
from r3dad.errors import InputError
from r3dad.evaluate import checked
from r3dad.metrics import FIGURES
from r3dad.model import Autoencoder
from r3dad.outcome import Outcome, figures, tabulated
from r3dad.recipes.paper import PaperRecipe
from r3dad.reproduce.run import EVERY, PAPER, Run, paper_settings
from r3dad.scans import (
    DatasetClass,
    LabelledScan,
    Scan,
    class_folders,
    list_classes,
    read_scan,
    read_truth,
    write_atomic,
)
from r3dad.train import train

PROTOCOLS = ("last", "paper-best-epoch")


@dataclass(frozen=True)
class Watched:
    """A unit of work: the paper's recipe on a class, evaluated on its test scans as the training goes.

    Attributes:
        settings: of the recipe. every: iterations between evaluations; the end of the training is always evaluated.
        file: keeps every evaluation as it is done; beside it, the state of an unfinished training.
    """

    item: DatasetClass
    seed: int
    settings: dict[str, Any]
    every: int
    file: Path
    device: str | None

    def __str__(self) -> str:
        return f"{self.item.name} {PAPER} seed {self.seed}"

    def run(self, progress: Callable[[float, str], None] | None = None) -> dict[str, Any]:
        """By protocol, the figures of the class (:func:`by_protocol`); an interrupted run goes on.

        Raises:
            InputError: a scan or its truth cannot be read or used; ``file`` holds results of other settings.
        """
        config = from_json(PaperConfig, self.settings)
        head = {"config": to_json(config), "every": self.every}
        kept: dict[str, Any] = {**head, "evaluations": {}}
        if self.file.exists():
            kept = json.loads(self.file.read_text())
        if {name: kept[name] for name in head} != head:
            raise InputError(f"{self.file}: results of other settings; give another --out or delete the file")
        evaluations: dict[str, dict[str, Any]] = kept["evaluations"]
        if str(config.iterations) not in evaluations:
            tests = [(test, scan := read_scan(test.path), read_truth(test, scan.points)) for test in self.item.test]
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")

            def watch(done: int, model: Autoencoder) -> None:
                if str(done) not in evaluations:
                    evaluations[str(done)] = _evaluated(PaperRecipe(config, model, device), tests)
                    write_atomic(self.file, json.dumps({**head, "evaluations": evaluations}, indent=1))

            scans = [torch.from_numpy(read_scan(path).points).double() for path in self.item.train]
            state = self.file.with_suffix(".training")
            train(scans, config, device=device, progress=progress, resume=state, watch=watch, every=self.every)
        return by_protocol({int(done): found for done, found in evaluations.items()})


def _evaluated(recipe: PaperRecipe, tests: list[tuple[LabelledScan, Scan, np.ndarray]]) -> dict[str, Any]:
    outcomes = []
    for test, scan, labels in tests:
        started = time.perf_counter()
        found = recipe.predict(scan.points)
        prediction = Prediction(
            score=found.score,
            is_defective=None,
            point_scores=found.point_scores,
            displacement=found.displacement,
            reconstruction=scan.points + found.displacement,
        )
        outcomes.append(Outcome(scan, prediction, time.perf_counter() - started, test.good, labels))
    scans = [{"good": o.good, "score": o.prediction.score} for o in outcomes]
    return {**figures(outcomes), "scans": scans}


def by_protocol(evaluations: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """By protocol, the figures of a training from its evaluations (iterations done -> figures).

    Returns:
        ``last``: of the last evaluation, with its ``scans``. ``paper-best-epoch``: each figure's best, whatever the evaluation (higher
        is better, but for seconds). ``evaluations``: how many there were.
    """
    last = evaluations[max(evaluations)]
    best = {}
    for name in (*FIGURES, "seconds_per_scan"):
        known = [found[name] for found in evaluations.values() if found[name] is not None]
        best[name] = (min if "seconds" in name else max)(known) if known else None
    return {"last": last, "paper-best-epoch": best, "evaluations": len(evaluations)}


def watched(run: Run, item: DatasetClass, seed: int, layout: str, **changed: Any) -> Watched:
    """The paper's recipe under the run's schedule with settings ``changed``; the same training is the same file in every table.

    Seed k is the public code's seed (2020) + k.
    """
    settings = {**paper_settings(run, layout), **changed}
    settings["seed"] = settings.get("seed", PaperConfig.seed) + seed
    variant = "-".join(
        f"{name}-{value:.4g}" if isinstance(value, float) else f"{name}-{value}" for name, value in changed.items()
    )
    file = run.out / "paper" / layout / (variant or "published") / f"{item.name}-seed{seed}.json"
    return Watched(item, seed, settings, run.interval, file, run.device)


def evaluate_both(
    root: Path,
    out: Path,
    *,
    seed: int = 0,
    settings: dict[str, Any],
    classes: list[str] | None = None,
    layout: str = "auto",
    every: int = EVERY[False],
    device: str | None = None,
    progress: Callable[[str, float, str], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """``r3dad evaluate --protocol paper-best-epoch``: by protocol, the table of a data set for the paper's recipe.

    Args:
        out: gets ``r3dad-paper-watched/seed<k>/<class>.json``; a class that is there is not run again.
        settings, every: of :class:`Watched`. The others: of ``r3dad.evaluate.evaluate``.

    Raises:
        InputError: no class can be run.
    """
    done: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    chosen = {**settings, "seed": settings.get("seed", PaperConfig.seed) + seed}
    for name in class_folders(root, layout, classes):
        file = out / f"{PAPER}-watched" / f"seed{seed}" / f"{name}.json"
        say = None if progress is None else partial(progress, name)
        try:
            (item,) = list_classes(root, layout, [name])
            done[name] = Watched(checked(item), seed, chosen, every, file, device).run(say)
        except InputError as error:
            skipped[name] = str(error)
    if not done:
        raise InputError(f"{root}: no class could be run ({'; '.join(skipped.values())})")
    return {
        protocol: {**tabulated({name: found[protocol] for name, found in done.items()}), "skipped": skipped}
        for protocol in PROTOCOLS
    }
