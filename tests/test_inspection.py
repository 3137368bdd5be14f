"""From a scan to a verdict, defects in mm, and the folder to hand on."""

from __future__ import annotations

import csv
import json
import math
import re
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.long_list import made_up
from r3dad.cli import app
from r3dad.cli.common import names_of
from r3dad.detector import Detector
from r3dad.errors import InputError
from r3dad.inspection import SCHEMA, Inspection, Tolerance, inspect, inspect_many, write
from r3dad.inspection.regions import find_regions
from r3dad.recipes.calibration import Calibration
from r3dad.scans import write_ply
from tests.aligned_shapes import stepped_block
from tests.conftest import TINY, block_scan


def turned(p: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return p @ (q * np.sign(np.linalg.det(q))).T + rng.uniform(-50, 50, 3)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(calibration=2, surface_points=10_000).fit(
        [turned(stepped_block(i), i) if i else stepped_block(0) for i in range(3)]
    )


@pytest.fixture(scope="module")
def dented(detector) -> Inspection:
    return detector.inspect(turned(stepped_block(21, dent=1.5), 21))


def test_a_good_scan_is_ok_and_lists_nothing(detector):
    made = detector.inspect(turned(stepped_block(20), 20))
    assert made.verdict == "OK" and made.defects == [] and made.score < made.threshold
    assert made.alignment is not None and made.alignment.overlap > 0.98 and made.alignment.rms_mm < 0.2
    assert made.review[0] <= made.threshold <= made.review[1]


def test_a_dent_has_its_place_depth_size_and_kind(detector, dented):
    assert dented.verdict == "NG"
    worst = dented.defects[0]
    assert worst.kind == "dent" and worst.id == 1
    assert worst.depth_mm == pytest.approx(-1.5, rel=0.15)
    place = turned(np.array([[42.0, 20, 15]]), 21)[0]
    assert np.linalg.norm(worst.centre_scan - place) < 0.02 * 77
    assert np.linalg.norm(worst.marker - place) < 2.5
    # The good scans' frame is that of the first one, which lies untouched.
    part = dented.alignment.matrix[:3, :3] @ worst.centre_scan + dented.alignment.matrix[:3, 3]
    np.testing.assert_allclose(worst.centre_part, part)
    up = turned(np.array([[0.0, 0, 1]]), 21)[0] - turned(np.zeros((1, 3)), 21)[0]
    assert worst.normal @ up > 0.95
    assert 60 < worst.area_mm2 < 1.1 * math.pi * 8**2
    volume = 1.5 * math.pi * 8**2 * (0.5 - 2 / math.pi**2)  # of cos^2(pi r / 16) over the disc
    assert -1.2 * volume < worst.volume_mm3 < -0.7 * volume
    assert worst.share_of_tolerance > 5 and not worst.outside_limits


def test_a_hole_is_missing_material_with_its_area(detector):
    made = detector.inspect(turned(stepped_block(22, hole=6.0), 22))
    worst = made.defects[0]
    assert worst.kind == "missing" and worst.depth_mm is None and worst.volume_mm3 is None
    assert worst.area_mm2 == pytest.approx(math.pi * 36, rel=0.25)
    assert np.linalg.norm(worst.centre_scan - turned(np.array([[42.0, 20, 15]]), 22)[0]) < 0.02 * 77
    assert len(made.missing) > 10


def test_another_part_gets_no_verdict_and_no_score(detector):
    ball = np.random.default_rng(0).normal(size=(4000, 3))
    made = detector.inspect(30 * ball / np.linalg.norm(ball, axis=1, keepdims=True))
    assert made.verdict == "NOT THIS PART" and math.isnan(made.score) and "not this part" in made.note


def test_a_scan_in_another_unit_or_without_extent(detector):
    scan = turned(stepped_block(20), 20)
    for unit in (1e-3, 25.4, 1e3, 1e6):
        made = detector.inspect(scan * unit)
        assert made.verdict == "NOT THIS PART" and "not this part" in made.note and np.isfinite(made.point_scores).all()
    for cloud in (np.zeros((1000, 3)), scan * [1, 0, 0], np.round(scan, -4), np.repeat(scan[:20], 50, axis=0)):
        with warnings.catch_warnings(), pytest.raises(InputError, match="on top of each other"):
            warnings.simplefilter("error")
            detector.inspect(cloud)


def test_given_tolerances_judge_beside_the_learned_ones(detector):
    shallow = turned(stepped_block(23, dent=1.0), 23)
    wide = detector.inspect(shallow, tolerance=Tolerance((-2.0, 2.0)))
    assert not any(d.outside_limits for d in wide.defects) and wide.outside_limits == 0
    tight = detector.inspect(shallow, tolerance=Tolerance((-0.4, 2.0)))
    assert tight.verdict == "NG" and tight.defects[0].outside_limits and "outside the given tolerance" in tight.note
    box = Tolerance.parse("2", ["0,0,0,20,40,30:+0.4,-0.4"])  # the tall half, where nothing is wrong
    assert not any(d.outside_limits for d in detector.inspect(shallow, tolerance=box).defects)
    box = Tolerance.parse("2", ["30,5,10,55,35,20:+0.4,-0.4"])
    assert detector.inspect(shallow, tolerance=box).defects[0].outside_limits


def test_how_much_of_the_part_is_seen_is_said_and_may_be_asked_for(detector):
    block = stepped_block(20)
    half = turned(block[block[:, 0] < 30], 20)
    whole, seen = detector.inspect(turned(block, 20)), detector.inspect(half)
    assert whole.alignment.coverage > 0.98 and 0.35 < seen.alignment.coverage < 0.75
    assert seen.to_json()["alignment"]["coverage"] == seen.alignment.coverage
    asked = detector.inspect(half, tolerance=Tolerance(coverage=0.9))
    assert asked.verdict in ("REVIEW", "NG") and "of the part is seen, 90% are asked for" in asked.note
    assert detector.inspect(turned(block, 20), tolerance=Tolerance(coverage=0.9)).verdict == "OK"
    with pytest.raises(InputError, match="coverage 90: expected a share"):
        Tolerance.parse(None, coverage=90)


def test_a_painted_cloud_names_a_place(tmp_path):
    points = stepped_block(0, count=2000)
    colours = np.full(points.shape, 180, np.uint8)
    colours[points[:, 0] > 40] = (200, 30, 30)
    write_ply(tmp_path / "painted.ply", points, colors=colours)
    given = Tolerance.parse("+0.5,-0.5", [f"{tmp_path / 'painted.ply'}:+0.2,-0.1"])
    np.testing.assert_allclose(given.of(np.array([[50.0, 20, 15], [5.0, 20, 30]])), [[-0.1, 0.2], [-0.5, 0.5]])
    write_ply(tmp_path / "grey.ply", points, colors=np.full(points.shape, 180, np.uint8))
    with pytest.raises(InputError, match="no painted point"):
        Tolerance.parse(None, [f"{tmp_path / 'grey.ply'}:0.2"])
    write_ply(tmp_path / "plain.ply", points)
    with pytest.raises(InputError, match="a colour per point"):
        Tolerance.parse(None, [f"{tmp_path / 'plain.ply'}:0.2"])


def test_a_place_off_the_part_is_refused(detector, tmp_path):
    points = stepped_block(0, count=2000)
    colours = np.full(points.shape, 180, np.uint8)
    colours[points[:, 0] > 40] = (200, 30, 30)
    for name, cloud in (
        ("lies", points),
        ("far", points + 500),
        ("metres", points / 1000),
        ("cut", points * [0.2, 1, 1] + [48, 0, 0]),
    ):
        write_ply(tmp_path / f"{name}.ply", cloud, colors=colours)
    scan = turned(stepped_block(20), 20)
    for place in ("900,0,0,901,1,1", *(tmp_path / f"{name}.ply" for name in ("far", "metres", "cut"))):
        with pytest.raises(InputError, match=r"does not lie on the part.*x -?0\.\d to 60\.\d"):
            detector.inspect(scan, tolerance=Tolerance.parse(None, [f"{place}:2"]))
    assert detector.inspect(scan, tolerance=Tolerance.parse(None, [f"{tmp_path / 'lies.ply'}:2"])).verdict == "OK"


@pytest.mark.parametrize("text", ["", "a", "0.1,0.2", "-0.1,-0.2", "-0.1", "0,2", "1,2,3", "0", "nan"])
def test_wrong_tolerances_are_told_in_one_line(text):
    with pytest.raises(InputError, match="tolerance"):
        Tolerance.parse(None, [f"0,0,0,1,1,1:{text}"])


def test_review_lies_where_one_good_scan_decides():
    scores = np.array([[0.0, 1, 2], [0, 1, 3], [0, 1, 9]])
    known = Calibration(scores, scores, scores, np.zeros(3, np.float32))
    low, high = known.doubt(0.01)
    assert low < 3.1 and known.threshold(0.01) <= high
    assert low < known.threshold(0.01)


def test_a_doubtful_score_is_review(detector):
    scan = turned(stepped_block(20), 20)
    recipe, kept = detector.recipe, detector.recipe.calibration
    score = detector.inspect(scan).score
    spread = np.full_like(kept.scores, score - 1)
    spread[0] = score + 1  # without this good scan the threshold falls below the score
    try:
        recipe.calibration = replace(kept, scores=spread)
        assert detector.inspect(scan).verdict == "REVIEW"
    finally:
        recipe.calibration = kept


def test_json_has_the_schema_and_no_nan(dented):
    text = json.dumps(dented.to_json(), allow_nan=False)
    row = json.loads(text)
    assert row["schema"] == SCHEMA and row["verdict"] == "NG" and len(row["defects"]) == len(dented.defects)
    lost = Inspection.unreadable("x", "no points")
    assert json.loads(json.dumps(lost.to_json(), allow_nan=False))["score"] is None


def test_the_paper_recipe_gives_a_verdict_without_millimetres():
    points = stepped_block(0, count=1500)
    tiny = {"points": 256, "iterations": 2, "batch": 2, "steps": 4, "neighbours": 16, "widths": [16], "latent": 8}
    made = Detector("paper", **tiny).fit([points]).inspect(points)
    assert made.verdict in ("OK", "NG") and made.alignment is None and made.defects == []
    assert np.isfinite(made.to_json()["score"])


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "parts.jsonl").open()]


