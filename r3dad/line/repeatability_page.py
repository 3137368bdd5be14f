"""The page of a repeatability study: figures, run charts, a map of the spread; one file that loads nothing."""

from __future__ import annotations

import base64
import html
import io
import math
from datetime import datetime

import numpy as np

from r3dad import __version__
from r3dad.line.gauge import CAPABLE, DEVIATIONS, ENOUGH, PERCENT, Type1
from r3dad.line.index_page import COLOURS
from r3dad.line.repeatability import Repeatability

_VIEWS = ((0.58, -0.66, 0.48), (-0.58, 0.66, -0.48))
_WIDTH, _HEIGHT = 560, 170
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--ink:#1b6ca8;--soft:#1b6ca822}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:76rem;padding:1rem}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
ul.chips{display:flex;flex-wrap:wrap;gap:.6rem;list-style:none;padding:0}
ul.chips li{border:1px solid var(--line);border-radius:.5rem;padding:.4rem .9rem}
ul.chips b{font-size:1.3rem;margin-right:.4rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.yes{color:#1a7f4b;font-weight:600}.no{color:#c0392b;font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));gap:1rem}
figure{margin:0}figcaption{font-size:.9rem}
svg{width:100%;height:auto;font:11px system-ui,sans-serif;fill:currentColor}
.maps{display:flex;flex-wrap:wrap;gap:1rem}.maps img{max-width:100%}
.warn{border-left:.3rem solid #b7791f;padding:.3rem .8rem}
small{opacity:.8}
.ramp{display:inline-block;width:10rem;height:.8rem;vertical-align:middle;margin:0 .5rem;border-radius:.2rem}
"""


def page(result: Repeatability) -> str:
    """The page as text."""
    count = len(result.rows)
    chips = "".join(f'<li><b style="color:{COLOURS[v]}">{n}</b>{v}</li>' for v, n in result.verdicts.most_common())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Repeatability: {html.escape(result.model)}</title><style>{_STYLE}</style></head><body>
<h1>Repeatability: {html.escape(result.model)}</h1>
<small>{count} scans of one part; r3dad {__version__}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}</small>
<ul class="chips">{chips}{_agreement(result)}</ul>
{_warnings(result)}
<h2>Type-1 gauge study</h2>
<div class="scroll"><table><thead><tr><th>Measured</th><th class="n">mean</th><th class="n">s</th>
<th class="n">range</th><th class="n">bias</th>
<th class="n">t (p)</th><th class="n">Cg</th><th class="n">Cgk</th><th>capable</th></tr></thead><tbody>
{"".join(map(_study_row, result.studies))}</tbody></table></div>
{_definitions(result)}
<h2>In the order of the scans</h2>
<div class="charts">{"".join(_chart(study, result) for study in result.studies)}</div>
{_map(result)}
<h2>Scans</h2>
<div class="scroll"><table><thead><tr><th>Scan</th><th>Verdict</th><th class="n">score</th>
<th class="n">lowest deviation, mm</th><th class="n">highest, mm</th>
<th>Note</th></tr></thead><tbody>
{"".join(map(_scan_row, result.rows))}</tbody></table></div>
</body></html>
"""


def _agreement(result: Repeatability) -> str:
    share = result.verdicts.most_common(1)[0][1] / len(result.rows)
    far = result.to_threshold
    said = "no spread" if math.isinf(far) else f"{far:.1f}"
    return f"<li><b>{share:.0%}</b>same verdict</li><li><b>{said}</b>standard deviations from score to threshold</li>"


def _warnings(result: Repeatability) -> str:
    lines = []
    if len(result.rows) < ENOUGH:
        lines.append(f"{len(result.rows)} scans are few: a Type-1 study usually takes {ENOUGH} to 50.")
    if result.to_threshold < 3:
        lines.append(
            "The score lies within 3 standard deviations of the threshold: the verdict of this part may turn from scan to scan."
        )
    if result.tolerance is None:
        lines.append("No tolerance was given (--tolerance), so there is no Cg.")
    return "".join(f'<p class="warn">{line}</p>' for line in lines)


def _number(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else "&infin;" if value == math.inf else f"{value:{form}}"


def _study_row(study: Type1) -> str:
    verdict = {None: "", True: '<span class="yes">yes</span>', False: '<span class="no">no</span>'}[study.capable]
    t = "" if study.t is None or study.p is None else f"{_number(study.t, '.2f')} ({study.p:.3f})"
    unit = f" ({study.unit})" if study.unit else ""
    cells = [_number(v) for v in (study.mean, study.s, float(np.ptp(study.values)), study.bias)]
    cells += [t, _number(study.cg, ".2f"), _number(study.cgk, ".2f")]
    return f"<tr><td>{html.escape(study.name)}{unit}</td>{''.join(f'<td class=n>{c}</td>' for c in cells)}<td>{verdict}</td></tr>\n"


def _definitions(result: Repeatability) -> str:
    t = "T" if result.tolerance is None else f"T = {result.tolerance:g} mm"
    r = "" if result.reference is None else f", r = {result.reference:g} mm"
    return (
        f"<p><small>{t}{r}. Cg = {PERCENT / 100:g} T / (6 s); Cgk = ({PERCENT / 200:g} T - |mean - r|) / (3 s); capable from {CAPABLE}. "
        "s: standard deviation of the scans. The bias is tested with t = |bias| &radic;n / s; p below 0.05 says that there is one. "
        "Definitions: Minitab, Methods and formulas for Type 1 Gage Study; Bosch, booklet 10.</small></p>"
    )


def _chart(study: Type1, result: Repeatability) -> str:
    """Values in their order, their mean and 3 s, and the reference with a tenth of the tolerance on both sides."""
    x, n = study.values, len(study.values)
    lines = [(study.mean, "mean", "4 3")]
    band = (study.mean - 3 * study.s, study.mean + 3 * study.s)
    if study.unit == "" and math.isfinite(result.threshold):
        lines.append((result.threshold, "threshold", "1 0"))
    if study.reference is not None:
        lines.append((study.reference, "reference", "1 0"))
        if study.tolerance is not None:
            tenth = PERCENT / 200 * study.tolerance
            lines += [(study.reference + tenth, "+0.1 T", "6 3"), (study.reference - tenth, "-0.1 T", "6 3")]
    heights = [*x, *band, *(height for height, _, _ in lines)]
    low, high = min(heights), max(heights)
    room = 0.06 * (high - low) or 1.0
    low, high = low - room, high + room

    def at(value: float) -> float:
        return _HEIGHT - 14 - (value - low) / (high - low) * (_HEIGHT - 24)

    def across(i: int) -> float:
        return 60 + i / max(n - 1, 1) * (_WIDTH - 150)

    dots = "".join(
        f'<circle cx="{across(i):.1f}" cy="{at(v):.1f}" r="2.6" fill="var(--ink)"/>' for i, v in enumerate(x)
    )
    path = " ".join(f"{across(i):.1f},{at(v):.1f}" for i, v in enumerate(x))
    rules, last = "", math.inf
    for v, words, dash in sorted(lines):
        last = min(at(v) + 4, last - 11)  # names of lines that lie close stand one above the other
        rules += (
            f'<line x1="60" x2="{_WIDTH - 90}" y1="{at(v):.1f}" y2="{at(v):.1f}" stroke="currentColor" stroke-dasharray="{dash}" '
            f'stroke-width=".8"/><text x="{_WIDTH - 86}" y="{last:.1f}">{words}</text>'
        )
    ends = "".join(
        f'<text x="56" y="{at(v) + 4:.1f}" text-anchor="end">{v:.3g}</text>' for v in (low + room, high - room)
    )
    top, bottom = at(band[1]), at(band[0])
    return (
        f"<figure><figcaption>{html.escape(study.name)}{f' ({study.unit})' if study.unit else ''}; shaded: mean &plusmn; 3 s</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><rect x="60" width="{_WIDTH - 150}" y="{top:.1f}" '
        f'height="{max(bottom - top, 0.5):.1f}" fill="var(--soft)"/>{rules}<polyline points="{path}" fill="none" stroke="var(--ink)" '
        f'stroke-width="1"/>{dots}{ends}<text x="60" y="{_HEIGHT - 2}">scan 1</text>'
        f'<text x="{_WIDTH - 90}" y="{_HEIGHT - 2}" text-anchor="end">scan {n}</text></svg></figure>\n'
    )


def _map(result: Repeatability) -> str:
    """The places on the part, coloured by the spread at each."""
    if not len(result.places):
        return ""
    from scipy.spatial import cKDTree

    from r3dad.report.colours import heat_map
    from r3dad.report.thumbnail import render

    colours, top = heat_map(), float(result.spread.max()) or 1.0
    levels = np.clip(result.spread / top * 255, 0, 255).astype(int)[cKDTree(result.places).query(result.cloud)[1]]
    pictures = []
    for view in _VIEWS:
        buffer = io.BytesIO()
        render(result.cloud, colours[levels], view, 480, 360).save(buffer, "WEBP", quality=85)
        pictures.append(f'<img alt="" src="data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}">')
    steps = ",".join("rgb({},{},{})".format(*colours[i]) for i in range(0, 256, 51))
    typical, most, largest = (float(v) for v in np.quantile(result.spread, (0.5, 0.95, 1)))
    capable = ""
    if result.tolerance is not None and most:
        cg = PERCENT / 100 * result.tolerance / (DEVIATIONS * most)
        capable = f" At 95 % of the places Cg is at least {cg:.2f}."
    left = f" {result.left_out} places that some scan does not show are left out." if result.left_out else ""
    return (
        "<h2>Where it spreads</h2><p>Standard deviation of the mean deviation within "
        f"{result.radius:.1f} mm of {len(result.places)} places: median {typical:.4f} mm, 95 % below {most:.4f} mm, largest "
        f"{largest:.4f} mm.{capable}{left}<br>0 "
        f'<span class="ramp" style="background:linear-gradient(to right,{steps})"></span> {top:.3g} mm</p>'
        f'<div class="maps">{"".join(pictures)}</div>'
    )


def _scan_row(row: dict[str, object]) -> str:
    cells = [
        "" if not isinstance(v, float) or math.isnan(v) else f"{v:.4f}" for v in (row["score"], row["low"], row["high"])
    ]
    return (
        f'<tr><td>{html.escape(str(row["name"]))}</td><td style="color:{COLOURS[str(row["verdict"])]}">{row["verdict"]}</td>'
        f"{''.join(f'<td class=n>{c}</td>' for c in cells)}<td>{html.escape(str(row['note']))}</td></tr>\n"
    )
