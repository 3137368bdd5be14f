"""Fig. 4: what every method finds, and what it costs."""

from __future__ import annotations

from typing import Any

from r3dad.errors import InputError
from r3dad.reproduce.methods import Runs, chosen, finished, method_unit, schedule
from r3dad.reproduce.run import Run, in_short
from r3dad.reproduce.table import Table, mean

COLUMNS = ("method", "classes", "O-AUROC", "P-AUROC", "FPS", "fit s", "bank MB", "model MB", "peak MB")


def fig4(run: Run) -> Table:
    """Memory and scans per second against accuracy, of every method, over the classes that all of them have; as a plot too."""
    from r3dad.reproduce.plots import draw_costs

    layout = "real3d" if run.real3d else "shapenet"
    if run.results:
        found, words = finished(run)
    else:
        items = run.items(layout)
        units = [
            method_unit(run, item, method, seed, layout)
            for method in chosen(run)
            for item in items
            for seed in run.seeds
        ]
        found = {}
        for unit, figures in run.results_of(units):
            found.setdefault(unit.method, {}).setdefault(unit.item.name, []).append(figures)
        words = schedule(run, layout)
    every = dict.fromkeys(name for runs in found.values() for name in runs)
    shared = [name for name in every if all(name in runs for runs in found.values())]
    if not shared:
        raise InputError(f"fig4: no class that all of {', '.join(found)} have; choose fewer with --methods")
    rows = [{"method": method, **_row(runs, shared)} for method, runs in found.items()]
    data = run.data(layout, shared)
    file = draw_costs(run.out / "fig4.png", rows, f"{data}; {run.kind}")
    notes = [
        "Means over classes and seeds; peak: the highest. FPS: 1 / median seconds per scan, from file to scores, on this machine.",
        "Bank: what is kept of the good scans; model: parameters; peak: most memory of the process with its libraries (of a GPU, on one); "
        "what runs after another method in the same process starts from what that one left, so r3dad evaluate for each compares better.",
        "The paper's figures of this plot are not at hand.",
    ]
    if len(shared) < len(every):
        notes.insert(0, f"Left out, for not every method has them: {in_short([n for n in every if n not in shared])}.")
    title = "memory and scans per second against accuracy"
    return Table("fig4", title, COLUMNS, rows, data, words, run.skipped, notes, [file.name])


def _row(runs: Runs, classes: list[str]) -> dict[str, Any]:
    figures = [one for name in classes for one in runs[name]]
    seconds = mean([one["seconds_per_scan"] for one in figures])
    return {
        "classes": len(classes),
        "O-AUROC": mean([one["o_auroc"] for one in figures]),
        "P-AUROC": mean([one["p_auroc"] for one in figures]),
        "FPS": 1 / seconds if seconds else None,
        "fit s": mean([one["fit_seconds"] for one in figures]),
        "bank MB": mean([one["memory_bank_mb"] for one in figures]),
        "model MB": mean([one["model_mb"] for one in figures]),
        "peak MB": max((one["peak_mb"] for one in figures if one["peak_mb"]), default=None),
    }