@pytest.mark.parametrize("model", "ABCD")
def test_the_paper_recipe_takes_scans_together_with_the_same_results(model):
    clouds = [
        block_scan(i, count) for i, count in enumerate((600, 100, 700, 500))
    ]  # the second has fewer points than are sampled
    recipe = Detector("paper", device="cpu", **TINY, model=model).fit([block_scan(i) for i in range(2)]).recipe
    for many, one in zip(recipe.predict_many(clouds), map(recipe.predict, clouds), strict=True):
        assert many.score == one.score
        assert np.array_equal(many.point_scores, one.point_scores) and np.array_equal(
            many.displacement, one.displacement
        )
    made = inspect_many(recipe, clouds)
    assert [m.verdict for m in made] == [inspect(recipe, cloud).verdict for cloud in clouds]


def test_the_aligned_recipe_inspects_several_as_one_by_one(detector, dented):
    good = turned(stepped_block(20), 20)
    made = inspect_many(detector.recipe, [good, dented.points])
    assert made[1].score == dented.score and np.array_equal(made[1].point_scores, dented.point_scores)
    assert [m.verdict for m in made] == ["OK", "NG"]


def test_a_tolerance_needs_a_recipe_that_measures():
    recipe = Detector("paper", device="cpu", **TINY).fit([block_scan(0)]).recipe
    with pytest.raises(InputError, match="the recipe paper measures no deviations"):
        inspect(recipe, block_scan(1), tolerance=Tolerance((-0.1, 0.1)))
    assert inspect(recipe, block_scan(1), tolerance=Tolerance()).verdict in ("OK", "NG")


