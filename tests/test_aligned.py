"""The aligned recipe, from good scans to a verdict."""

from __future__ import annotations

import numpy as np
import pytest

from r3dad import checkpoint
from r3dad.detector import Detector
from r3dad.errors import InputError
from r3dad.recipes.aligned import AlignedRecipe
from tests.aligned_shapes import stepped_block


def turned(p: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return p @ (q * np.sign(np.linalg.det(q))).T + rng.uniform(-50, 50, 3)


@pytest.fixture(scope="module")
def recipe() -> AlignedRecipe:
    return AlignedRecipe.fit([turned(stepped_block(i), i) for i in range(3)], calibration=4, seed=0)


def test_good_scans_are_good(recipe):
    results = [recipe.predict(turned(stepped_block(i), i)) for i in range(20, 34)]
    assert all(r.is_this_part for r in results)
    assert sum(r.score > recipe.threshold for r in results) <= 1, [r.score - recipe.threshold for r in results]


def test_a_dent_is_found_at_its_place_with_sign_and_depth(recipe):
    flat = stepped_block(21, dent=1.5)
    result = recipe.predict(turned(flat, 21))
    assert result.score > recipe.threshold
    near = np.linalg.norm(flat[:, :2] - [42, 20], axis=1)
    top = (flat[:, 2] > 12) & (flat[:, 2] < 16)
    bottom = top & (near < 1.5)
    assert -1.7 < result.deviation[bottom].mean() < -1.2
    assert result.point_scores[top & (near < 4)].mean() > 0.8
    assert result.point_scores[near > 12].mean() < 0.05
    assert abs(result.deviation[near > 12]).mean() < 0.1


def test_displacement_leads_back_to_the_good_surface_in_the_scans_frame(recipe):
    flat = stepped_block(21, dent=1.5)
    scan = turned(flat, 21)
    result = recipe.predict(scan)
    bottom = (np.linalg.norm(flat[:, :2] - [42, 20], axis=1) < 1.5) & (flat[:, 2] > 12)
    up = turned(np.array([[0.0, 0, 1]]), 21) - turned(np.zeros((1, 3)), 21)
    assert ((result.displacement[bottom] @ up[0]) > 1.1).all()


def test_a_hole_is_marked_at_its_rim(recipe):
    flat = stepped_block(22, hole=5.0)
    result = recipe.predict(turned(flat, 22))
    assert result.score > recipe.threshold
    near = np.linalg.norm(flat[:, :2] - [42, 20], axis=1)
    top = (flat[:, 2] > 14) & (flat[:, 2] < 16)
    rim, far = result.point_scores[top & (near < 5.8)], result.point_scores[near > 12]
    assert rim.mean() > 10 * np.median(far)
    assert (rim[:, None] > far).mean() > 0.95  # a rim point outranks a point elsewhere


def test_same_scan_same_scores(recipe):
    scan = turned(stepped_block(23, dent=1.0), 23)
    a, b = recipe.predict(scan), recipe.predict(scan)
    assert a.score == b.score and np.array_equal(a.point_scores, b.point_scores)


def test_state_round_trip(recipe):
    tensors, settings = recipe.state()
    again = AlignedRecipe.from_state(tensors, settings)
    scan = turned(stepped_block(24, dent=1.0), 24)
    assert np.array_equal(again.predict(scan).point_scores, recipe.predict(scan).point_scores)
    assert again.threshold == recipe.threshold


def test_a_model_of_another_version_is_refused(recipe, tmp_path):
    tensors, settings = recipe.state()
    settings = settings | {"scorer": settings["scorer"] | {"revision": 1}}
    checkpoint.save(tmp_path / "old.safetensors", "model", tensors, {"recipe": "aligned", "settings": settings})
    with pytest.raises(
        InputError, match="old.safetensors: .*another version.*revision 1, expected.*fit or train it again"
    ):
        Detector.load(tmp_path / "old.safetensors")


def test_a_dense_scan_is_scored_at_every_point(recipe):
    scan = stepped_block(25, count=30_000, dent=1.5)
    result = recipe.predict(turned(scan, 25))
    assert result.point_scores.shape == result.deviation.shape == (len(scan),)
    assert result.score > recipe.threshold


def test_another_part_gets_no_verdict(recipe):
    ball = np.random.default_rng(0).normal(size=(4000, 3))
    result = recipe.predict(30 * ball / np.linalg.norm(ball, axis=1, keepdims=True))
    assert not result.is_this_part and "not this part" in result.note


def test_a_scan_of_another_part_among_the_good_ones_is_left_out_and_named():
    ball = np.random.default_rng(0).normal(size=(4000, 3))
    odd = 30 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    blocks = [turned(stepped_block(i), i) for i in range(2)]
    with pytest.warns(UserWarning, match="left out.*good scan 2"):
        recipe = AlignedRecipe.fit([blocks[0], odd, blocks[1]], calibration=2)
    assert "good scan 2" in recipe.note
    assert recipe.predict(turned(stepped_block(9), 9)).is_this_part
    with pytest.raises(InputError, match="good scans disagree: good scan"):
        AlignedRecipe.fit([blocks[0], odd], calibration=2)


def test_one_good_scan_is_enough_with_a_warning():
    with pytest.warns(UserWarning, match="one good scan"):
        recipe = AlignedRecipe.fit([turned(stepped_block(1), 1)], calibration=4)
    assert recipe.predict(turned(stepped_block(24, dent=2.0), 24)).score > recipe.threshold


def test_whole_and_one_sided_scans_are_judged_by_their_own_kind(recipe):
    whole = stepped_block(26)
    sided = whole[(whole @ [0.3, 0.2, 1]) > np.quantile(whole @ [0.3, 0.2, 1], 0.6)]
    assert (recipe.usual[:, 1] > 0).all() and recipe.usual[0, 0] != recipe.usual[1, 0]
    for scan in (whole, sided):
        assert -4 < recipe.predict(turned(scan, 26)).score


def test_bad_input_is_told_in_one_line(recipe):
    with pytest.raises(InputError, match="100 points"):
        recipe.predict(np.zeros((100, 3)))
    with pytest.raises(InputError, match="pose 'upright'"):
        AlignedRecipe.fit([stepped_block(0)], pose="upright")
    with pytest.raises(InputError, match="depth"):
        AlignedRecipe.fit([stepped_block(0)], depth=3)
    with pytest.raises(InputError, match="at least one good scan"):
        AlignedRecipe.fit([])


@pytest.mark.slow
def test_displacements_may_be_diffused_at_their_place(recipe):
    """The decoder in the surface's stead: the same scores, nearly the same depth of a dent, and it travels with the model."""
    goods = [turned(stepped_block(i), i) for i in range(3)]
    other = AlignedRecipe.fit(goods, calibration=4, seed=0, displacement="diffusion")
    flat = stepped_block(21, dent=1.5)
    scan = turned(flat, 21)
    want, got = recipe.predict(scan), other.predict(scan)
    assert got.score == want.score and np.array_equal(got.point_scores, want.point_scores)
    bottom = (np.linalg.norm(flat[:, :2] - [42, 20], axis=1) < 1.5) & (flat[:, 2] > 12) & (flat[:, 2] < 16)
    assert abs(got.deviation[bottom].mean() - want.deviation[bottom].mean()) < 0.25
    assert np.abs(got.displacement - want.displacement).mean() < 0.1
    loaded = AlignedRecipe.from_state(*other.state()).predict(scan)
    assert np.array_equal(loaded.deviation, got.deviation)


def sheet(seed: int, thick: float) -> np.ndarray:
    """Both sides of a sheet of 60 x 40 mm with a corner cut off, 4000 points."""
    rng = np.random.default_rng(seed)
    p = np.c_[rng.random((5000, 2)) * [60, 40], thick * rng.integers(0, 2, 5000)]
    return p[p[:, 0] + p[:, 1] < 80][:4000] + rng.normal(0, 0.05, (4000, 3))


@pytest.mark.filterwarnings("ignore:fitted to one good scan")
def test_thin_walls_ask_for_more_of_a_dense_scan(recipe):
    settings = {"most": 1500, "surface_points": 3000, "calibration": 1, "pose": "fixed"}
    with pytest.warns(UserWarning, match="walls are as thin as the 1500 points.*most=4000 and surface_points=9000"):
        found = AlignedRecipe.fit([sheet(0, 1.5)], **settings)
    assert "most=4000" in found.note and found.surface.thin > 0.3 > 0.02 > recipe.surface.thin
    assert "walls" not in AlignedRecipe.fit([sheet(0, 12.0)], **settings).note


@pytest.mark.filterwarnings("ignore:fitted to one good scan")
def test_thin_walls_of_a_sparse_scan_ask_for_a_refined_scorer():
    with pytest.warns(UserWarning, match="walls are as thin as points are apart: refine=150"):
        AlignedRecipe.fit([sheet(0, 1.5)], surface_points=3000, calibration=1, pose="fixed")
