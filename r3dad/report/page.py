"""report.html: one file that loads nothing else. Names and notes are text: escaped in the table, `<` written as
\\u003c in the data."""

from __future__ import annotations

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

import numpy as np

import r3dad
from r3dad.report.colours import Scale, heat_map
from r3dad.report.item import WORST_FIRST

_TONES = {
    "defective": "defective",
    "NG": "defective",
    "REVIEW": "review",
    "NOT THIS PART": "review",
    "good": "good",
    "OK": "good",
}
_PAGE_FIELDS = (
    "name",
    "score",
    "verdict",
    "truth",
    "points",
    "points_above",
    "seconds",
    "note",
    "ply",
    "shown",
    "corner",
    "extent",
    "spacing",
    "deviation",
    "labels",
    "shift_scale",
    "toward",
    "histogram",
    "spread",
    "threshold",
    "alignment",
    "defects",
)


def page(
    rows: Sequence[Mapping[str, Any]],
    blocks: Sequence[bytes],
    counts: Counter[tuple[str | None, str | None]],
    *,
    title: str,
    settings: Mapping[str, str],
    threshold: float | None,
    point_threshold: float | None,
    unit: str,
    scores: Scale,
    histogram: Scale,
    deviations: Scale,
    band: tuple[float, float] | None,
    signed: np.ndarray,
) -> bytes:
    """The page as UTF-8. rows: one mapping per scan shown as `write_report` makes them; blocks: their points in base64 (b''
    for none); counts: of all scans by verdict and truth; band: the tolerance in green; signed: the colours of the
    deviation uint8 [256, 3]."""
    places = 2 if any(abs(row["score"] or 0) >= 1 for row in rows) else 4  # of every score in the page
    worst = sorted(range(len(rows)), key=lambda i: (WORST_FIRST.index(rows[i]["verdict"]), -(rows[i]["score"] or 0)))
    data = {
        "unit": unit,
        "places": places,
        "verdicts": WORST_FIRST,
        "threshold": threshold,
        "point_threshold": point_threshold,
        "scores": [scores.low, scores.high],
        "histogram": [histogram.low, histogram.high],
        "deviations": [deviations.low, deviations.high],
        "band": band,
        "colours": base64.b64encode(np.concatenate([heat_map(), signed]).tobytes()).decode(),
        "scans": [{name: row[name] for name in _PAGE_FIELDS if name in row} for row in rows],
    }
    parts = {
        "title": html.escape(title),
        "summary": _summary(counts, len(rows)),
        "settings": "".join(
            f"<div><dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd></div>" for k, v in settings.items()
        ),
        "made": f"r3dad {html.escape(r3dad.__version__)}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        "verdicts": "".join(
            f'<option value="{v or "none"}">{v or "no verdict"}</option>'
            for v in WORST_FIRST
            if any(r["verdict"] == v for r in rows)
        ),
        "columns": _columns(),
        "rows": "\n".join(_table_row(i, rows[i], threshold, places) for i in worst),
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "style": _asset("page.css"),
        "viewer": _asset("viewer.js"),
        "script": _asset("page.js"),
    }
    before, after = (
        re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], half).encode()
        for half in _asset("page.html").split("{{points}}")
    )
    points = (
        b'<script type="application/octet-stream" id="points-%d">%b</script>\n' % (i, b)
        for i, b in enumerate(blocks)
        if b
    )
    return b"".join([before, *points, after])


def _asset(name: str) -> str:
    return files("r3dad.report").joinpath("assets", name).read_text(encoding="utf-8")


def _said(verdict: str | None) -> str | None:
    """Good or defective, where the verdict says either."""
    return {"NG": "defective", "OK": "good", "good": "good", "defective": "defective"}.get(str(verdict))


def _summary(counts: Counter[tuple[str | None, str | None]], shown: int) -> str:
    total, verdicts = counts.total(), Counter[str | None]()
    for (verdict, _), count in counts.items():
        verdicts[verdict] += count
    chips = [f"<li><b>{total}</b> scan{'s' * (total != 1)}</li>"]
    chips += [
        f'<li class="{_TONES.get(str(v), "none")}"><b>{verdicts[v]}</b> {v or "no verdict"}</li>'
        for v in WORST_FIRST
        if verdicts[v]
    ]
    judged = Counter[tuple[str, str]]()
    for (verdict, truth), count in counts.items():
        if truth and (said := _said(verdict)):
            judged[said, truth] += count
    if judged:
        found, alarms = judged["defective", "defective"], judged["defective", "good"]
        bad = found + judged["good", "defective"]
        chips.append(
            f"<li>against the truth: {found} of {bad} defective found, {alarms} false alarm{'s' * (alarms != 1)}</li>"
        )
    if shown < total:
        chips.append(f"<li>{f'the {shown} worst are below' if shown else 'none is shown'}; the tables hold all</li>")
    return "".join(chips)


def _columns() -> str:
    names = [("name", "Scan", ""), ("score", "Score", "number"), ("verdict", "Verdict", "")]
    names += [("points", "Points", "number wide"), ("seconds", "Time", "number wide")]
    return "".join(
        f'<th scope="col" class="{kind}" aria-sort="none"><button data-key="{key}">{text}</button></th>'
        for key, text, kind in names
    )


def _bar(score: float | None, threshold: float | None) -> str:
    """How full the bar is, its middle the threshold: in proportion, or for log-odds (a threshold below 0) as a chance."""
    if score is None or not threshold:
        return ""
    full = 50 * score / threshold if threshold > 0 else 100 / (1 + np.exp(np.clip(threshold - score, -50, 50)))
    width = f"{min(max(full, 0), 100):.0f}%"
    return (
        f'<span class="bar" aria-hidden="true" title="the tick is the threshold"><i style="width:{width}"></i></span>'
    )


def _table_row(i: int, row: Mapping[str, Any], threshold: float | None, places: int) -> str:
    score = row["score"]
    bar = _bar(score, threshold if row["threshold"] is None else row["threshold"])
    picture = (
        f'<img src="{row["thumbnail"]}" alt="" width="84" height="63">'
        if "thumbnail" in row
        else '<span class="blank"></span>'
    )
    note = f"<small>{html.escape(row['note'])}</small>" if row["note"] else ""
    tone = _TONES.get(str(row["verdict"]), "none")
    said = _said(row["verdict"])
    mistaken = row["truth"] and said and row["truth"] != said
    wrong = (
        f'<small class="wrong">{"missed" if row["truth"] == "defective" else "false alarm"}</small>' if mistaken else ""
    )
    listed = ""
    if row["defects"]:
        more = f" +{len(row['defects']) - 1}" if len(row["defects"]) > 1 else ""
        listed = f"<small>{html.escape(row['defects'][0]['kind'])}{more}</small>"
    cells = [
        f'<th scope="row"><button class="pick" data-scan="{i}">{picture}<span>{html.escape(row["name"])}{note}</span></button></th>',
        f'<td class="number">{"" if score is None else f"{score:.{places}f}"}{bar}</td>',
        f'<td><span class="badge {tone}">{row["verdict"] or "no verdict"}</span>{wrong}{listed}</td>',
    ]
    seconds = row["seconds"]
    cells.append(f'<td class="number wide">{row["points"]:,}</td>'.replace(",", "\u202f"))
    cells.append(f'<td class="number wide">{"" if seconds is None else f"{seconds:.2f} s"}</td>')
    return f'<tr data-scan="{i}" class="{tone}">{"".join(cells)}</tr>'
