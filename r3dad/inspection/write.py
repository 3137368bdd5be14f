"""The folder that a batch of inspections leaves: page, JSON, tables, coloured clouds."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import __version__
from r3dad.inspection.inspection import VERDICTS, Inspection
from r3dad.report import ReportItem, write_report
from r3dad.report.write import cell, file_name
from r3dad.scans import write_atomic

BATCH_SCHEMA = "r3dad.inspection.batch/1"
HOT = 0.5
"""Point score from which a point is shown as hot."""
PARTS = (
    "name", "verdict", "score", "threshold", "review_low", "review_high", "defects", "worst_kind", "worst_depth_mm",
    "rms_mm", "overlap", "margin", "points", "outside_limits", "seconds", "note",
)  # fmt: skip
DEFECTS = (
    "part", "id", "kind", "scan_x", "scan_y", "scan_z", "part_x", "part_y", "part_z", "length_mm", "width_mm", "height_mm",
    "area_mm2", "depth_mm", "volume_mm3", "score", "tolerance_mm", "share_of_tolerance", "outside_limits", "points",
)  # fmt: skip


def write(
    out: Path, inspections: Iterable[Inspection], *, title: str, settings: Mapping[str, str] | None = None
) -> Path:
    """Write ``report.html``, ``inspection.json``, ``parts.csv``, ``defects.csv`` and one coloured PLY per scan into the folder ``out``.

    A scan that came as LAS or LAZ gets a LAS too. ``inspections`` may be a generator: one is held in memory at a time.
    docs/inspect.md describes the files. Every file is written whole or not at all, the page last.

    Returns the path of the page.

    Raises:
        InputError: nothing to write, or a folder that cannot be written.
    """
    out = Path(out)
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()

    def items() -> Iterator[ReportItem]:
        for inspection in inspections:
            named = f"{file_name(inspection.name, taken)}.ply" if len(inspection.points) else None
            rows.append(inspection.to_json() | {"ply": named})
            yield report_item(inspection)
        batch = {
            "schema": BATCH_SCHEMA,
            "r3dad": __version__,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "title": title,
            "settings": dict(settings or {}),
            "verdicts": {v: sum(row["verdict"] == v for row in rows) for v in VERDICTS},
            "parts": rows,
        }
        if rows:
            write_atomic(out / "inspection.json", json.dumps(batch, indent=1, allow_nan=False))
            write_atomic(out / "parts.csv", _table(PARTS, map(_part, rows)))
            write_atomic(out / "defects.csv", _table(DEFECTS, (_defect(r, d) for r in rows for d in r["defects"])))

    return write_report(
        out,
        items(),
        title=title,
        settings=settings or {},
        threshold=None,
        point_threshold=HOT,
        table=None,
        by_deviation=True,
    )


def report_item(inspection: Inspection) -> ReportItem:
    """The inspection as the report takes it."""
    lies = inspection.alignment
    margin = "" if lies is None or lies.margin == float("inf") else f", next pose {lies.margin:.0%} worse"
    known = len(inspection.points) > 0 and lies is not None
    return ReportItem(
        name=inspection.name,
        points=inspection.points,
        point_scores=inspection.point_scores,
        score=inspection.score,
        is_defective={"OK": False, "NG": True}.get(inspection.verdict),
        displacement=inspection.displacement,
        deviation=inspection.deviation if known else None,
        verdict=inspection.verdict,
        threshold=None if math.isnan(inspection.threshold) else inspection.threshold,
        alignment="" if lies is None else f"alignment: RMS {lies.rms_mm:.3g} mm, overlap {lies.overlap:.1%}{margin}",
        limits=inspection.limits if known else None,
        band=(float(np.median(inspection.limits[:, 0])), float(np.median(inspection.limits[:, 1]))) if known else None,
        defects=[d.to_json() for d in inspection.defects],
        las=inspection.source is not None and inspection.source.suffix.lower() in (".las", ".laz"),
        note=inspection.note,
        seconds=inspection.seconds,
    )


def _part(row: dict[str, Any]) -> list[Any]:
    worst = row["defects"][0] if row["defects"] else {}
    lies = row["alignment"] or {}
    given = row | {
        "review_low": row["review"][0],
        "review_high": row["review"][1],
        "defects": len(row["defects"]),
        "worst_kind": worst.get("kind"),
        "worst_depth_mm": worst.get("depth_mm"),
        **{k: lies.get(k) for k in ("rms_mm", "overlap", "margin")},
    }
    return [given[name] for name in PARTS]


def _defect(row: dict[str, Any], defect: dict[str, Any]) -> list[Any]:
    given = defect | {"part": row["name"]}
    for frame in ("scan", "part"):
        given |= dict(zip((f"{frame}_x", f"{frame}_y", f"{frame}_z"), defect[f"centre_{frame}"], strict=True))
    given |= dict(zip(("length_mm", "width_mm", "height_mm"), defect["extent_mm"], strict=True))
    return [given[name] for name in DEFECTS]


def _table(columns: tuple[str, ...], rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows([cell(v) for v in row] for row in rows)
    return text.getvalue()
