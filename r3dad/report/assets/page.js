// The page around the view: table, choice of scan, colours, legend, histogram.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const colours = bytes(data.colours);
const show = (v) => Number(v).toLocaleString("en", { maximumSignificantDigits: 4, useGrouping: false });
const brief = (v) => Number(v.toPrecision(3)).toString();
const rows = [...document.querySelectorAll("tbody tr")];
const rowOf = new Map(rows.map((r) => [Number(r.dataset.scan), r]));
const MODES = { score: { text: "Score", row: 0 }, deviation: { text: "Deviation", row: 1 }, truth: { text: "Truth", row: 0 } };
let view = null, chosen = -1, mode = "score";

// Byte layout: see r3dad/report/pack.py.
function decode(index) {
  const scan = data.scans[index], block = $("points-" + index);
  if (!block) return null;
  const raw = bytes(block.textContent).buffer, n = scan.shown;
  let at = 0;
  const take = (Type, count) => { const part = new Type(raw, at, count); at += part.byteLength; return part; };
  const position = take(Uint16Array, 3 * n), values = { score: take(Uint8Array, n) };
  if (scan.deviation) values.deviation = take(Uint8Array, n);
  if (scan.labels) values.truth = take(Uint8Array, n);
  const shift = scan.shift_scale ? take(Int8Array, 3 * n) : null;
  return { count: n, position, values, shift, shiftScale: scan.shift_scale, extent: scan.extent, spacing: scan.spacing, toward: scan.toward };
}

function choose(index) {
  if (index === chosen) return;
  rowOf.get(chosen)?.removeAttribute("aria-current");
  chosen = index;
  rowOf.get(index).setAttribute("aria-current", "true");
  const scan = data.scans[index], cloud = decode(index);
  $("name").textContent = scan.name;
  $("said").replaceChildren(...[...rowOf.get(index).querySelectorAll(".badge, .wrong")].map((e) => e.cloneNode(true)));
  const threshold = scan.threshold ?? data.threshold;
  const score = scan.score === null ? "no score" : `score ${scan.score.toFixed(data.places)}` + (threshold === null ? "" : ` (threshold ${threshold.toFixed(data.places)})`);
  const size = scan.extent ? `, ${scan.extent.map(show).join(" \u00d7 ")} ${data.unit}` : "";
  $("facts").textContent = `${score}, ${scan.points.toLocaleString("en")} points${scan.shown && scan.shown < scan.points ? ` (${scan.shown.toLocaleString("en")} shown)` : ""}${size}`;
  $("alignment").textContent = [scan.note, scan.alignment].filter(Boolean).join("; ");
  $("tip").hidden = true;
  listDefects(scan, Boolean(view && cloud));
  $("fallback").hidden = Boolean(view && cloud);
  if (!view || !cloud) fallback(cloud ? "This browser offers no WebGL 2, so here is the picture." : scan.note || "No points to show.");
  $("view").style.visibility = view && cloud ? "visible" : "hidden";
  $("morph").hidden = !cloud?.shift;
  $("morph").querySelector("input").value = 0;
  if (view && cloud) { view.morph = 0; view.show(cloud); }
  const modes = Object.keys(MODES).filter((m) => cloud?.values[m]);
  $("colour-by").replaceChildren(...modes.map((m) => {
    const b = document.createElement("button");
    b.type = "button"; b.textContent = MODES[m].text; b.dataset.mode = m; b.onclick = () => paint(m);
    return b;
  }));
  paint(modes.includes(mode) ? mode : "score");
}

// Table and markers of the scan's defects; a click on either jumps to the place.
function listDefects(scan, seen) {
  const cell = (text, kind) => { const c = document.createElement("td"); c.textContent = text; c.className = kind || ""; return c; };
  const sign = (v) => (v > 0 ? "+" : "") + v.toFixed(2);
  document.querySelector(".defects").hidden = !scan.defects.length;
  $("defects").replaceChildren(...scan.defects.map((d) => {
    const row = document.createElement("tr"), share = d.share_of_tolerance, u = data.unit;
    row.dataset.defect = d.id;
    row.append(cell(""), cell(d.kind), cell(d.depth_mm === null ? "open" : `${sign(d.depth_mm)} ${u}`, d.outside_limits ? "out" : ""), cell(`${show(d.area_mm2)} ${u}\u00b2`),
      cell(`${d.extent_mm.map((v) => v.toFixed(1)).join(" \u00d7 ")} ${u}`, "wide"), cell(share === null ? "" : `${share < 10 ? share.toFixed(1) : Math.round(share)} \u00d7`),
      cell(`${d.centre_scan.map((v) => v.toFixed(1)).join(", ")} ${u}`, "wide"));
    const b = document.createElement("button");
    b.type = "button"; b.textContent = d.id; b.title = "Show the place"; b.onclick = () => jump(d);
    row.firstChild.append(b);
    return row;
  }));
  $("markers").replaceChildren(...(seen ? scan.defects : []).map((d) => {
    const b = document.createElement("button");
    b.type = "button"; b.textContent = d.id; b.title = d.kind; b.dataset.defect = d.id; b.onclick = () => jump(d);
    return b;
  }));
}

