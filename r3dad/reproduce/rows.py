"""Rows of a table of figures: a class a row and the mean, with the interval of the test scans and the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from r3dad.reproduce.table import NOT_AT_HAND, mean

DRAWS = 1000
COLUMNS = (
    "class",
    "classes",
    "O-AUROC",
    "95 % interval",
    "paper O",
    "difference O",
    "P-AUROC",
    "paper P",
    "difference P",
    "AUPRO",
    "s/scan",
    "seeds",
)
NOTES = [
    "O-AUROC over scans, P-AUROC over the points of a class's scans pooled, AUPRO over connected defects. A class's figures are means "
    "over the seeds; the mean row is the mean over the classes. "
    f"Interval: {DRAWS} bootstrap draws of the test scans, good and defective apart, the same scans for every seed; that of "
    "a single class is in the .csv.",
]
KEYS = {"o_auroc": "O-AUROC", "p_auroc": "P-AUROC", "aupro": "AUPRO", "seconds_per_scan": "s/scan"}


def draws(scans: list[list[dict[str, Any]]], seed: int = 0) -> np.ndarray:
    """[DRAWS] O-AUROCs of resampled test scans of a class, mean over seeds.

    Args:
        scans: per seed, the same test scans in the same order: ``good`` and ``score``.
    """
    good = np.array([scan["good"] for scan in scans[0]])
    scores = np.array([[scan["score"] for scan in run] for run in scans])
    above = scores[:, None, ~good] - scores[:, good, None]
    won = ((above > 0) + 0.5 * (above == 0)).mean(0)  # [good, defective]
    rng = np.random.default_rng(seed)
    g = rng.integers(won.shape[0], size=(DRAWS, won.shape[0]))
    d = rng.integers(won.shape[1], size=(DRAWS, won.shape[1]))
    return np.array([won[np.ix_(i, j)].mean() for i, j in zip(g, d)])


def figure_rows(
    labels: dict[str, str],
    by_class: dict[str, list[dict[str, Any]]],
    paper: dict[str, dict[str, float]],
    group: Callable[[str], str] = str,
) -> list[dict[str, Any]]:
    """A row per class, or group of classes, and one for the mean over the classes.

    Args:
        labels: first columns of every row (method, model, protocol).
        by_class: class -> figures per seed, at least one, by the names of ``KEYS``; ``scans`` where an interval is wanted.
        paper: class, group or ``mean`` -> ``o_auroc``, ``p_auroc``, as far as they are at hand.
        group: name of a class's row.
    """
    found = []
    for i, (name, runs) in enumerate(by_class.items()):
        scans = [run["scans"] for run in runs if run.get("scans")]
        figures = {key: mean([run.get(key) for run in runs]) for key in KEYS}
        found.append((group(name), figures, draws(scans, i) if scans else None, len(runs)))
    rows = []
    for name in [*dict.fromkeys(row[0] for row in found), "mean"]:
        mine = [row for row in found if name in (row[0], "mean")]
        figures = {key: mean([row[1][key] for row in mine]) for key in KEYS}
        drawn = [row[2] for row in mine if row[2] is not None]
        together = np.mean(drawn, 0) if len(drawn) == len(mine) else None
        rows.append(
            {
                **labels,
                "classes": len(mine),
                **_row(name, figures, together, paper.get(name, {})),
                "seeds": min(row[3] for row in mine),
            }
        )
    return rows


def _row(name: str, ours: dict[str, Any], drawn: np.ndarray | None, paper: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"class": name, **{column: ours[key] for key, column in KEYS.items()}}
    if drawn is not None:
        low, high = np.quantile(drawn, (0.025, 0.975))
        row["95 % interval"] = f"{low:.3f}-{high:.3f}"
    for key, letter in (("o_auroc", "O"), ("p_auroc", "P")):
        value, theirs = ours[key], paper.get(key)
        row[f"paper {letter}"] = NOT_AT_HAND if theirs is None else theirs
        row[f"difference {letter}"] = None if theirs is None or value is None else value - theirs
    return row