def test_the_folder_holds_page_json_tables_and_clouds(detector, dented, tmp_path):
    good = replace(detector.inspect(turned(stepped_block(20), 20)), name="good")
    lost = Inspection.unreadable("lost", "lost.ply: empty")
    page = write(
        tmp_path, (i for i in (good, replace(dented, name="dented"), lost)), title="blocks", settings={"a": "b"}
    )
    assert page == tmp_path / "report.html" and page.is_file()
    batch = json.loads((tmp_path / "inspection.json").read_text())
    assert batch["schema"] == "r3dad.inspection.batch/2"
    assert batch["verdicts"] == {"NG": 1, "REVIEW": 0, "NOT THIS PART": 0, "UNREADABLE": 1, "OK": 1}
    rows = rows_of(tmp_path)
    assert [p["ply"] for p in rows] == ["good.ply", "dented.ply", None]
    assert all((tmp_path / p["ply"]).is_file() for p in rows[:2])
    parts = list(csv.DictReader((tmp_path / "parts.csv").open()))
    assert [p["verdict"] for p in parts] == ["OK", "NG", "UNREADABLE"] and parts[1]["worst_kind"] == "dent"
    defects = list(csv.DictReader((tmp_path / "defects.csv").open()))
    assert len(defects) == len(dented.defects) and float(defects[0]["depth_mm"]) == pytest.approx(
        dented.defects[0].depth_mm
    )
    assert not (tmp_path / "scores.csv").exists()