const placeOf = (d) => d.marker.map((v, k) => v - data.scans[chosen].corner[k]);

function jump(d) {
  if (view?.cloud) view.lookAt(placeOf(d), d.normal, Math.hypot(...d.extent_mm));
  for (const r of $("defects").children) r.setAttribute("aria-current", r.dataset.defect === String(d.id));
  for (const b of $("markers").children) b.setAttribute("aria-pressed", b.dataset.defect === String(d.id));
}

function markers() {
  const marks = $("markers").children, scan = data.scans[chosen];
  for (let i = 0; i < marks.length; i++) {
    const d = scan.defects[i], [x, y, depth] = view.project(placeOf(d)), t = view.turn;
    marks[i].hidden = !depth;
    marks[i].style.left = `${x}px`; marks[i].style.top = `${y}px`;
    marks[i].className = t[6] * d.normal[0] + t[7] * d.normal[1] + t[8] * d.normal[2] < 0 ? "behind" : "";
  }
}

function fallback(text) {
  const picture = rowOf.get(chosen).querySelector("img")?.cloneNode();
  if (picture) { picture.removeAttribute("width"); picture.removeAttribute("height"); }
  $("fallback").replaceChildren(...(picture ? [picture] : []), text);
}

function paint(which) {
  mode = which;
  for (const b of $("colour-by").children) b.setAttribute("aria-pressed", b.dataset.mode === mode);
  histogram(data.scans[chosen]);
  if (view?.cloud && data.scans[chosen].shown) view.colourBy(mode, MODES[mode].row);
  const bar = $("bar").getContext("2d"), line = bar.createImageData(256, 1);
  for (let i = 0; i < 256; i++) { line.data.set(colours.subarray(768 * MODES[mode].row + 3 * i, 768 * MODES[mode].row + 3 * i + 3), 4 * i); line.data[4 * i + 3] = 255; }
  bar.putImageData(line, 0, 0);
  const [low, high] = mode === "deviation" ? data.deviations : data.scores;
  // Marks that would write over each other stand to the left and the right of their places.
  const close = data.band && at(data.band[1], data.deviations) - at(data.band[0], data.deviations) < 0.25;
  const ticks = mode === "truth" ? [[0, "good"], [1, "defect"]] : mode === "deviation"
    ? [[0, `${brief(low)} ${data.unit}`], ...(data.band ? data.band.map((v) => [at(v, data.deviations), (v > 0 ? "+" : "") + brief(v), `mark${close ? v > 0 ? " right" : " left" : ""}`]) : [[0.25, brief(low / 2)], [0.5, "0"], [0.75, `+${brief(high / 2)}`]]), [1, `+${brief(high)} ${data.unit}`]]
    : [[0, `\u2264 ${brief(low)}`], ...(data.point_threshold === null ? [] : [[at(data.point_threshold), brief(data.point_threshold), "mark"]]), [1, `\u2265 ${brief(high)}`]];
  $("ticks").replaceChildren(...ticks.map(([x, text, kind]) => {
    const s = document.createElement("span");
    s.style.left = `${100 * x}%`; s.textContent = text; s.className = kind || "";
    return s;
  }));
  $("meaning").textContent = { score: "Anomaly score of a point, one scale for all scans" + (data.point_threshold === null ? "" : "; from the mark on it is suspect"),
    deviation: `Signed deviation in ${data.unit}: blue is missing, red is surplus material; one scale for all scans${data.band ? "; green lies within the tolerance" : ""}`, truth: "Known defects" }[mode];
}

const at = (score, [low, high] = data.scores) => (score - low) / (high - low);

