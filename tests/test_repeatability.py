"""``r3dad repeatability``: the figures of a Type-1 gauge study by hand, places on a part that moves, the page."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pytest

from r3dad.errors import InputError
from r3dad.inspection import Alignment, Inspection
from r3dad.line.gauge import type1
from r3dad.line.repeatability import LEAST, repeatability, write
from r3dad.line.repeatability_page import page


def test_type_1_by_hand():
    """Mean 10.02, squares of the differences 0.0004 * 10 = 0.001 * 4; s^2 = 0.001, T = 1, r = 10."""
    study = type1("length", [9.98, 10.00, 10.02, 10.04, 10.06], tolerance=1.0, reference=10.0)
    s = math.sqrt((0.04**2 + 0.02**2 + 0 + 0.02**2 + 0.04**2) / 4)
    assert study.mean == pytest.approx(10.02) and study.s == pytest.approx(s) == pytest.approx(0.0316227766)
    assert study.bias == pytest.approx(0.02)
    assert study.cg == pytest.approx(0.2 / (6 * 0.0316227766)) == pytest.approx(1.0540926)
    assert study.cgk == pytest.approx((0.1 - 0.02) / (3 * 0.0316227766)) == pytest.approx(0.8432740)
    assert study.t == pytest.approx(0.02 * math.sqrt(5) / 0.0316227766) == pytest.approx(math.sqrt(2))
    assert study.p == pytest.approx(0.2302, abs=1e-4)  # two-sided, 4 degrees of freedom
    assert study.capable is False


def test_capable_needs_both():
    values = [0.001, -0.001, 0.001, -0.001]
    assert type1("x", values, tolerance=0.1).capable is True
    assert type1("x", values, tolerance=0.1, reference=0.0).capable is True
    biased = type1("x", values, tolerance=0.1, reference=0.009)
    assert biased.cg > 1.33 > biased.cgk and biased.capable is False
    assert type1("x", values, tolerance=0.1, reference=0.02).cgk < 0
    assert type1("x", values).capable is None and type1("x", values).cg is None


def test_values_that_do_not_spread():
    study = type1("x", [0.1, 0.1, 0.1], tolerance=1.0, reference=0.1)
    assert study.s == 0 and study.cg == math.inf and study.cgk == math.inf and study.t == 0 and study.capable
    assert type1("x", [0.3] * 3, tolerance=1.0, reference=0.1).cgk == -math.inf


def test_what_is_no_study():
    with pytest.raises(InputError, match="length: expected at least two values, found 1"):
        type1("length", [1.0])
    with pytest.raises(InputError, match="tolerance -1: expected a width above 0"):
        type1("length", [1.0, 2.0], tolerance=-1.0)


class Stub:
    """A detector that sees a plate of 40 x 30 mm in any pose; its corner at (0, 0) stands off by what the scan's file says."""

    threshold = 1.0

    def __init__(self, *, posed: bool = True, verdicts: tuple[str, ...] = ()) -> None:
        self._posed, self._verdicts = posed, list(verdicts)

    def inspect(self, scan, *, tolerance=None) -> Inspection:
        lift, angle = scan.points[-1, :2]
        if lift < 0:
            raise InputError("the scan has too few points")
        x, y = np.meshgrid(np.arange(0, 40, 0.5), np.arange(0, 30, 0.5))
        part = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
        deviation = np.where(np.linalg.norm(part, axis=1) < 4, lift, 0.0)
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, [angle, 5, 7]
        points = (part - matrix[:3, 3]) @ turn
        verdict = self._verdicts.pop(0) if self._verdicts else "OK"
        count = len(points)
        return Inspection(
            name=scan.name,
            verdict=verdict,
            score=math.nan if verdict == "NOT THIS PART" else float(lift),
            threshold=1.0,
            review=(1.0, 1.0),
            false_alarm_rate=0.05,
            alignment=Alignment(0.1, 1.0, 1.0, 2.0, matrix) if self._posed else None,
            defects=[],
            points=points,
            point_scores=np.zeros(count, np.float32),
            deviation=deviation,
            displacement=np.zeros((count, 3)),
            limits=np.tile([-1.0, 1.0], (count, 1)),
            source=scan.path,
        )


