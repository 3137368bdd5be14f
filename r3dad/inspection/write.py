"""The folder that a batch of inspections leaves: page, JSON, tables, coloured clouds."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r3dad import __version__
from r3dad.errors import InputError
from r3dad.inspection.inspection import VERDICTS, Inspection
from r3dad.report import ReportItem, write_report
from r3dad.report.growing import Growing
from r3dad.report.write import file_name
from r3dad.scans import write_atomic

BATCH_SCHEMA = "r3dad.inspection.batch/2"
PAGES = ("all", "bad", "none")
HOT = 0.5
"""Point score from which a point is shown as hot."""
PARTS = (
    "name", "verdict", "score", "threshold", "review_low", "review_high", "defects", "worst_kind", "worst_depth_mm",
    "rms_mm", "overlap", "coverage", "margin", "points", "outside_limits", "seconds", "note",
)  # fmt: skip
DEFECTS = (
    "part", "id", "kind", "scan_x", "scan_y", "scan_z", "part_x", "part_y", "part_z", "length_mm", "width_mm", "height_mm",
    "area_mm2", "depth_mm", "volume_mm3", "score", "tolerance_mm", "share_of_tolerance", "outside_limits", "points",
)  # fmt: skip


def write(
    out: Path,
    inspections: Iterable[Inspection],
    *,
    title: str,
    settings: Mapping[str, str] | None = None,
    pages: str = "all",
) -> Path:
    """Write ``report.html``, ``inspection.json``, ``parts.jsonl``, ``parts.csv``, ``defects.csv`` and one coloured PLY per scan
    into the folder ``out``.

    A scan that came as LAS or LAZ gets a LAS too. pages: which parts get a place in the page, a PLY and a picture: ``all``, ``bad``
    (all that are not OK) or ``none``; the tables hold every part. ``inspections`` may be a generator: one is held in memory at
    a time. docs/inspect.md describes the files. Every file is written whole or not at all, the page last.

    Returns the path of the page.

    Raises:
        InputError: nothing to write, ``pages`` is something else, or a folder that cannot be written.
    """
    check_pages(pages)
    out = Path(out)
    count: Counter[str] = Counter()
    taken: set[str] = set()
    with (
        Growing(out / "parts.jsonl") as lines,
        Growing(out / "parts.csv") as parts,
        Growing(out / "defects.csv") as defects,
    ):

        def items() -> Iterator[ReportItem]:
            parts.row(PARTS)
            defects.row(DEFECTS)
            for inspection in inspections:
                listed = pages == "all" or (pages == "bad" and inspection.verdict != "OK")
                named = f"{file_name(inspection.name, taken)}.ply" if listed and len(inspection.points) else None
                row = inspection.to_json() | {"ply": named}
                lines.write(json.dumps(row, allow_nan=False) + "\n")
                parts.row(_part(row))
                for defect in row["defects"]:
                    defects.row(_defect(row, defect))
                count[inspection.verdict] += 1
                yield report_item(inspection, listed)
            if count:
                batch = {
                    "schema": BATCH_SCHEMA,
                    "r3dad": __version__,
                    "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "title": title,
                    "settings": dict(settings or {}),
                    "verdicts": {v: count[v] for v in VERDICTS},
                }
                for file in (lines, parts, defects):
                    file.done()
                write_atomic(out / "inspection.json", json.dumps(batch, indent=1))

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


def check_pages(pages: str) -> None:
    """Raises InputError: it is none of PAGES."""
    if pages not in PAGES:
        raise InputError(f"pages {pages!r}: expected {', '.join(PAGES[:-1])} or {PAGES[-1]}")


def report_item(inspection: Inspection, listed: bool) -> ReportItem:
    """The inspection as the report takes it; ``listed``: with a place in the page and files of its own."""
    lies = inspection.alignment
    margin = "" if lies is None or lies.margin >= 1 else f", another pose only {lies.margin:.0%} worse"
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
        alignment=""
        if lies is None
        else f"pose: {lies.overlap:.1%} of the scan on the part, {lies.coverage:.0%} of the part seen, "
        f"{lies.rms_mm:.3f} mm RMS{margin}",
        limits=inspection.limits if known else None,
        band=(float(np.median(inspection.limits[:, 0])), float(np.median(inspection.limits[:, 1]))) if known else None,
        defects=[d.to_json() for d in inspection.defects],
        las=inspection.source is not None and inspection.source.suffix.lower() in (".las", ".laz"),
        note=inspection.note,
        seconds=inspection.seconds,
        listed=listed,
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
        **{k: lies.get(k) for k in ("rms_mm", "overlap", "coverage", "margin")},
    }
    return [given[name] for name in PARTS]


def _defect(row: dict[str, Any], defect: dict[str, Any]) -> list[Any]:
    given = defect | {"part": row["name"]}
    for frame in ("scan", "part"):
        given |= dict(zip((f"{frame}_x", f"{frame}_y", f"{frame}_z"), defect[f"centre_{frame}"], strict=True))
    given |= dict(zip(("length_mm", "width_mm", "height_mm"), defect["extent_mm"], strict=True))
    return [given[name] for name in DEFECTS]
