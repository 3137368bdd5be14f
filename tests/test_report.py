"""The output folder of `predict` and `demo`: table, coloured clouds, pictures, and the page as a browser shows it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r3dad.errors import InputError
from r3dad.report import ReportItem, write_report
from r3dad.report import write as report_write
from r3dad.report.colours import deviation_map, deviation_scale, heat_map, oklab, score_scales
from r3dad.report.pack import thinned
from r3dad.report.thumbnail import best_view, render, spacing_of

HARMLESS = "<script>document.title='owned'</script>.pcd"


def item(name: str, seed: int = 0, count: int = 4000, depth: float = 1.0, **changes: Any) -> ReportItem:
    """A ring of 60 mm far from the origin, with a bump of `depth` mm on its upper side."""
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(0, 2 * np.pi, (2, count))
    normals = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], axis=1)
    good = np.stack([np.cos(u), np.sin(u), np.zeros(count)], axis=1) * 22 + normals * 8 + [1000.0, -2000.0, 500.0]
    bump = depth * np.exp(-((u - 1.0) ** 2 + (v - 1.2) ** 2) / 0.06)
    deviation = bump + rng.normal(0, 0.02, count)
    made = ReportItem(
        name,
        good + normals * deviation[:, None],
        np.abs(deviation),
        float(np.abs(deviation).max()),
        depth > 0.3,
        -normals * deviation[:, None],
        deviation,
        label=depth > 0,
        labels=bump > 0.2,
        seconds=0.25,
    )
    return replace(made, **changes)


def write(out: Path, *items: ReportItem) -> Path:
    return write_report(
        out,
        items,
        title="Rings & <co>",
        settings={"recipe": "paper", "note": "<b>"},
        threshold=0.3,
        point_threshold=0.25,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    nothing = ReportItem("lost", np.zeros((0, 3)), np.zeros(0), float("nan"), None, note="not this part")
    write(
        out,
        item("ring 1", 1, note="3 points with NaN\ndropped"),
        item(HARMLESS, 2, depth=0),
        item("ring/2", 3, depth=-1.0, is_defective=False),
        nothing,
    )
    return out


def inspected(name: str, verdict: str, **changes: Any) -> ReportItem:
    """A ring as an inspection gives it, with one defect on its bump."""
    made = item(name, 1)
    hot = int(np.argmax(made.point_scores))
    defect = {
        "id": 1,
        "kind": "<b>bump</b>",
        "depth_mm": 0.98,
        "area_mm2": 31.0,
        "extent_mm": [7.0, 6.0, 1.0],
        "share_of_tolerance": 12.0,
        "outside_limits": True,
        "centre_scan": made.points[hot].tolist(),
        "marker": made.points[hot].tolist(),
        "normal": [0.3, 0.4, 0.87],
    }
    limits = np.tile([-0.3, 0.2], (len(made.points), 1))
    extra = {
        "verdict": verdict,
        "threshold": 0.3,
        "alignment": "alignment: RMS 0.1 mm",
        "limits": limits,
        "band": (-0.3, 0.2),
    }
    return replace(made, **{**extra, "defects": [defect] if verdict == "NG" else [], **changes})


@pytest.fixture(scope="module")
def inspection_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inspection")
    items = [inspected("bad", "NG"), inspected("unsure", "REVIEW"), inspected("fine", "OK", score=0.1)]
    write_report(
        out, items, title="t", settings={}, threshold=None, point_threshold=0.25, table=None, by_deviation=True
    )
    return out


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return dict(json.loads(found[1]))


def test_scores_csv_has_one_row_per_scan_with_verdict_and_truth(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((folder / "scores.csv").read_text())))
    assert [row["name"] for row in rows] == ["ring 1", HARMLESS, "ring/2", "lost"]
    assert [row["verdict"] for row in rows] == ["defective", "good", "good", ""]
    assert [row["truth"] for row in rows] == ["defective", "good", "good", ""]
    made = item("ring 1", 1)
    assert float(rows[0]["score"]) == pytest.approx(made.score, rel=1e-8)
    assert int(rows[0]["points_above"]) == int((made.point_scores > 0.25).sum()) > 0
    assert (rows[0]["threshold"], rows[0]["points"], rows[0]["seconds"]) == ("0.3", "4000", "0.25")
    assert rows[0]["note"] == "3 points with NaN dropped"
    assert (rows[3]["score"], rows[3]["points"], rows[3]["ply"], rows[3]["note"]) == ("", "0", "", "not this part")
    assert all((folder / row["ply"]).is_file() for row in rows[:3])


def test_a_part_with_a_threshold_of_its_own_keeps_it(tmp_path: Path) -> None:
    write(tmp_path, item("own", count=200, threshold=0.7), item("batch", count=200))
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["threshold"] for row in rows] == ["0.7", "0.3"]


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write(tmp_path, item('=HYPERLINK("x")', count=200), item("-5", count=200))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert [row["name"] for row in rows] == ['\'=HYPERLINK("x")', "'-5"]


def test_ply_reads_back_with_scores_deviation_and_heat_colours(folder: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    made, cloud = item("ring 1", 1), trimesh.load(folder / "ring 1.ply")
    vertex = cloud.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(cloud.vertices, made.points, atol=1e-4)
    np.testing.assert_allclose(vertex["scalar_anomaly_score"].ravel(), made.point_scores, rtol=1e-6)
    np.testing.assert_allclose(vertex["scalar_deviation"].ravel(), made.deviation, rtol=1e-6)
    assert made.labels is not None
    np.testing.assert_array_equal(vertex["scalar_label"].ravel(), made.labels)
    colours = np.asarray(cloud.colors)[:, :3]
    worst, best = int(np.argmax(made.point_scores)), int(np.argmin(made.point_scores))
    np.testing.assert_array_equal(colours[worst], heat_map()[255])
    np.testing.assert_array_equal(colours[best], heat_map()[0])


def test_one_colour_scale_for_the_whole_batch(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    score = np.linspace(0.1, 0.6, 300)
    write(tmp_path, item("a", count=300, point_scores=score), item("b", count=300, point_scores=score / 2))
    a, b = (np.asarray(trimesh.load(tmp_path / f"{name}.ply").colors)[:, :3].astype(int) for name in "ab")
    same = np.searchsorted(score, score[200:] / 2)
    assert np.abs(a[same] - b[200:]).max() < 8


def test_pictures_show_the_part_and_its_defect(folder: Path) -> None:
    with Image.open(folder / "thumbnails" / "ring 1.png") as opened:
        picture = np.asarray(opened)
    assert picture.shape == (270, 360, 4)
    solid = picture[..., 3] > 200
    assert 0.1 < solid.mean() < 0.8
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    assert ((red - blue > 70) & solid).sum() > 40, "the bump is seen in a hot colour"
    assert len(list((folder / "thumbnails").iterdir())) == 3


def test_best_view_looks_at_the_hot_side() -> None:
    made = item("ring", count=3000)
    for side in (1.0, -1.0):
        hot = (made.points[:, 2] - 500) * side > 6
        assert np.sign(best_view(made.points, hot)[2]) == side


@pytest.mark.parametrize(
    "points", [np.zeros((1, 3)), np.zeros((9, 3)), np.eye(3)[[0] * 5 + [1] * 5], np.full((4, 3), 1e6)]
)
def test_degenerate_clouds_are_drawn(points: np.ndarray, tmp_path: Path) -> None:
    count = len(points)
    assert render(points, np.zeros((count, 3), np.uint8), (0.5, -0.6, 0.5)).size == (360, 270)
    write(tmp_path, item("x", count=count, points=points, point_scores=np.zeros(count)))
    assert data_of((tmp_path / "report.html").read_text())["scans"][0]["shown"] == count


def test_spacing_is_that_of_a_grid() -> None:
    x, y = np.meshgrid(np.arange(200) * 0.5, np.arange(200) * 0.5)
    assert spacing_of(np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)) == pytest.approx(0.5, rel=0.25)


def test_page_loads_nothing_and_escapes_every_name(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert not re.search(r"""(?:src|href|url|import|fetch)\s*[=(]\s*["']?\s*(?:https?:)?//""", page)
    assert not re.search(r"<(?:link|iframe|object|embed|base)\b", page)
    assert "default-src 'none'" in page
    assert "<script>document.title" not in page
    assert "Rings &amp; &lt;co&gt;" in page and "<dd>&lt;b&gt;</dd>" in page
    assert data_of(page)["scans"][1]["name"] == HARMLESS


def test_names_become_safe_and_distinct_files(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a/b", "a\\b", "A_B", "", "...", "x" * 400, "Grün.pcd"]
    write(tmp_path, *(item(name, count=100) for name in names))
    files = sorted(file.name for file in tmp_path.glob("*.ply"))
    assert len(files) == len({name.casefold() for name in files}) == len(names)
    assert max(map(len, files)) < 140
    assert {"Grün.pcd.ply", "a_b.ply", "a_b-2.ply", "A_B-3.ply", "scan.ply", "scan-2.ply"} <= set(files)
    assert not (tmp_path.parent / "etc").exists()


def test_page_holds_no_more_points_than_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_write, "POINTS_PER_SCAN", 1500)
    monkeypatch.setattr(report_write, "POINTS_IN_PAGE", 4000)
    write(tmp_path, *(item(str(k), k) for k in range(4)))
    page = (tmp_path / "report.html").read_text()
    assert [scan["shown"] for scan in data_of(page)["scans"]] == [1000] * 4
    block = re.search(r'id="points-0">(.*?)</script>', page)
    assert block and len(block[1]) == -(-1000 * (6 + 1 + 1 + 1 + 3) // 3) * 4
    assert (tmp_path / "0.ply").read_bytes().startswith(b"ply") and (tmp_path / "0.ply").stat().st_size > 4000 * 20


def test_thinning_prefers_hot_points_and_repeats() -> None:
    hot = np.arange(20_000) < 200
    kept = thinned(20_000, hot, 2_000)
    assert len(np.unique(kept)) == 2_000
    assert 45 < hot[kept].sum() < 110  # 200 * 10 % * 4, less what saturates
    assert 10 < hot[kept[:1000]].sum() < 65  # in random order
    np.testing.assert_array_equal(kept, thinned(20_000, hot, 2_000))
    np.testing.assert_array_equal(np.sort(thinned(10, hot[:10], 50)), np.arange(10))


def test_a_generator_streams_through_in_bounded_memory(tmp_path: Path) -> None:
    def peak(scans: int) -> int:
        def stream() -> Iterator[ReportItem]:
            for k in range(scans):
                yield item(str(k), k, count=8_000)

        tracemalloc.start()
        write_report(tmp_path / str(scans), stream(), title="t", settings={}, threshold=None)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    page = 8_000 * 12 * 4 // 3  # what one scan adds to the page; three times while the page is put together
    held = 8_000 * (24 + 8 + 24 + 8 + 1)  # what one scan adds where all items are held
    assert peak(8) - peak(3) < 5 * (3 * page + held // 10)
    assert not list((tmp_path / "8").glob(".parked*"))


def test_a_failing_generator_leaves_no_half_report(tmp_path: Path) -> None:
    def broken() -> Iterator[ReportItem]:
        yield item("a")
        raise InputError("b.pcd: truncated")

    with pytest.raises(InputError, match="truncated"):
        write_report(tmp_path, broken(), title="t", settings={}, threshold=None)
    assert list(tmp_path.iterdir()) == []


def test_unusable_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results"):
        write(tmp_path)
    with pytest.raises(InputError, match=r"ring: point_scores must have shape \[4000\]"):
        item("ring", point_scores=np.zeros(3))
    with pytest.raises(InputError, match="ring: point_scores must be finite"):
        item("ring", point_scores=np.full(4000, np.nan))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be written"):
        write(tmp_path / "file", item("ring"))


def test_colour_maps_are_perceptually_uniform_and_darken() -> None:
    for half in (heat_map(), deviation_map()[128:], deviation_map()[128::-1]):
        lab = oklab(half)
        steps = np.linalg.norm(lab[8:] - lab[:-8], axis=1)
        assert steps.max() / steps.min() < 1.5  # bends of the line and rounding to 8 bits; 7 for "jet"
        assert (lab[8:, 0] < lab[:-8, 0]).all()


def test_the_tolerance_is_green_and_its_ends_are_not() -> None:
    colours = deviation_map(100, 150).astype(int)
    green = (colours[:, 1] > colours[:, 0] + 20) & (colours[:, 1] > colours[:, 2] + 20)
    assert green[100:151].all() and not green[:99].any() and not green[152:].any()
    assert len(colours) == 256 and (deviation_map(0, 256) == deviation_map()).all()
    assert deviation_scale([0.1], (-0.3, 0.2)).high == pytest.approx(0.6)


def test_a_cloud_is_painted_by_deviation_with_its_limits(inspection_folder: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    cloud = trimesh.load(inspection_folder / "bad.ply")
    vertex, colours = cloud.metadata["_ply_raw"]["vertex"]["data"], np.asarray(cloud.colors)[:, :3].astype(int)
    deviation = vertex["scalar_deviation"].ravel()
    assert set(vertex["scalar_limit_low"].ravel()) == {np.float32(-0.3)}
    calm = np.abs(deviation) < 0.1
    assert (colours[calm, 1] > colours[calm, 0]).all() and (
        colours[deviation > 0.8, 0] > colours[deviation > 0.8, 1]
    ).all()
    assert not (inspection_folder / "scores.csv").exists()


def test_scales_keep_the_threshold_inside_and_shrug_off_one_wild_scan() -> None:
    colours, spread = score_scales([0.01] * 20, [0.2] * 19 + [1e6], 0.3)
    assert (spread.low, spread.high) == (0.0, pytest.approx(0.45))
    assert 0 < colours.low < 0.3 < colours.high == spread.high
    assert score_scales([0.0], [9.0], 0.3)[0].high == pytest.approx(0.9)
    assert score_scales([5.0] * 3, [6.0] * 3, None)[0].low == 5.0
    for lows, peaks, threshold in (([0.0], [0.0], 0.0), ([], [], None), ([-3.0], [-3.0], -2.0)):
        made, _ = score_scales(lows, peaks, threshold)
        assert made.high > made.low
        assert made.levels(np.array([-1e9, 1e9])).tolist() == [0, 255]
    assert deviation_scale([0.5]).levels(np.array([-0.5, 0, 0.5])).tolist() == [0, 128, 255]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    flags = ["--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


PIXELS = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
  const c = document.getElementById('view'), gl = c.getContext('webgl2'), p = new Uint8Array(4 * c.width * c.height);
  gl.readPixels(0, 0, c.width, c.height, gl.RGBA, gl.UNSIGNED_BYTE, p);
  let solid = 0, hot = 0, sum = 0;
  for (let i = 0; i < p.length; i += 4) { solid += p[i + 3] > 0; hot += p[i] - p[i + 2] > 60;
    sum = (sum * 31 + p[i] + p[i + 1] * 7) % 1000003; }
  done({solid: solid / (p.length / 4), hot, sum});
})))"""


def settle(page: Any) -> None:
    """Wait until the view stands still and is drawn in full; asked from outside, as the page's policy forbids eval."""
    for _ in range(200):
        if page.evaluate("() => Boolean(view && view.drawn && !view.moving && !view.pending)"):
            return
        page.wait_for_timeout(50)
    pytest.fail("the view did not come to rest within 10 s")


def opened(browser: Any, folder: Path, width: int, height: int) -> tuple[Any, list[str]]:
    page, troubles = browser.new_page(viewport={"width": width, "height": height}), []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: troubles.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    page.goto((folder / "report.html").as_uri())
    if page.is_visible("main"):
        settle(page)
    return page, troubles


def test_a_browser_clicks_through_the_page(browser: Any, folder: Path, tmp_path: Path) -> None:
    page, troubles = opened(browser, folder, 1280, 800)
    assert page.title() == "Rings & <co>"
    assert page.inner_text("#name") == "ring 1", "the worst scan is shown first"
    first = page.evaluate(PIXELS)
    assert first["solid"] > 0.05 and first["hot"] > 50

    page.mouse.move(800, 350)
    page.mouse.down()
    page.mouse.move(900, 380, steps=4)
    page.mouse.up()
    settle(page)
    turned = page.evaluate(PIXELS)
    assert turned["sum"] != first["sum"] and turned["solid"] > 0.05
    page.click("#reset")
    settle(page)
    assert page.evaluate(PIXELS)["sum"] == first["sum"]

    page.click("[data-mode=deviation]")
    assert "surplus material" in page.inner_text("#meaning")
    assert page.evaluate(PIXELS)["sum"] != first["sum"]
    page.click("[data-mode=score]")
    page.check("#only-above input")
    assert 0 < page.evaluate(PIXELS)["solid"] < 0.3 * first["solid"]
    page.uncheck("#only-above input")
    page.locator("#morph input").fill("100")
    assert page.evaluate(PIXELS)["sum"] != first["sum"]
    page.screenshot(path=tmp_path / "desktop.png")

    page.click("tbody tr[data-scan='1'] td.number")
    assert page.inner_text("#name") == HARMLESS
    other = page.evaluate(PIXELS)
    assert other["solid"] > 0.05 and other["hot"] < 20 and other["sum"] != first["sum"]
    page.keyboard.press("Tab")
    page.focus("tbody tr[data-scan='1'] .pick")
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#name") == "ring/2" and page.inner_text("#said") == "good"
    page.click("tbody tr[data-scan='3']")
    assert "not this part" in page.inner_text("#fallback")
    assert not troubles


def test_the_table_sorts_and_filters(browser: Any, folder: Path) -> None:
    page, troubles = opened(browser, folder, 1280, 800)
    order = "() => [...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => Number(r.dataset.scan))"
    scores = [item("", 1).score, item("", 2, depth=0).score, item("", 3, depth=-1.0).score]
    falling = [int(k) for k in np.argsort(scores)[::-1]]
    page.click("thead [data-key=score]")
    assert page.evaluate(order) == [*falling, 3]
    assert page.get_attribute("thead th:nth-child(2)", "aria-sort") == "descending"
    page.click("thead [data-key=score]")
    assert page.evaluate(order) == [*falling[::-1], 3]
    page.click("thead [data-key=name]")
    assert page.evaluate(order) == [1, 3, 0, 2]
    page.click("thead [data-key=verdict]")
    assert page.evaluate(order) == [0, 3, 1, 2], "the worst verdict first"
    page.click("thead [data-key=name]")
    page.fill("#search", "RING")
    assert page.evaluate(order) == [0, 2]
    assert page.inner_text("#count") == "2 of 4"
    page.select_option("#verdict", "defective")
    assert page.evaluate(order) == [0]
    assert not troubles


def test_the_page_fits_a_phone(browser: Any, folder: Path, tmp_path: Path) -> None:
    page, troubles = opened(browser, folder, 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth === e.clientWidth)")
    assert page.evaluate(PIXELS)["solid"] > 0.05
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    with Image.open(tmp_path / "phone.png") as picture:
        assert picture.width == 390
    assert not troubles


def test_a_browser_walks_through_an_inspection(browser: Any, inspection_folder: Path) -> None:
    page, troubles = opened(browser, inspection_folder, 1280, 800)
    said = " ".join(page.inner_text(".summary").split())
    assert said == "3 scans 1 NG 1 REVIEW 1 OK against the truth: 1 of 2 defective found, 0 false alarms"
    assert page.inner_text("#alignment") == "alignment: RMS 0.1 mm"
    assert page.inner_text("#defects td:nth-child(2)") == "<b>bump</b>"
    page.click("[data-mode=deviation]")
    assert "green" in page.inner_text("#meaning")
    left, right = (page.locator("#ticks .mark").nth(k) for k in (0, 1))
    assert (left.inner_text(), right.inner_text()) == ("-0.3", "+0.2")
    page.evaluate("data.band = [-0.01, 0.01]; paint('deviation')")
    near, far = left.bounding_box(), right.bounding_box()
    assert near["x"] + near["width"] <= far["x"], "limits that lie close do not write over each other"
    assert page.locator("#histogram line").count() == 2
    settle(page)
    before = page.evaluate(PIXELS)["sum"]
    page.click("#defects button")
    settle(page)
    assert page.evaluate(PIXELS)["sum"] != before
    box, mark = page.locator("#view").bounding_box(), page.locator("#markers button").bounding_box()
    assert abs(mark["x"] + mark["width"] / 2 - box["x"] - box["width"] / 2) < 3, "the place is in the middle"
    assert abs(mark["y"] + mark["height"] / 2 - box["y"] - box["height"] / 2) < 3
    page.select_option("#verdict", "REVIEW")
    assert page.locator("tbody tr[data-scan]:visible").count() == 1
    page.click("tbody tr[data-scan='1']")
    assert page.locator(".defects").is_hidden() and page.locator("#markers button").count() == 0
    assert not troubles
    phone, troubles = opened(browser, inspection_folder, 390, 844)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.click("#markers button")
    assert phone.get_attribute("#defects tr", "aria-current") == "true" and not troubles


NO_WEBGL = """const own = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) { return kind === 'webgl2' ? null : own.call(this, kind, ...rest); };"""


def test_without_webgl_the_page_shows_pictures(browser: Any, folder: Path) -> None:
    page = browser.new_page()
    page.add_init_script(NO_WEBGL)
    page.goto((folder / "report.html").as_uri())
    assert "no WebGL 2" in page.inner_text("#fallback")
    assert page.evaluate("document.querySelector('#fallback img').naturalWidth") == 200


def test_a_page_without_scans_shows_the_counts(browser: Any, tmp_path: Path) -> None:
    items = (inspected(str(i), "OK", listed=False, label=None, labels=None) for i in range(3))
    write_report(tmp_path, items, title="t", settings={"a": "b"}, threshold=None, table=None)
    page, troubles = opened(browser, tmp_path, 1280, 800)
    assert not page.is_visible("main") and page.is_visible("details.settings")
    assert page.inner_text(".summary").split("\n") == ["3 scans", "3 OK", "none is shown; the tables hold all"]
    assert troubles == [] and [file.name for file in tmp_path.iterdir()] == ["report.html"]
