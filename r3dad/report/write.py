"""Everything a batch of results leaves on disk: scores.csv, one coloured PLY and one picture per scan, report.html."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r3dad.errors import InputError
from r3dad.report.colours import Scale, deviation_map, deviation_scale, heat_map, score_scales
from r3dad.report.growing import Growing
from r3dad.report.item import ReportItem
from r3dad.report.las import write_las
from r3dad.report.pack import pack, thinned
from r3dad.report.page import page
from r3dad.report.spool import Spool
from r3dad.report.thumbnail import DEFAULT_VIEW, best_view, render
from r3dad.scans import write_atomic, write_ply

SCANS_IN_PAGE = 500  # the worst ones, where there are more
POINTS_PER_SCAN = 200_000  # most points of one scan in the page
POINTS_IN_PAGE = 1_500_000  # most points of all scans in the page: about 14 MB, 24 MB with deviation and displacement
THUMBNAIL_POINTS = 60_000
HISTOGRAM_BINS = 64  # four of the 256 levels each
CSV_COLUMNS = (
    "name",
    "score",
    "threshold",
    "verdict",
    "truth",
    "points",
    "points_above",
    "point_score_max",
    "seconds",
    "note",
    "ply",
)


def write_report(
    out: Path,
    items: Iterable[ReportItem],
    *,
    title: str,
    settings: Mapping[str, str],
    threshold: float | None,
    point_threshold: float | None = None,
    unit: str = "mm",
    table: str | None = "scores.csv",
    by_deviation: bool = False,
) -> Path:
    """Write the table (`scores.csv`; None: no table), `<name>.ply`, `thumbnails/<name>.png` and `report.html` into the
    folder `out`; returns the path of the page.

    items may be a generator: one is held in memory at a time, and all are parked in a temporary folder inside `out`
    (about as large as the PLYs) until the colour scale of the whole batch is known. An item that is not listed is counted
    and nothing more. The page shows the SCANS_IN_PAGE worst scans and counts all. Every PLY holds all points with
    heat colours (by_deviation: those of the deviation) and the property `scalar_anomaly_score` (and `scalar_deviation`,
    `scalar_limit_low`, `scalar_limit_high`, `scalar_label` where given), and so has the LAS of an item that asks for one. The
    page holds at most POINTS_PER_SCAN points of a scan and POINTS_IN_PAGE in total. threshold is for the score of a
    scan, point_threshold for those of its points (None: unknown); unit is that of coordinates and deviation. File
    names are the items' names with characters that are unsafe in a file name replaced, and numbered where they would
    meet. Every file is written whole or not at all, the page last.

    Raises InputError: no items, items that do not fit together, a folder that cannot be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        parked = tempfile.TemporaryDirectory(dir=out, prefix=".parked-")
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); choose a folder that you may write to"
        ) from None
    rows: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    with parked as folder, Growing(out / table) if table else contextlib.nullcontext() as lines:
        spool = Spool(Path(folder))
        spool.fill(items)
        if not spool.counts:
            raise InputError("report: no results to write; give at least one scan")
        scores, spread = score_scales(spool.score_lows, spool.score_peaks, point_threshold)
        deviations = deviation_scale(spool.deviation_peaks, spool.band)
        signed = deviation_map(*map(int, deviations.levels(np.array(spool.band)))) if spool.band else deviation_map()
        shown = spool.worst(SCANS_IN_PAGE)
        budget = min(POINTS_PER_SCAN, POINTS_IN_PAGE // max(len(shown), 1))
        taken: set[str] = set()
        if lines:
            lines.row(CSV_COLUMNS)
        for number, item in enumerate(spool.drain()):
            row = _row(item, point_threshold)
            block = b""
            if len(item.points):
                file = file_name(item.name, taken)
                row["ply"] = f"{file}.ply"
                colours = heat_map()[scores.levels(item.point_scores)]
                painted = colours
                if by_deviation and item.deviation is not None:
                    painted = signed[deviations.levels(item.deviation)]
                write_ply(out / row["ply"], item.points, scalars=_scalars(item), colors=painted)
                if item.las:
                    write_las(out / f"{file}.las", item.points, scalars=_scalars(item), colors=painted)
                about, block, image = _shown(item, colours, scores, deviations, point_threshold, budget)
                row |= about
                row["histogram"] = np.bincount(spread.levels(item.point_scores) // 4, minlength=HISTOGRAM_BINS).tolist()
                if item.deviation is not None:
                    levels = deviations.levels(item.deviation) // 4
                    row["spread"] = np.bincount(levels, minlength=HISTOGRAM_BINS).tolist()
                write_atomic(out / "thumbnails" / f"{file}.png", _encoded(image, "PNG"))
            if lines:
                own = threshold if row["threshold"] is None else row["threshold"]
                lines.row((row | {"threshold": own})[column] for column in CSV_COLUMNS)
            if number in shown:
                rows.append(row)
                blocks.append(block)
        if lines:
            lines.done()
    html = page(
        rows,
        blocks,
        spool.counts,
        title=title,
        settings=settings,
        threshold=threshold,
        point_threshold=point_threshold,
        unit=unit,
        scores=scores,
        histogram=spread,
        deviations=deviations,
        band=spool.band,
        signed=signed,
    )
    return write_atomic(out / "report.html", html)


def _row(item: ReportItem, point_threshold: float | None) -> dict[str, Any]:
    known = len(item.points) > 0
    return {
        "name": item.name,
        "score": float(item.score) if math.isfinite(item.score) else None,
        "verdict": item.words,
        "threshold": item.threshold,
        "alignment": item.alignment,
        "defects": [dict(d) for d in item.defects],
        "truth": item.truth,
        "points": len(item.points),
        "points_above": int((item.point_scores > point_threshold).sum()) if point_threshold is not None else None,
        "point_score_max": float(item.point_scores.max()) if known else None,
        "seconds": item.seconds,
        "note": " ".join(item.note.split()),
        "ply": None,
        "shown": 0,
    }


def _shown(
    item: ReportItem, colours: np.ndarray, scores: Scale, deviations: Scale, point_threshold: float | None, budget: int
) -> tuple[dict[str, Any], bytes, Image.Image]:
    """Description, base64 points and picture of one scan for the page."""
    limit = point_threshold if point_threshold is not None else float(np.quantile(item.point_scores, 0.995))
    hot = np.asarray(item.point_scores) > limit
    keep = thinned(len(item.points), hot, budget)
    about, block = pack(item, keep, scores, deviations)
    few = thinned(len(item.points), hot, THUMBNAIL_POINTS)
    points = np.asarray(item.points, float)[few]
    view = best_view(points, hot[few]) if item.is_defective else DEFAULT_VIEW
    image = render(points, colours[few], view)
    about["toward"] = view
    about["thumbnail"] = (
        "data:image/webp;base64," + base64.b64encode(_encoded(image.resize((200, 150)), "WEBP", quality=80)).decode()
    )
    return about, block, image


def _scalars(item: ReportItem) -> dict[str, np.ndarray]:
    low, high = (None, None) if item.limits is None else np.asarray(item.limits, float).T
    given = {
        "scalar_anomaly_score": item.point_scores,
        "scalar_deviation": item.deviation,
        "scalar_limit_low": low,
        "scalar_limit_high": high,
        "scalar_label": item.labels,
    }
    return {name: np.asarray(values) for name, values in given.items() if values is not None}


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def file_name(name: str, taken: set[str]) -> str:
    """A name that is safe on every file system and not yet `taken` (compared without case, as some file systems do)."""
    safe = re.sub(r"[^\w.()+=,@ -]", "_", name).strip(". ")[:120] or "scan"
    free, number = safe, 2
    while free.casefold() in taken:
        free, number = f"{safe}-{number}", number + 1
    taken.add(free.casefold())
    return free