function histogram(scan) {
  const signed = mode === "deviation", span = signed ? data.deviations : data.histogram, rest = signed ? 768 : 0;
  const svg = $("histogram"), counts = (signed ? scan.spread : scan.histogram) || [], top = Math.log1p(Math.max(1, ...counts)), step = 640 / counts.length;
  const draw = (kind, attributes) => {
    const e = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    return e;
  };
  const bars = counts.map((c, i) => {
    const h = 146 * Math.log1p(c) / top, middle = span[0] + (i + 0.5) / counts.length * (span[1] - span[0]);
    const k = rest + 3 * Math.round(255 * Math.min(1, Math.max(0, at(middle, signed ? span : data.scores))));
    return draw("rect", { x: i * step + 0.5, y: 150 - h, width: step - 1, height: h, fill: `rgb(${colours.subarray(k, k + 3).join()})` });
  });
  for (const limit of counts.length ? signed ? data.band || [] : data.point_threshold === null ? [] : [data.point_threshold] : []) {
    const x = 640 * at(limit, span);
    bars.push(draw("line", { x1: x, x2: x, y1: 0, y2: 150, stroke: "currentColor", "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
  }
  svg.replaceChildren(...bars);
  const above = scan.points_above === null ? "" : `; ${scan.points_above.toLocaleString("en")} of ${scan.points.toLocaleString("en")} are suspect`;
  $("counts").textContent = !counts.length ? "" : signed ? `Points by deviation (logarithmic height)${data.band ? "; the lines are the tolerance" : ""}` : `Points by score (logarithmic height)${above}`;
  svg.setAttribute("aria-label", $("counts").textContent);
}

function filter() {
  const words = $("search").value.trim().toLowerCase(), verdict = $("verdict").value;
  let shown = 0;
  for (const r of rows) {
    const scan = data.scans[r.dataset.scan];
    r.hidden = !((scan.name + " " + scan.note).toLowerCase().includes(words) && (!verdict || (scan.verdict || "none") === verdict));
    shown += !r.hidden;
  }
  $("count").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
}

function sort(button) {
  const head = button.closest("th"), key = button.dataset.key, up = head.getAttribute("aria-sort") === (key === "name" ? "none" : "descending") || head.getAttribute("aria-sort") === "descending";
  document.querySelectorAll("thead th").forEach((h) => h.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (r) => key === "verdict" ? -data.verdicts.indexOf(data.scans[r.dataset.scan][key]) : data.scans[r.dataset.scan][key];
  rows.sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return (up ? 1 : -1) * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
  });
  document.querySelector("tbody").append(...rows);
}

function ruler() {
  const unit = view.unitsPerPixel(), wish = 90 * unit, ten = 10 ** Math.floor(Math.log10(wish)), length = [5, 2, 1].map((k) => k * ten).find((v) => v <= wish);
  document.querySelector(".ruler i").style.width = `${length / unit}px`;
  document.querySelector(".ruler span").textContent = `${show(length)} ${data.unit}`;
}

function point(event) {
  const tip = $("tip"), scan = data.scans[chosen];
  const i = event.buttons || !view.cloud ? -1 : view.pick(event.offsetX, event.offsetY);
  tip.hidden = i < 0;
  if (i < 0) return;
  const level = (name, [low, high]) => {
    const v = view.cloud.values[name][i];
    return (v === 0 ? "\u2264 " : v === 255 ? "\u2265 " : "") + show(low + v / 255 * (high - low));
  };
  const where = view.place(i).map((v, k) => show(v + scan.corner[k])).join(", ");
  tip.textContent = [`${where} ${data.unit}`, `score ${level("score", data.scores)}`,
    ...(scan.deviation ? [`deviation ${level("deviation", data.deviations)} ${data.unit}`] : [])].join("\n");
  const box = $("view").getBoundingClientRect();
  tip.style.left = `${Math.min(event.offsetX + 14, box.width - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.offsetY + 14, box.height - tip.offsetHeight - 8)}px`;
}

try {
  view = new CloudView($("view"), colours);
  view.onFrame = () => { ruler(); markers(); };
} catch (error) {
  document.querySelector(".tools").hidden = document.querySelector(".sliders").hidden = document.querySelector(".ruler").hidden = true;
}
document.querySelector("tbody").addEventListener("click", (e) => choose(Number(e.target.closest("tr").dataset.scan)));
document.querySelector("tbody").addEventListener("keydown", (e) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[e.key], seen = rows.filter((r) => !r.hidden);
  const next = step && seen[seen.indexOf(e.target.closest("tr")) + step];
  if (next) { e.preventDefault(); next.querySelector("button").focus(); choose(Number(next.dataset.scan)); }
});
document.querySelectorAll("thead button").forEach((b) => b.addEventListener("click", () => sort(b)));
$("search").addEventListener("input", filter);
$("verdict").addEventListener("change", filter);
if (view) {
  $("reset").addEventListener("click", () => view.reset());
  $("size").addEventListener("input", (e) => { view.sizeFactor = e.target.value / 100; view.draw(); });
  $("morph").querySelector("input").addEventListener("input", (e) => { view.morph = e.target.value / 100; view.draw(); });
  $("only-above").hidden = data.point_threshold === null;
  $("only-above").querySelector("input").addEventListener("change", (e) => { view.cut = e.target.checked ? Math.ceil(255 * at(data.point_threshold)) : 0; view.draw(); });
  let waiting = 0;
  $("view").addEventListener("pointermove", (e) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => point(e)); });
  $("view").addEventListener("pointerleave", () => { $("tip").hidden = true; });
}
filter();
document.querySelector("main").hidden = !rows.length;
if (rows.length) choose(Number((rows.find((r) => data.scans[r.dataset.scan].shown) ?? rows[0]).dataset.scan));