def test_a_good_part_is_not_searched_for_regions_unless_limits_are_given(detector, monkeypatch):
    scan, seen = turned(stepped_block(20), 20), []
    monkeypatch.setattr("r3dad.inspection.judge.find_regions", lambda *a, **k: seen.append(a) or find_regions(*a, **k))
    assert detector.inspect(scan).verdict == "OK" and not seen
    assert detector.inspect(scan, tolerance=Tolerance((-2.0, 2.0))).verdict == "OK" and len(seen) == 1
    tight = detector.inspect(scan, tolerance=Tolerance((-0.01, 0.01)))  # the noise alone leaves it
    assert tight.verdict == "NG" and tight.score < tight.threshold


def many(count: int, bad: int):
    """A long list of made-up inspections, every ``bad``-th NG, the last one unreadable."""
    yield from made_up(count - 1, bad)
    yield Inspection.unreadable("last", "last.ply: empty")


def test_a_long_list_lists_every_part_and_shows_the_bad_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("r3dad.report.write.SCANS_IN_PAGE", 4)
    write(tmp_path, many(60, 10), title="t", pages="bad")
    rows = rows_of(tmp_path)
    assert [r["name"] for r in rows] == [*(f"scan{i:06}" for i in range(59)), "last"]
    shown = [r for r in rows if r["ply"]]
    assert [r["verdict"] for r in shown] == [
        "NG"
    ] * 5  # the clouds of all bad ones, though the page has room for four parts
    assert {f.name for f in tmp_path.glob("*.ply")} == {r["ply"] for r in shown}
    assert len(list((tmp_path / "thumbnails").iterdir())) == 5
    page = (tmp_path / "report.html").read_text()
    worst = sorted(shown, key=lambda r: -r["score"])[:4]
    assert set(re.findall(r'"name":"(\w+)"', page)) == {r["name"] for r in worst} and page.count("<tr data-scan") == 4
    assert (
        "<b>60</b> scans" in page and "<b>5</b> NG" in page and "<b>54</b> OK" in page and "4 worst are below" in page
    )
    assert len((tmp_path / "parts.csv").read_text().splitlines()) == 61
    assert len((tmp_path / "defects.csv").read_text().splitlines()) == 11
    write(tmp_path / "none", many(20, 10), title="t", pages="none")
    assert sorted(f.name for f in (tmp_path / "none").iterdir()) == [
        "defects.csv", "inspection.json", "parts.csv", "parts.jsonl", "report.html",
    ]  # fmt: skip
    assert "none is shown" in (tmp_path / "none" / "report.html").read_text()
    with pytest.raises(InputError, match="pages 'ng': expected all, bad or none"):
        write(tmp_path, many(2, 2), title="t", pages="ng")


