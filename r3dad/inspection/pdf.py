"""The inspection as a PDF for the file: a table of the parts, then every part that is not OK with its picture and defects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from r3dad.errors import InputError
from r3dad.scans import write_atomic

COLOURS = {"OK": (29, 107, 58), "NG": (179, 38, 30), "REVIEW": (138, 90, 0), "NOT THIS PART": (138, 90, 0)}
GREY = (98, 108, 116)
MOST = 500
"""Parts in the file; of a larger batch those that are not OK."""


def needed() -> Any:
    """The module fpdf.

    Raises:
        InputError: it is not installed.
    """
    try:
        import fpdf
    except ImportError:
        raise InputError('a PDF needs fpdf2; run: pip install "r3dad[pdf]"') from None
    return fpdf


def write_pdf(out: Path) -> Path:
    """``report.pdf`` in a folder that `r3dad.inspection.write` filled; letters outside of Latin-1 become ``?``.

    Raises:
        InputError: fpdf2 is not installed.
    """
    fpdf = needed()
    batch = json.loads((out / "inspection.json").read_text(encoding="utf-8"))
    total = sum(batch["verdicts"].values())
    every = total <= MOST
    parts = list(islice((part for part in _parts(out) if every or part["verdict"] != "OK"), MOST))

    class Document(fpdf.FPDF):  # type: ignore[name-defined,misc]
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("Helvetica", size=8)
            self.set_text_color(*GREY)
            self.cell(0, 6, _plain(f"r3dad {batch['r3dad']}, {batch['date']}, page {self.page_no()}"), align="R")

    pdf = Document(format="A4")
    pdf.set_title(_plain(batch["title"]))
    pdf.set_auto_page_break(True, margin=16)
    pdf.add_page()
    _line(pdf, batch["title"], 18, bold=True)
    said = ", ".join(f"{n} {v}" for v, n in batch["verdicts"].items() if n)
    _line(pdf, f"{total} parts: {said}", 11)
    if not every:
        _line(pdf, f"Below: {len(parts)} that are not OK. parts.csv holds all.", 9, GREY)
    for name, value in batch["settings"].items():
        _line(pdf, f"{name}: {value}", 8, GREY)
    pdf.ln(3)
    rows = [("Part", "Verdict", "Score", "Defects", "Worst", "RMS mm", "Note")]
    for part in parts:
        worst = part["defects"][0] if part["defects"] else None
        rows.append(
            (
                part["name"],
                part["verdict"],
                "" if part["score"] is None else f"{part['score']:.2f}",
                str(len(part["defects"]) or ""),
                "" if worst is None else f"{worst['kind']} {_depth(worst)}{' mm' * (worst['depth_mm'] is not None)}",
                "" if part["alignment"] is None else f"{part['alignment']['rms_mm']:.3f}",
                part["note"],
            )
        )
    _table(pdf, rows, (40, 24, 14, 14, 34, 16, 48))
    for part in parts:
        if part["verdict"] != "OK" and part["points"]:
            _part(pdf, out, part)
    return write_atomic(out / "report.pdf", bytes(pdf.output()))


def _parts(out: Path) -> Iterator[dict[str, Any]]:
    with open(out / "parts.jsonl", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _part(pdf: Any, out: Path, part: dict[str, Any]) -> None:
    if pdf.get_y() > 190:
        pdf.add_page()
    pdf.ln(6)
    _line(pdf, f"{part['name']}: {part['verdict']}", 12, COLOURS.get(part["verdict"], GREY), bold=True)
    facts = []
    if part["score"] is not None:
        facts.append(f"score {part['score']:.2f}, threshold {part['threshold']:.2f}")
    if part["alignment"]:
        facts.append(
            f"{part['alignment']['overlap']:.1%} of the scan on the part, {part['alignment']['coverage']:.0%} of the part seen, "
            f"{part['alignment']['rms_mm']:.3f} mm RMS"
        )
    _line(pdf, "; ".join(filter(None, (*facts, part["note"]))), 9, GREY)
    if part["ply"]:
        pdf.image(str(out / "thumbnails" / part["ply"].replace(".ply", ".png")), w=70)
    rows = [("#", "Kind", "Depth mm", "Area mm²", "Size mm", "Depth / tolerance", "Centre in the scan mm")]
    for d in part["defects"]:
        share = d["share_of_tolerance"]
        size, centre = (" × ".join(f"{v:.1f}" for v in d["extent_mm"]), ", ".join(f"{v:.1f}" for v in d["centre_scan"]))
        rows.append(
            (str(d["id"]), d["kind"], _depth(d), f"{d['area_mm2']:.1f}", size, f"{share:.1f}" if share else "", centre)
        )
    if part["defects"]:
        _table(pdf, rows, (8, 26, 22, 22, 38, 24, 50))


def _depth(defect: dict[str, Any]) -> str:
    return "open" if defect["depth_mm"] is None else f"{defect['depth_mm']:+.2f}"


def _plain(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")


def _line(pdf: Any, text: str, size: int, colour: tuple[int, int, int] = (28, 34, 38), bold: bool = False) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, 0.5 * size, _plain(text), new_x="LMARGIN", new_y="NEXT")


def _table(pdf: Any, rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> None:
    pdf.set_font("Helvetica", size=8)
    pdf.set_text_color(28, 34, 38)
    pdf.set_draw_color(224, 227, 230)
    with pdf.table(col_widths=widths, line_height=5, borders_layout="HORIZONTAL_LINES", text_align="LEFT") as table:
        for row in rows:
            line = table.row()
            for text in row:
                line.cell(_plain(text))