LIFTS = (0.2, 0.4, 0.3, 0.5, 0.1)


def scans(folder, lifts=LIFTS):
    files = []
    for i, lift in enumerate(lifts):
        files.append(folder / f"scan{i}.npy")
        np.save(files[-1], np.array([[0, 0, 0], [1, 1, 1], [lift, 0.7 * i, 0]], float))
    return files


def test_places_keep_their_values_whatever_the_pose(tmp_path):
    result = repeatability(
        Stub(), scans(tmp_path), model="plate", tolerance=2.0, reference=0.3, at=[(0.5, 0.5, 0.0), (30.0, 20.0, 0.0)]
    )
    names = [study.name for study in result.studies]
    assert names[0] == "score" and names[3:5] == ["deviation at 0.5,0.5,0.0", "deviation at 30.0,20.0,0.0"]
    corner, far = result.studies[3:5]
    assert (
        corner.values == pytest.approx(LIFTS) and corner.mean == pytest.approx(0.3) and corner.bias == pytest.approx(0)
    )
    s = math.sqrt(0.1 / 4)  # of 0.2, 0.4, 0.3, 0.5, 0.1
    assert corner.s == pytest.approx(s) and corner.cg == pytest.approx(0.4 / (6 * s))
    assert corner.cgk == pytest.approx(0.2 / (3 * s))
    assert far.values == pytest.approx([0] * 5) and far.s == 0 and far.cg == math.inf
    worst = result.studies[-1]
    assert worst.name.startswith("deviation where it spreads most") and worst.s == pytest.approx(s)
    near = np.linalg.norm(result.places, axis=1) < 2.5
    assert (
        near.any()
        and result.spread[near] == pytest.approx(s)
        and result.spread[np.linalg.norm(result.places, axis=1) > 6].max() == 0
    )
    assert result.to_threshold == pytest.approx(0.7 / s) and result.verdicts == {"OK": 5}


def test_files_and_page(tmp_path):
    verdicts = ("OK", "NG", "OK", "NOT THIS PART", "OK", "OK")
    result = repeatability(Stub(verdicts=verdicts), scans(tmp_path, (*LIFTS, -1)), model="<plate>", tolerance=1.0)
    made = write(tmp_path / "out", result)
    figures = json.loads((tmp_path / "out" / "repeatability.json").read_text())
    assert figures["schema"] == "r3dad.repeatability/1" and figures["tolerance_mm"] == 1.0
    assert figures["verdicts"] == {"OK": 3, "NG": 1, "NOT THIS PART": 1, "UNREADABLE": 1}
    assert len(figures["studies"][0]["values"]) == 4 and figures["places"]["s_largest_mm"] > 0.1
    rows = list(csv.DictReader((tmp_path / "out" / "repeatability.csv").open()))
    assert [r["score"] for r in rows] == ["0.2", "0.4", "0.3", "", "0.1", ""] and "too few points" in rows[5]["note"]
    text = made.read_text()
    assert "&lt;plate&gt;" in text and "<plate>" not in text and text.count("<polyline") == len(result.studies)
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "6 scans are few" in text and "No tolerance" not in text


def test_the_page_warns_where_the_verdict_may_turn(tmp_path):
    result = repeatability(Stub(), scans(tmp_path, (0.9, 1.05)), model="plate")
    assert result.to_threshold < 3 and "may turn" in page(result) and "No tolerance was given" in page(result)


def test_a_model_without_pose(tmp_path):
    result = repeatability(Stub(posed=False), scans(tmp_path), model="plate", tolerance=1.0)
    assert [study.name for study in result.studies] == ["score"] and "Where it spreads" not in page(result)
    with pytest.raises(InputError, match="no surface to place it on"):
        repeatability(Stub(posed=False), scans(tmp_path), model="plate", at=[(0.0, 0.0, 0.0)])


def test_what_cannot_be_studied(tmp_path):
    with pytest.raises(InputError, match="1 of 2 scans can be used .*too few points"):
        repeatability(Stub(), scans(tmp_path, (0.1, -1)), model="plate")
    with pytest.raises(InputError, match=f"fewer than {LEAST} points around it"):
        repeatability(Stub(), scans(tmp_path), model="plate", at=[(500.0, 0.0, 0.0)])