def test_memory_does_not_grow_with_the_list(tmp_path):
    def peak(count: int) -> int:
        tracemalloc.start()
        write(tmp_path / str(count), many(count, count // 5), title="t", pages="bad")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(50)  # what is loaded on first use
    assert peak(1500) - peak(300) < 1200 * 400  # bytes; what a part is as JSON has 550, as objects some thousands


def test_an_interrupted_batch_keeps_what_it_has(shop, tmp_path, monkeypatch):
    real = Detector.inspect
    seen = []

    def once(self, scan, **settings):
        if seen:
            raise KeyboardInterrupt
        seen.append(scan)
        return real(self, scan, **settings)

    monkeypatch.setattr(Detector, "inspect", once)
    files = [str(shop / "good.ply"), str(shop / "bad.ply")]
    run = CliRunner().invoke(app, ["inspect", str(shop / "block.safetensors"), *files, "--out", str(tmp_path)])
    assert run.exit_code == 130 and "the report holds 1 of 2 scans" in run.output
    assert [r["name"] for r in rows_of(tmp_path)] == ["good"]


def test_files_of_one_stem_are_told_apart():
    files = [Path(f) for f in ("a.ply", "b.ply", "b.pcd", "x/c.ply", "y/c.ply")]
    assert names_of(files) == ["a", "b.ply", "b.pcd", "x/c.ply", "y/c.ply"]


def test_many_unreadable_files_are_not_all_named(shop, tmp_path):
    for i in range(23):
        (tmp_path / f"junk{i:02}.ply").write_text("junk")
    args = ["inspect", str(shop / "block.safetensors"), str(tmp_path), "--out", str(tmp_path / "out")]
    run = CliRunner().invoke(app, args)
    assert str(run.exception).count("junk") == 20 and str(run.exception).endswith(
        "and 3 more; parts.csv has their notes"
    )
    assert len(rows_of(tmp_path / "out")) == 23


@pytest.fixture(scope="module")
def shop(detector, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    detector.save(folder / "block.safetensors")
    write_ply(folder / "good.ply", turned(stepped_block(20), 20))
    write_ply(folder / "bad.ply", turned(stepped_block(21, dent=1.5), 21))
    (folder / "junk.ply").write_text("junk")
    return folder


@pytest.mark.parametrize(("scans", "code"), [(["good"], 0), (["good", "bad"], 1), (["good", "junk"], 2)])
def test_exit_codes_of_a_batch(shop, tmp_path, scans, code):
    files = [str(shop / f"{name}.ply") for name in scans]
    run = CliRunner().invoke(app, ["inspect", str(shop / "block.safetensors"), *files, "--out", str(tmp_path)])
    # The command's errors are raised: r3dad.cli.main turns them into exit code 2.
    assert run.exit_code == code or (code == 2 and isinstance(run.exception, InputError))
    assert len(rows_of(tmp_path)) == len(scans)
    said = [line for line in run.output.splitlines() if line.startswith("NG ")]
    assert len(said) == scans.count("bad") and all(re.fullmatch(r"NG bad, score .*, dent -1\.\d\d mm", s) for s in said)


def test_pdf_of_a_batch(shop, tmp_path):
    pytest.importorskip("fpdf", reason="needs fpdf2, the extra pdf")
    args = ["inspect", str(shop / "block.safetensors"), str(shop / "bad.ply"), "--out", str(tmp_path), "--pdf"]
    assert CliRunner().invoke(app, args).exit_code == 1
    data = (tmp_path / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF") and b"/Image" in data


def test_a_las_comes_back_as_las(detector, tmp_path):
    laspy = pytest.importorskip("laspy", reason="needs laspy, the extra las")
    scan = turned(stepped_block(21, dent=1.5), 21)
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.scales, header.offsets = [1e-5] * 3, scan.min(0)
    cloud = laspy.LasData(header)
    cloud.xyz = scan
    cloud.write(tmp_path / "scan.las")
    made = detector.inspect(tmp_path / "scan.las")
    write(tmp_path / "out", [made], title="t")
    back = laspy.read(tmp_path / "out" / "scan.las")
    np.testing.assert_allclose(back.xyz, made.points, atol=1e-5)
    np.testing.assert_allclose(back["deviation"], made.deviation, atol=1e-5)
    assert np.ptp(back.red) > 1000


def test_a_nominal_mesh_in_place_of_good_scans(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    low = trimesh.creation.box(bounds=[[0, 0, 0], [60, 40, 15]])
    tall = trimesh.creation.box(bounds=[[0, 0, 15], [20, 40, 30]])
    trimesh.util.concatenate([low, tall]).export(tmp_path / "part.stl")
    detector = Detector(calibration=2, surface_points=12_000).fit(nominal=tmp_path / "part.stl")
    assert "no good scan" in detector.recipe.note
    made = detector.inspect(turned(stepped_block(21, dent=1.5), 21), tolerance=Tolerance((-0.5, 0.5)))
    assert made.verdict == "NG"
    worst = next(d for d in made.defects if d.outside_limits)
    assert worst.depth_mm == pytest.approx(-1.5, rel=0.2)
    with pytest.raises(InputError, match="in place of good scans"):
        Detector().fit([stepped_block(0)], nominal=tmp_path / "part.stl")
