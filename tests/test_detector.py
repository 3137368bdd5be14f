"""Detector: from scans to predictions, and one file on disk."""

import dataclasses

import numpy as np
import pytest
import torch

from r3dad import Detector, InputError, checkpoint
from tests.conftest import block_scan


@pytest.fixture
def detector(good_scans, tiny):
    return Detector(recipe="paper", **tiny).fit(good_scans)


def test_prediction_has_every_point_in_the_scans_own_frame(detector):
    scan = block_scan(9, 777) + 1000
    p = detector.predict(scan)
    assert p.point_scores.shape == (777,) and np.isfinite(p.point_scores).all()
    assert p.displacement.shape == p.reconstruction.shape == (777, 3)
    assert np.allclose(p.reconstruction, scan + p.displacement)
    assert p.is_defective == (p.score > detector.threshold)


def test_same_scores_on_every_run_thread_count_and_kind_of_scan(detector):
    scan = block_scan(9)
    first = detector.predict(scan)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        again = detector.predict(torch.from_numpy(scan))
    finally:
        torch.set_num_threads(threads)
    assert first.score == pytest.approx(again.score, rel=1e-5)
    assert np.allclose(first.point_scores, again.point_scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shift, scale", [(0, 1e-6), (1e6, 1.0), (0, 1e6)])
def test_units_and_origin_do_not_change_the_verdict(detector, shift, scale):
    scan = block_scan(9)
    want, got = detector.predict(scan), detector.predict(scan * scale + shift)
    assert got.score == pytest.approx(want.score, rel=1e-2)
    assert np.allclose(got.displacement, want.displacement * scale, atol=2e-2 * scale * np.abs(want.displacement).max())


def test_save_and_load_give_the_same_prediction(detector, tmp_path):
    path = tmp_path / "deep" / "part.safetensors"
    detector.save(path)
    loaded = Detector.load(path)
    scan = block_scan(9)
    a, b = detector.predict(scan), loaded.predict(scan)
    assert a.score == b.score and np.array_equal(a.point_scores, b.point_scores)
    assert loaded.threshold == detector.threshold
    assert [f.name for f in path.parent.iterdir()] == ["part.safetensors"]


def test_damaged_foreign_and_future_model_files_are_refused(detector, tmp_path, monkeypatch):
    path = tmp_path / "part.safetensors"
    with pytest.raises(InputError, match="no such model"):
        Detector.load(path)
    detector.save(path)
    data = path.read_bytes()
    for name, content, words in (
        ("cut", data[: len(data) // 2], "damaged"),
        ("noise", bytes(range(256)) * 8, "damaged"),
        ("empty", b"", "damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            Detector.load(tmp_path / name)
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    with pytest.raises(InputError, match="format"):
        Detector.load(path)
    checkpoint.save(path, "training", {}, {})
    with pytest.raises(InputError, match="not an r3dad model"):
        Detector.load(path)


def test_missing_tensor_is_a_damaged_file(detector, tmp_path):
    tensors, settings = detector.recipe.state()
    tensors.pop(next(iter(tensors)))
    checkpoint.save(tmp_path / "m", "model", tensors, {"recipe": "paper", "settings": settings})
    with pytest.raises(InputError, match="damaged"):
        Detector.load(tmp_path / "m")


def test_wrong_use_says_what_to_do(tiny, good_scans):
    with pytest.raises(InputError, match="not fitted"):
        Detector(recipe="paper").predict(good_scans[0])
    with pytest.raises(InputError, match="unknown: expected one of"):
        Detector(recipe="nonsense")
    with pytest.raises(InputError, match="unknown setting"):
        Detector(recipe="paper", **tiny, colour="red").fit(good_scans)
    with pytest.raises(InputError, match="at least one good scan"):
        Detector(recipe="paper", **tiny).fit([])
    with pytest.raises(InputError, match="at least the 16 neighbours"):
        Detector(recipe="paper", **tiny).fit([good_scans[0][:10]])


@pytest.mark.parametrize("shape", ["planar", "collinear", "duplicates"])
def test_degenerate_scans_score_or_are_refused(detector, shape):
    scan = block_scan(9, 300)
    if shape == "planar":
        scan[:, 2] = 0
    elif shape == "collinear":
        with pytest.raises(InputError, match="on one line"):
            detector.predict(scan * [1, 0, 0])
        return
    else:
        scan = np.repeat(scan[:100], 3, 0)
    assert np.isfinite(detector.predict(scan).point_scores).all()


def test_threshold_comes_with_its_false_alarm_rate_and_survives_nothing_else(detector):
    recipe = detector.recipe
    assert np.isfinite(recipe.threshold) and recipe.false_alarm_rate == 0.05 and 0 <= recipe.found <= 1
    assert {f.name for f in dataclasses.fields(recipe.config)} >= {"model", "patch_ratio", "seed"}
