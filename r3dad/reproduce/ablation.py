"""Tables 3 and 4: the paper's recipe with one thing changed at a time."""

from __future__ import annotations

from typing import Any

from r3dad.config import PaperConfig
from r3dad.reproduce.protocols import Watched, watched
from r3dad.reproduce.rows import COLUMNS, NOTES, figure_rows
from r3dad.reproduce.run import Run, paper_words
from r3dad.reproduce.table import Table, published

MODELS = {
    "A": "diffusion of the shape",
    "B": "A, conditioned on the latent",
    "C": "B, relative displacement",
    "D": "C, with Patch-Gen (the paper's)",
}
RATIOS = {"1/64": 1 / 64, "1/32": 1 / 32, "1/16": 1 / 16, "1/8": 1 / 8}
SCALES = {"0.1": 0.1, "0.2": 0.2, "0.4": 0.4, "0.8": 0.8}
Case = tuple[str, dict[str, Any], dict[str, float]]  # words, settings changed, the paper's means


def table3(run: Run) -> Table:
    """Models A-D on Real3D-AD, or on the other set where it alone is given: O-AUROC and P-AUROC."""
    cases: list[Case] = [
        (f"{model}: {words}", _changed(model=model), published()["table3"][model]) for model, words in MODELS.items()
    ]
    return _table(run, "table3", "models A-D", "model", cases)


def table4(run: Run) -> Table:
    """Share of points in a patch (4a) and how far it moves (4b), on the set that models A-D are: O-AUROC."""
    cases: list[Case] = []
    for name, values in (("patch_ratio", RATIOS), ("patch_scale", SCALES)):
        for words, value in values.items():
            cases.append(
                (f"{name} {words}", _changed(**{name: value}), {"o_auroc": published()["table4"][name][words]})
            )
    return _table(run, "table4", "ratio and scale of a patch", "setting", cases)


def _changed(**settings: Any) -> dict[str, Any]:
    """Settings that differ from the paper's."""
    return {name: value for name, value in settings.items() if value != getattr(PaperConfig, name)}


def _table(run: Run, name: str, title: str, column: str, cases: list[Case]) -> Table:
    layout = "shapenet" if run.shapenet and not run.real3d else "real3d"
    items = run.items(layout)
    units: dict[str, list[Watched]] = {
        case: [watched(run, item, seed, layout, **changed) for item in items for seed in run.seeds]
        for case, changed, _ in cases
    }
    # The paper's own setting stands in several rows; its units are equal and run once.
    once = {unit.file: unit for row in units.values() for unit in row}
    done = {unit.file: figures[run.protocol] for unit, figures in run.results_of(list(once.values()))}
    rows = []
    for case, _, paper in cases:
        by_class: dict[str, list[dict[str, Any]]] = {}
        for unit in units[case]:
            if unit.file in done:
                by_class.setdefault(unit.item.name, []).append(done[unit.file])
        if by_class:
            rows += figure_rows({column: case}, by_class, {"mean": paper})
    notes = [*NOTES, f"Protocol: {run.protocol}. The paper's figures are means over the 12 classes of Real3D-AD."]
    data = run.data(layout, [item.name for item in items])
    return Table(name, title, (column, *COLUMNS), rows, data, paper_words(run, layout), run.skipped, notes)
