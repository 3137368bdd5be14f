"""Fig. 4 and Fig. 6 as PNG files (matplotlib, extra ``r3dad[plots]``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r3dad.errors import InputError
from r3dad.scans import write_atomic

COLOURS = {"good": "#2a9d5c", "defective": "#d1495b", "generated": "#3f6fb5"}
MARKERS = {"good": "o", "defective": "^", "generated": "s"}


def _figure(**arguments: Any) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("plots: matplotlib is not installed; pip install 'r3dad[plots]'") from None
    return Figure(layout="constrained", dpi=140, **arguments)  # no pyplot: nothing global, no window


def _write(figure: Any, file: Path) -> Path:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return write_atomic(file, image.getvalue())


def draw_costs(file: Path, rows: Sequence[dict[str, Any]], caption: str) -> Path:
    """Accuracy of every method against scans per second and against memory.

    Args:
        rows: of the table: ``method``, ``O-AUROC``, ``FPS``, and ``bank MB``, ``model MB``, ``peak MB``; what is None or 0 is left out of
            its panel. caption: data and schedule, written above the panels.
    """
    rows = [{**row, "kept MB": (row["bank MB"] or 0) + (row["model MB"] or 0)} for row in rows]
    rows = sorted((row for row in rows if row["O-AUROC"] is not None), key=lambda row: -row["O-AUROC"])
    figure = _figure(figsize=(14.5, 4.8))
    from matplotlib import colormaps
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    panels = figure.subplots(1, 3, sharey=True)
    words = {
        "FPS": "scans per second (log)",
        "kept MB": "kept after fitting: memory bank + model, MB (log)",
        "peak MB": "peak memory with all libraries, MB (not from 0)",
    }
    colours = [colormaps["tab20"](i) for i in range(20)]
    for panel, (column, label) in zip(panels, words.items()):
        for i, row in enumerate(rows):
            if row.get(column):  # nothing kept, or not known: no place on a log axis
                place = (row[column], row["O-AUROC"])
                # Numbers stay readable where points crowd; the last drawn, the best, lies on top.
                panel.scatter(
                    *place, color=colours[i % 20], s=190, zorder=3 + len(rows) - i, edgecolors="k", linewidths=0.5
                )
                panel.annotate(str(i + 1), place, ha="center", va="center", fontsize=7.5, zorder=3.5 + len(rows) - i)
        if column != "peak MB":
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.margins(x=0.12, y=0.1)
        panel.set_xlabel(label)
        panel.axhline(0.5, color="0.6", lw=0.8, ls=":")
        panel.grid(alpha=0.25)
    handles = [
        Line2D(
            [], [], marker="o", ls="", ms=9, mec="k", mew=0.5, color=colours[i % 20], label=f"{i + 1}  {row['method']}"
        )
        for i, row in enumerate(rows)
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=8.5, frameon=False)
    panels[0].set_ylabel("O-AUROC, mean over classes")
    figure.suptitle(caption, fontsize=10)
    return _write(figure, file)


def draw_embeddings(file: Path, embeddings: dict[str, dict[str, Any]], caption: str) -> Path:
    """t-SNE of scans by kind, a panel per class and seed.

    Args:
        embeddings: title -> ``kinds`` [n] and ``places`` [n][2]. caption: data and schedule, written above the panels.
    """
    columns = min(3, len(embeddings))
    lines = -(-len(embeddings) // columns)
    figure = _figure(figsize=(4.4 * columns, 4.2 * lines))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, (title, found) in zip(panels, embeddings.items()):
        for kind, colour in COLOURS.items():
            places = [p for p, k in zip(found["places"], found["kinds"]) if k == kind]
            panel.scatter(*zip(*places), c=colour, marker=MARKERS[kind], s=34, label=kind, alpha=0.85, linewidths=0)
        panel.set_title(title, fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
    for panel in panels[len(embeddings) :]:
        panel.set_axis_off()
    panels[0].legend(loc="best", fontsize=8)
    figure.suptitle(caption, fontsize=10)
    return _write(figure, file)
