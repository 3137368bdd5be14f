"""The page that hangs on the wall beside a watched folder: counts, the latest results, and whether the watcher is alive."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from r3dad.inspection import VERDICTS

QUIET = 90
"""Seconds after which the page says that it is out of date."""
COLOURS = {"OK": "#1a7f4b", "NG": "#c0392b", "REVIEW": "#b7791f", "NOT THIS PART": "#6b46c1", "UNREADABLE": "#5f6b7a"}

_STYLE = """
:root{color-scheme:light dark;--line:#8883}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem}
h1{font-size:1.3rem;margin:.2rem 0}
ul{display:flex;flex-wrap:wrap;gap:.6rem;list-style:none;padding:0}
li{border:1px solid var(--line);border-radius:.5rem;padding:.4rem .9rem}
li b{font-size:1.5rem;margin-right:.4rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.4rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.when{white-space:nowrap}
td.file{overflow-wrap:anywhere}
.badge{color:#fff;border-radius:.3rem;padding:.1rem .5rem;white-space:nowrap}
small{opacity:.75;display:block}
#old{background:#c0392b;color:#fff;padding:.5rem .8rem;border-radius:.4rem}
@media(max-width:40rem){.wide{display:none}body{padding:.5rem}.badge{white-space:normal;display:inline-block}}
"""
_SCRIPT = """
const old=document.getElementById('old'),made=Number(old.dataset.made);
const look=()=>{const s=Date.now()/1000-made;old.hidden=s<Number(old.dataset.quiet);
old.textContent='No news for '+Math.round(s/60)+' min: is the watcher running?'};look();setInterval(look,5000);
"""


def index_page(rows: Iterable[Mapping[str, Any]], counts: Mapping[str, int], *, title: str, state: str) -> str:
    """The page. rows: latest last, as `r3dad.line.journal.Journal.latest`; state: one line, such as the folder that is watched."""
    chips = "".join(
        f'<li><b style="color:{COLOURS[v]}">{counts.get(v, 0)}</b>{v}</li>' for v in VERDICTS if counts.get(v)
    )
    body = "\n".join(_table_row(row) for row in reversed(list(rows)))
    if not body:
        body = '<tr><td colspan="4">No scan yet.</td></tr>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="refresh" content="5"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1><small>{html.escape(state)}; last change {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}</small>
<p id="old" data-made="{time.time():.0f}" data-quiet="{QUIET}" hidden></p>
<ul>{chips}</ul>
<table><thead><tr><th>Time</th><th>Scan</th><th>Verdict, worst defect</th>
<th class="n wide">Score / threshold</th></tr></thead>
<tbody>
{body}
</tbody></table><script>{_SCRIPT}</script></body></html>
"""


def _table_row(row: Mapping[str, Any]) -> str:
    name = html.escape(row["file"])
    if row["page"]:
        name = f'<a href="{quote(row["page"])}">{name}</a>'
    reason = row["note"].rpartition(f"{row['file']}: ")[2]  # the file stands above it
    note = f"<small>{html.escape(reason)}</small>" if reason else ""
    score = "" if row["score"] is None else f"{row['score']:.2f}"
    if score and row["threshold"] is not None:
        score += f" / {row['threshold']:.2f}"
    worst = ""
    if row["worst_kind"]:
        depth = "" if row["worst_depth_mm"] is None else f" {row['worst_depth_mm']:+.2f} mm"
        more = f" and {row['defects'] - 1} more" if row["defects"] > 1 else ""
        worst = f"{row['worst_kind']}{depth}{more}"
    listed = f"<small>{html.escape(worst)}</small>" if worst else ""
    when = datetime.fromisoformat(row["time"]).astimezone()
    day = "" if when.date() == datetime.now().date() else f"<small>{when:%Y-%m-%d}</small>"
    return (
        f'<tr><td class="when">{day}{when:%H:%M:%S}</td><td class="file">{name}{note}</td>'
        f'<td><span class="badge" style="background:{COLOURS[row["verdict"]]}">{row["verdict"]}</span>{listed}</td>'
        f'<td class="n wide">{score}</td></tr>'
    )
