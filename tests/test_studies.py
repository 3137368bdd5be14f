"""The studies of `benchmarks`: the parts that tables are made from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import ablation, detection_limit, left_out, oracle, thin_walls
from r3dad.features import ScanFeatures
from r3dad.scorer import Scorer, top
from r3dad.scorer_training import Sample, fit_points
from r3dad.surface import Surface

VERTICES = np.array([[x, y, z] for x in (0.0, 2.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def test_vectors_from_a_mesh_are_those_to_a_box():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.3, 1.3, (500, 3)) + [0.5, 0, 0]
    outside = points - np.clip(points, 0, [2, 1, 1])
    depth = np.minimum(points, [2, 1, 1] - points).min(1)
    expected = np.where(depth > 0, depth, np.linalg.norm(outside, axis=1))
    vector = oracle.from_mesh(points, VERTICES, FACES)
    assert np.abs(np.linalg.norm(vector, axis=1) - expected).max() < 1e-3
    assert np.abs(vector - outside)[depth < 0].max() < 0.05


def test_plain_score_marks_a_dent_and_caps_a_stray_point():
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.random((3000, 2)), np.zeros(3000)])
    vector = np.column_stack([np.zeros((3000, 2)), 0.001 * rng.normal(size=3000)])
    dent = np.linalg.norm(points[:, :2] - 0.5, axis=1) < 0.08
    vector[dent, 2] -= 0.02
    vector[np.flatnonzero(~dent)[7], 2] = 1.0
    score = oracle.plain(points, vector, 0.001)
    assert score[dent].mean() > 10 and np.quantile(score[~dent], 0.9) < 2
    assert top(score, oracle.SHARE) < 30  # a mean of 16 neighbours, one of them 1000: 60


def rows(floor: float, recipe: float) -> list[dict]:
    found = []
    for c in "ab":
        for i in range(20):
            found.append(
                {"class": c, "kind": "good", "severity": None, **dict.fromkeys(oracle.METHODS, (i / 20, None))}
            )
        for i in range(20):
            scores = {"floor": (i / 20 + floor, 0.5), "recipe": (i / 20 + recipe, 0.7), "oracle": (2.0, 0.9)}
            found.append({"class": c, "kind": "hole", "severity": 1, **scores})
    return found


def test_share_of_the_way_is_none_at_the_floor_and_all_at_the_oracle():
    assert oracle.way(rows(0.0, 0.0), {"kind": "hole"}, oracle.objects)["way"] == pytest.approx(0)
    assert oracle.way(rows(0.0, 2.0), {"severity": 1}, oracle.objects)["way"] == pytest.approx(1)
    half = oracle.way(rows(0.0, 0.5), {}, oracle.within)
    assert half["way"] == pytest.approx(0.5) and half["interval"] == pytest.approx([0.5, 0.5]) and half["scans"] == 40


def sphere(count: int = 3000) -> np.ndarray:
    points = np.random.default_rng(2).normal(size=(count, 3))
    return 0.5 * points / np.linalg.norm(points, axis=1, keepdims=True)


def test_shapes_of_known_size():
    points, radii = 100 * sphere(), np.array([10.0, 14.0, 20.0, 28.0])
    found = detection_limit.shapes(points, points / 50, 0, radii, 173.0, 0.3)
    for share, r in zip(detection_limit.SHARES, radii, strict=True):
        moved = found[f"bump {share}"] > 0
        assert np.linalg.norm(points[moved] - points[0], axis=1).max() < r
        assert moved.mean() == pytest.approx((r / 50) ** 2 / 4, rel=0.25)
        assert (found[f"dent {share}"] == -found[f"bump {share}"]).all() and found[f"bump {share}"][0] == 1
    groove = found["groove"]
    across = np.linalg.svd(points[groove < -0.01] - points[groove < -0.01].mean(0))[1]
    assert groove.min() == pytest.approx(-1) and across[0] > 4 * across[2]


def test_a_tape_plays_what_was_recorded():
    calls, tape = [], ablation.Tape()

    def function(x):
        calls.append(x)
        return 2 * x

    for _ in range(2):
        tape.rewind()
        played = tape.of("f", function)
        assert [played(1), played(2)] == [2, 4]
    assert calls == [1, 2]


def test_variants_replace_what_is_there_and_put_it_back():
    before = (
        Scorer.verdict,
        Surface.build,
        ablation.aligned.COMPLETE,
        ablation.features.gaps,
        ablation.Search.find_likenesses,
    )
    for name, (context, same) in ablation.VARIANTS.items():
        with ablation.taped(ablation.Tape(), same), context():
            if name == "object rule: highest logit":
                assert Scorer.verdict(None, np.array([1.0, 5.0, 2.0])) == 5
    assert before == (
        Scorer.verdict,
        Surface.build,
        ablation.aligned.COMPLETE,
        ablation.features.gaps,
        ablation.Search.find_likenesses,
    )


def test_a_raw_surface_is_made_of_the_points_of_the_scans():
    cloud = sphere() + 0.002 * np.random.default_rng(3).normal(size=(3000, 3))
    surface, fused = ablation.raw([cloud], 2000), Surface.build([cloud], 2000)
    known = {tuple(p) for p in cloud}
    assert all(tuple(p) in known for p in surface.points)
    rough, smooth = (np.std(np.linalg.norm(s.points, axis=1)) for s in (surface, fused))
    assert smooth < 0.8 * rough


def test_flipped_normals_are_counted_on_a_simulated_part(tmp_path):
    from types import SimpleNamespace

    design = thin_walls.part("flange", 100)
    points, normals = design.cloud
    surface = SimpleNamespace(
        points=points / 7, normals=np.where(np.arange(len(points))[:, None] % 4 == 0, -normals, normals)
    )
    recipe = SimpleNamespace(surface=surface, frame=SimpleNamespace(scale=7.0, centre=torch.zeros(3)))
    assert thin_walls.flipped(design, recipe) == pytest.approx(0.25, abs=0.01)


def sample(kind: str, sensor: str, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    points = rng.random((60, 3)).astype(np.float32)
    near = np.tile(np.arange(60)[:, None], (1, 32))
    scan = ScanFeatures(
        rng.random((60, 5)).astype(np.float32),
        near,
        points,
        np.tile(np.float32([0, 0, 1]), (60, 1)),
        0.0,
        1.0,
        1.0,
        0.001,
        0.1,
    )
    return Sample.of(scan, (np.arange(60) < 20) & (kind != "good"), kind, "box", sensor)


def test_left_out_groups_are_left_out_of_training_and_compared_on_their_own_scans(tmp_path, monkeypatch):
    every = [
        sample(k, s, i)
        for i, (k, s) in enumerate([("good", "lines"), ("hole", "lines"), ("bump", "uniform"), ("good", "uniform")] * 2)
    ]
    seen = []

    def train(samples, held, *, steps, seed=0):
        seen.append([{(s.kind, s.sensor) for s in found} for found in (samples, held)])
        torch.manual_seed(seed)
        return Scorer(5)

    monkeypatch.setattr(left_out, "train", train)
    monkeypatch.setattr(left_out, "RESAMPLES", 20)
    found = left_out.study(every, every, every, ["hole", "lines"], 1, tmp_path)
    whole = {("good", "lines"), ("hole", "lines"), ("bump", "uniform"), ("good", "uniform")}
    assert seen == [
        [whole] * 2, [whole] * 2, [whole - {("hole", "lines")}] * 2, [{("bump", "uniform"), ("good", "uniform")}] * 2
    ]  # fmt: skip
    assert (found["hole"]["defective"], found["hole"]["good"]) == (2, 4)
    assert (found["lines"]["defective"], found["lines"]["good"]) == (2, 2)
    assert found["hole"]["without"] == found["hole"]["with"]  # the stand-ins are the same network
    again = left_out.study(every, every, every, ["hole"], 1, tmp_path)
    assert len(seen) == 4 and again["hole"] == found["hole"]  # kept


@pytest.mark.parametrize("kinds", [("good",), ("hole",)])
def test_point_scores_train_on_one_kind_of_scan_alone(kinds):
    net = Scorer(5)
    before = [p.clone() for p in net.rounds.parameters()]
    fit_points(net, [sample(k, "lines", i) for i, k in enumerate(kinds)], steps=2)
    assert any(not torch.equal(a, b) for a, b in zip(before, net.rounds.parameters(), strict=True))


def test_left_out_difference_has_the_sign_of_the_loss():
    bad = np.arange(40) % 2 == 0
    full = np.stack([bad * 1.0, np.where(bad, 0.9, np.nan), np.where(bad, 0.8, np.nan)])
    worse = full - np.array([[0.0], [0.1], [0.2]])
    without, with_it, interval = left_out.compared(worse, full, bad)
    assert np.allclose(without - with_it, [0, -0.1, -0.2]) and (interval[1, 1:] < 0).all()
