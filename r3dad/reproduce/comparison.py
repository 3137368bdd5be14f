"""Tables 1, 2 and 7: every method on every class, the two protocols of the paper's recipe among them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from r3dad.reproduce.methods import Runs, chosen, finished, method_unit, schedule
from r3dad.reproduce.protocols import PROTOCOLS, Watched, watched
from r3dad.reproduce.rows import COLUMNS, NOTES, figure_rows
from r3dad.reproduce.run import PAPER, Run, in_short
from r3dad.reproduce.table import NOT_AT_HAND, Table, published

Found = dict[tuple[str, str], Runs]  # method, protocol -> its runs


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
    found: Found
    if run.results:
        runs, words = finished(run)
        found = {(method, PROTOCOLS[0]): by_class for method, by_class in runs.items()}
    else:
        found, words = _run(run, layout), schedule(run, layout)
    data = run.data(layout, list(dict.fromkeys(name for by_class in found.values() for name in by_class)))
    paper = published()["table2" if layout == "shapenet" else name]
    rows = []
    for (method, protocol), by_class in found.items():
        theirs = {place: figures[method] for place, figures in paper.items() if method in figures}
        rows += figure_rows({"method": method, "protocol": protocol}, by_class, theirs, group)
    notes = [*NOTES, *_remarks(found), *_uneven(found), *_selection(rows)]
    notes.append(
        f"Published figures: {PAPER}'s is the paper's own; {published()['rivals']}; {NOT_AT_HAND}: this package holds none. "
        "A difference compares only on the public data set and at the full schedule."
    )
    return Table(name, title, ("method", "protocol", *COLUMNS), rows, data, words, run.skipped, notes)


def _run(run: Run, layout: str) -> Found:
    items = run.items(layout)
    units = [
        watched(run, item, seed, layout) if method == PAPER else method_unit(run, item, method, seed, layout)
        for method in chosen(run)
        for item in items
        for seed in run.seeds
    ]
    found: Found = {}
    for unit, figures in run.results_of(units):
        for protocol in PROTOCOLS if isinstance(unit, Watched) else PROTOCOLS[:1]:
            method = PAPER if isinstance(unit, Watched) else unit.method
            row = found.setdefault((method, protocol), {})
            row.setdefault(unit.item.name, []).append(figures[protocol] if isinstance(unit, Watched) else figures)
    return found


def _remarks(found: Found) -> list[str]:
    """What methods say of their own figures (where their weights come from), once each."""
    said: dict[str, list[str]] = {}
    for (method, _), by_class in found.items():
        for note in {figures["note"] for runs in by_class.values() for figures in runs if figures.get("note")}:
            said.setdefault(note, []).append(method)
    return [f"{', '.join(methods)}: {note}" for note, methods in said.items()]


def _uneven(found: Found) -> list[str]:
    """Which methods lack classes that others have: their means are over fewer."""
    everything = dict.fromkeys(name for by_class in found.values() for name in by_class)
    lacking = {method: [name for name in everything if name not in by_class] for (method, _), by_class in found.items()}
    words = [f"{method} ({in_short(names)})" for method, names in lacking.items() if names]
    return [f"Means over different classes do not compare; lacking: {', '.join(words)}."] if words else []


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
