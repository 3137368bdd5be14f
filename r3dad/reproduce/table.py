"""A table of the paper: its figures beside ours, written as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from r3dad.scans import write_atomic

NOT_AT_HAND = "not at hand"
_DIGITS = {
    "s/scan": 2,
    "PSNR dB": 1,
    "PSNR of the defect dB": 1,
    "bank MB": 2,
    "model MB": 2,
    "peak MB": 0,
    "FPS": 2,
    "fit s": 0,
}


@functools.cache
def published() -> dict[str, Any]:
    """The paper's own figures, as far as they are at hand."""
    return json.loads(resources.files("r3dad.reproduce").joinpath("published.json").read_text())


@dataclass
class Table:
    """Rows of figures; None is a figure that is undefined, ``NOT_AT_HAND`` one that the paper may hold and this package does not.

    Attributes:
        name: ``table1`` and so on. title: what it shows. columns: in order. rows: values by column.
        schedule: what was run, in words. skipped: reason -> what it stopped. notes: for the reader. plots: files beside the table.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    schedule: str
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Columns in which nothing is known are left out, but for the first of the paper's."""
        empty = {c for c in self.columns if all(row.get(c) in (None, NOT_AT_HAND) for row in self.rows)}
        kept = next((c for c in self.columns if c.startswith("paper")), None)
        self.columns = tuple(c for c in self.columns if c not in empty or c == kept)

    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[_text(column, row.get(column)) for column in self.columns] for row in self.rows]

    def remarks(self) -> list[str]:
        """Schedule, what was skipped and why, and notes, a line each."""
        lost = [f"skipped {', '.join(what)}: {reason}" for reason, what in self.skipped.items()]
        return [f"Schedule: {self.schedule}", *lost, *self.notes]

    def markdown(self) -> str:
        """The table with its title, schedule, notes and plots."""
        rows = [list(self.columns), ["---"] * len(self.columns), *self.cells()]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        plots = [f"![{self.title}]({plot})" for plot in self.plots]
        return "\n\n".join([f"## {self.name}: {self.title}", "\n".join(lines), *self.remarks(), *plots]) + "\n"

    def write(self, out: Path) -> None:
        """``<name>.csv``, ``.json`` and ``.md`` in the folder ``out``."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(out / f"{self.name}.csv", text.getvalue())
        write_atomic(out / f"{self.name}.json", json.dumps(asdict(self), indent=1))
        write_atomic(out / f"{self.name}.md", self.markdown())


def _text(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        digits = _DIGITS.get(column, 3)
        return f"{value:+.{digits}f}" if column.startswith("difference") else f"{value:.{digits}f}"
    return str(value)


def mean(values: Sequence[float | None]) -> float | None:
    """Of the values that are defined; None where there is none."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def beside(ours: float | None, paper: Any) -> dict[str, Any]:
    """The columns ``paper`` and ``difference`` (ours - paper) for a figure of ours; ``paper`` None where it is not at hand."""
    if paper is None:
        return {"paper": NOT_AT_HAND, "difference": None}
    return {"paper": paper, "difference": None if ours is None else ours - paper}
