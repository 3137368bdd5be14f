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

NOT_AT_HAND = "n/a"
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


@dataclass(frozen=True)
class Part:
    """Some rows of a table as text: its title (may be empty), columns, and a line of cells per row."""

    title: str
    columns: tuple[str, ...]
    cells: list[list[str]]

    def markdown(self) -> str:
        """With the title above."""
        rows = [list(self.columns), ["---"] * len(self.columns), *self.cells]
        lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        return f"### {self.title}\n\n{lines}" if self.title else lines


@dataclass
class Table:
    """Rows of figures; None is a figure that is undefined, ``NOT_AT_HAND`` one that the paper may hold and this package does not.

    Attributes:
        name: ``table1`` and so on. title: what it shows. columns: in order. rows: values by column.
        data: which data set, in words. schedule: what was run, in words. skipped: reason -> what it stopped. notes: for the reader.
        plots: files beside the table.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    data: str
    schedule: str
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Columns in which nothing is known are left out, but for the first of the paper's."""
        empty = {c for c in self.columns if all(row.get(c) in (None, NOT_AT_HAND) for row in self.rows)}
        kept = next((c for c in self.columns if c.startswith("paper")), None)
        self.columns = tuple(c for c in self.columns if c not in empty or c == kept)

    def parts(self) -> list[Part]:
        """The rows as text to read; where there are means over classes these alone, and per figure a table of the classes."""
        means = [row for row in self.rows if row.get("class") == "mean"]
        if not means or len(means) == len(self.rows):
            return [self._part("", self.rows, self.columns)]
        kept = tuple(column for column in self.columns if column != "class")
        names = {row["class"] for row in self.rows} - {"mean"}
        if len(names) == 1:
            return [self._part(f"{names.pop()} alone", means, kept)]
        return [self._part("mean over the classes", means, kept), *map(self._by_class, ("O-AUROC", "P-AUROC"))]

    def _by_class(self, figure: str) -> Part:
        """A figure with a row for each class and a column for each kind of row (method and protocol, model)."""
        kinds = self.columns[: self.columns.index("class")]
        found: dict[str, dict[str, str]] = {}
        for row in self.rows:
            kind = " ".join(row[column] for column in kinds).removesuffix(" last")
            found.setdefault(row["class"], {})[kind] = _text(figure, row[figure])
        mean = found.pop("mean")
        cells = [
            [name, *(row.get(kind, "-") for kind in mean)] for name, row in [*sorted(found.items()), ("mean", mean)]
        ]
        return Part(f"{figure} of every class", ("class", *mean), cells)

    @staticmethod
    def _part(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Part:
        return Part(title, columns, [[_text(column, row.get(column)) for column in columns] for row in rows])

    def remarks(self) -> list[str]:
        """Data, schedule, what was skipped and why, and notes, a line each."""
        lost = [f"skipped {', '.join(what)}: {reason}" for reason, what in self.skipped.items()]
        return [f"Data: {self.data}", f"Schedule: {self.schedule}", *lost, *self.notes]

    def markdown(self) -> str:
        """The table with its title, schedule, notes and plots."""
        plots = [f"![{self.title}]({plot})" for plot in self.plots]
        parts = [part.markdown() for part in self.parts()]
        return "\n\n".join([f"## {self.name}: {self.title}", *plots, *parts, *self.remarks()]) + "\n"

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
