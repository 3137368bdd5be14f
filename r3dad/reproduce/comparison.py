"""Tables 1, 2 and 7 and Fig. 4: every method on every class, what it costs beside what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r3dad.errors import InputError
from r3dad.evaluate import methods as all_methods
from r3dad.evaluate import run_class
from r3dad.reproduce.protocols import PAPER, PROTOCOLS, Watched, watched
from r3dad.reproduce.rows import COLUMNS, NOTES, figure_rows
from r3dad.reproduce.run import Run, in_words, paper_schedule
from r3dad.reproduce.table import NOT_AT_HAND, Table, mean, published
from r3dad.scans import DatasetClass


@dataclass(frozen=True)
class Cell:
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


def chosen(run: Run) -> list[str]:
    """The methods asked for. Raises InputError where one is unknown."""
    known = all_methods()
    unknown = [name for name in (*(run.methods or ()), *run.settings) if name not in known]
    if unknown:
        raise InputError(f"method {', '.join(unknown)}: unknown; expected some of {', '.join(known)}")
    return list(run.methods or known)


def table1(run: Run) -> Table:
    """Real3D-AD: O-AUROC of every method, per class."""
    return _table(run, "table1", "Real3D-AD, every method", "real3d", lambda name: name)


def table2(run: Run) -> Table:
    """Anomaly-ShapeNet by group of classes (cap0, cap3, cap4, cap5: cap)."""
    return _table(run, "table2", "Anomaly-ShapeNet by group", "shapenet", lambda name: re.sub(r"\d+$", "", name))


def table7(run: Run) -> Table:
    """Anomaly-ShapeNet, every class."""
    return _table(run, "table7", "Anomaly-ShapeNet, every class", "shapenet", lambda name: name)


def _table(run: Run, name: str, title: str, layout: str, group: Callable[[str], str]) -> Table:
    items, methods = run.items(layout), chosen(run)
    units = [
        watched(run, item, seed, layout) if method == PAPER else _cell(run, item, method, seed, layout)
        for method in methods
        for item in items
        for seed in run.seeds
    ]
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}  # method, protocol -> class -> figures per seed
    for unit, figures in run.results(units):
        for protocol in PROTOCOLS if isinstance(unit, Watched) else PROTOCOLS[:1]:
            method = PAPER if isinstance(unit, Watched) else unit.method
            row = found.setdefault((method, protocol), {})
            row.setdefault(unit.item.name, []).append(figures[protocol] if isinstance(unit, Watched) else figures)
    paper = published()[name]
    rows = []
    for (method, protocol), by_class in found.items():
        theirs = {place: figures[method] for place, figures in paper.items() if method in figures}
        rows += figure_rows({"method": method, "protocol": protocol}, by_class, theirs, group)
    notes = [*NOTES, *_remarks(found), *_selection(rows)]
    notes.append(
        f"{NOT_AT_HAND}: the paper may hold the figure, this package does not. Of this table it holds the mean of {PAPER}."
    )
    return Table(
        name, title, ("method", "protocol", *COLUMNS), rows, schedule(run, methods, layout), run.skipped, notes
    )


def _cell(run: Run, item: DatasetClass, method: str, seed: int, layout: str) -> Cell:
    settings = paper_schedule(run.quick, layout) if method == PAPER else {}
    settings = {**settings, **run.settings.get(method, {})}
    return Cell(item, method, seed, settings, run.out / "methods" / layout, run.device)


def schedule(run: Run, methods: list[str], layout: str) -> str:
    """What was run, in words."""
    words = [f"{PAPER} {in_words(run.quick, layout, run.settings.get(PAPER))}"] if PAPER in methods else []
    rest = [name for name in methods if name != PAPER]
    words += [f"{', '.join(rest)}: their defaults"] if rest else []
    return "; ".join([*words, *(f"{name} set {given}" for name, given in run.settings.items() if name in methods)])


def _remarks(found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]]) -> list[str]:
    """What a method says of its own figures (where its weights come from), once each."""
    said = {
        (key[0], figures["note"])
        for key, row in found.items()
        for run in row.values()
        for figures in run
        if figures.get("note")
    }
    return [f"{method}: {note}" for method, note in sorted(said)]


def _selection(rows: list[dict[str, Any]]) -> list[str]:
    """What choosing the best evaluation on the test set is worth, for the mean of the paper's recipe."""
    means = {row["protocol"]: row for row in rows if row["method"] == PAPER and row["class"] == "mean"}
    if len(means) < len(PROTOCOLS):
        return []
    last, best = (means[protocol] for protocol in PROTOCOLS)
    gains = [
        f"{best[column] - last[column]:+.3f} {column}"
        for column in ("O-AUROC", "P-AUROC")
        if last[column] is not None and best[column] is not None
    ]
    return [
        f"Choosing the best evaluation on the test set ({PROTOCOLS[1]}) instead of the last alone is worth {', '.join(gains)}."
    ]


def fig4(run: Run) -> Table:
    """What every method finds, and what it costs: scans per second, memory bank and model, peak memory; as a plot too."""
    from r3dad.reproduce.plots import draw_costs

    layout = "real3d" if run.real3d else "shapenet"
    items, methods = run.items(layout), chosen(run)
    units = [_cell(run, item, method, seed, layout) for method in methods for item in items for seed in run.seeds]
    found: dict[str, list[dict[str, Any]]] = {}
    for unit, figures in run.results(units):
        found.setdefault(unit.method, []).append(figures)
    rows = []
    for method, runs in found.items():
        seconds = mean([figures["seconds_per_scan"] for figures in runs])
        rows.append(
            {
                "method": method,
                "classes x seeds": len(runs),
                "O-AUROC": mean([figures["o_auroc"] for figures in runs]),
                "P-AUROC": mean([figures["p_auroc"] for figures in runs]),
                "FPS": 1 / seconds if seconds else None,
                "fit s": mean([figures["fit_seconds"] for figures in runs]),
                "bank MB": mean([figures["memory_bank_mb"] for figures in runs]),
                "model MB": mean([figures["model_mb"] for figures in runs]),
                "peak MB": max((figures["peak_mb"] for figures in runs if figures["peak_mb"]), default=None),
            }
        )
    file = draw_costs(run.out / "fig4.png", rows)
    notes = [
        "Means over classes and seeds; peak: the highest. FPS: 1 / median seconds per scan, from file to scores, on this machine.",
        "Bank: what is kept of the good scans; model: parameters; peak: most memory of the process with its libraries (of a GPU, on one).",
        "The paper's figures of this plot are not at hand.",
    ]
    columns = ("method", "classes x seeds", "O-AUROC", "P-AUROC", "FPS", "fit s", "bank MB", "model MB", "peak MB")
    title = "memory and scans per second against accuracy"
    return Table("fig4", title, columns, rows, schedule(run, methods, layout), run.skipped, notes, [file.name])
