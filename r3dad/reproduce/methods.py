"""Every method as units of work, or its finished runs as ``r3dad evaluate`` left them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r3dad.errors import InputError
from r3dad.evaluate import methods as all_methods
from r3dad.evaluate import run_class
from r3dad.reproduce.run import PAPER, Run, paper_settings, paper_words
from r3dad.scans import DatasetClass

Runs = dict[str, list[dict[str, Any]]]
"""Class -> its figures, one for each seed."""


@dataclass(frozen=True)
class MethodUnit:
    """A unit of work: one method on one class with one seed."""

    item: DatasetClass
    method: str
    seed: int
    settings: dict[str, Any]
    out: Path
    device: str | None

    def __str__(self) -> str:
        return f"{self.item.name} {self.method} seed {self.seed}"

    def run(self, progress: Callable[[float, str], None] | None = None) -> dict[str, Any]:
        """The figures of ``r3dad.evaluate.run_class``."""
        return run_class(
            self.item,
            self.method,
            seed=self.seed,
            settings=self.settings,
            out=self.out,
            device=self.device,
            progress=progress,
        )


def method_unit(run: Run, item: DatasetClass, method: str, seed: int, layout: str) -> MethodUnit:
    """The unit under the run's schedule and settings; the same unit is the same folder in every table."""
    settings = paper_settings(run, layout) if method == PAPER else run.settings.get(method, {})
    return MethodUnit(item, method, seed, settings, run.out / "methods" / layout, run.device)


def chosen(run: Run) -> list[str]:
    """The methods asked for. Raises InputError where one is unknown."""
    known = all_methods()
    unknown = [name for name in (*(run.methods or ()), *run.settings) if name not in known]
    if unknown:
        raise InputError(f"method {', '.join(unknown)}: unknown; expected some of {', '.join(known)}")
    return list(run.methods or known)


def schedule(run: Run, layout: str) -> str:
    """What was run, in words."""
    methods = chosen(run)
    words = [f"{PAPER}: {paper_words(run, layout)}"] if PAPER in methods else []
    if len(methods) > len(words):
        words.append("the other methods: their defaults" if words else "the methods' defaults")
    return "; ".join(
        [*words, *(f"{name} set {given}" for name, given in run.settings.items() if name in methods and name != PAPER)]
    )


def finished(run: Run) -> tuple[dict[str, Runs], str]:
    """By method the figures that ``r3dad evaluate`` left in ``run.results``, and how they were run in words.

    Raises:
        InputError: nothing is there of the methods, classes and seeds asked for, or a method was run with different settings.
    """
    assert run.results is not None
    found: dict[str, Runs] = {}
    settings: dict[str, dict[str, Any]] = {}
    for method in chosen(run):
        for seed in run.seeds:
            for file in sorted((run.results / method / f"seed{seed}").glob("*/figures.json")):
                if run.classes and file.parent.name not in run.classes:
                    continue
                kept = json.loads(file.read_text())
                if settings.setdefault(method, kept["config"]["settings"]) != kept["config"]["settings"]:
                    raise InputError(f"{file}: its settings differ from those of other classes; evaluate them alike")
                found.setdefault(method, {}).setdefault(file.parent.name, []).append(kept["figures"])
    if not found:
        raise InputError(
            f"{run.results}: no <method>/seed<k>/<class>/figures.json of what is asked for; give the --out of r3dad evaluate"
        )
    changed = [f"{method} set {given}" for method, given in settings.items() if given]
    return found, "; ".join([f"{run.kind} of r3dad evaluate, the methods' defaults", *changed])
