"""Data set layouts, and truth that does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from r3dad.scans import detect_layout, list_classes, read_scan, read_truth
from tests.scan_files import ROOT, error_of, save_pcd


def small_set(root: Path, layout: str, classes: tuple[str, ...] = ("gear10", "gear2")) -> None:
    """A data set as Anomaly-ShapeNet or Real3D-AD lay it out: 2 templates, a good and a bad scan per class."""
    shapenet = layout == "shapenet"
    for name in classes:
        rng = np.random.default_rng(len(name))
        for folder in ("train", "test", "GT" if shapenet else "gt"):
            (root / name / folder).mkdir(parents=True)
        stems = (
            (f"{name}_template{{}}", f"{name}_positive0", f"{name}_sink0")
            if shapenet
            else ("{}_template", "7_good", "8_sink")
        )
        for i in range(2):
            save_pcd(
                root / name / "train" / f"{stems[0].format(i)}.pcd", rng.normal(size=(30, 3)), "binary", np.float32
            )
        for stem in stems[1:]:
            points = rng.normal(size=(30, 3)) * 20
            save_pcd(root / name / "test" / f"{stem}.pcd", points, "ascii" if shapenet else "binary", np.float32)
            labels = (np.arange(30) < 5).astype(float)
            if stem == stems[2]:
                table = np.column_stack([points, labels])
                mark = "," if shapenet else " "
                np.savetxt(
                    root / name / ("GT" if shapenet else "gt") / f"{stem}.txt",
                    table,
                    fmt=["%.4f"] * 3 + ["%g"],
                    delimiter=mark,
                )


@pytest.mark.parametrize("layout", ["shapenet", "real3d"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "alone" / "set"
    small_set(root, layout)
    (root / "manifest.json").write_text("{}")
    assert detect_layout(root) == layout
    found = list_classes(root)
    assert [entry.name for entry in found] == ["gear2", "gear10"]
    for entry in found:
        assert len(entry.train) == 2 and [scan.good for scan in entry.test] == [True, False]
        for labelled in entry.test:
            scan = read_scan(labelled.path)
            truth = read_truth(labelled, scan.points)
            assert truth.dtype == bool and truth.shape == (30,)
            assert truth.tolist() == ([False] * 30 if labelled.good else [True] * 5 + [False] * 25)
    assert [entry.name for entry in list_classes(root, classes=["gear10"])] == ["gear10"]
    assert [entry.name for entry in list_classes(root, layout, ["gear10", "gear2"])] == ["gear10", "gear2"]
    assert [entry.name for entry in list_classes(root / "gear2")] == ["gear2"]
    assert "no class a, b; expected some of gear2, gear10" in error_of(list_classes, root, "auto", ["a", "gear2", "b"])
    assert "layout 'mvtec'" in error_of(list_classes, root, "mvtec")
    assert detect_layout(root / "gear2" / "train") == "folder"
    assert list_classes(root / "gear2" / "train")[0].test == []
    assert f"give {root}" in error_of(detect_layout, root.parent)


def test_a_class_named_like_a_good_scan(tmp_path: Path) -> None:
    small_set(tmp_path, "shapenet", ("positive_displacement_pump",))
    assert [scan.good for scan in list_classes(tmp_path)[0].test] == [True, False]


def test_truth_that_does_not_fit(tmp_path: Path) -> None:
    small_set(tmp_path, "real3d")
    bad = list_classes(tmp_path)[0].test[1]
    points = read_scan(bad.path).points
    assert bad.truth is not None
    text = bad.truth.read_text()

    def message(new: str | None) -> str:
        assert bad.truth is not None
        bad.truth.write_text(text if new is None else new)
        found = error_of(read_truth, bad, points)
        assert found.startswith("class gear2: ") and "8_sink.txt" in found
        return found

    lines = text.splitlines(keepends=True)
    assert "expected 30 labels" in message("".join(lines[:-1]))
    assert "order" in message("".join(lines[::-1]))
    assert "line 2" in message(lines[0] + "1 2 3 bad\n" + "".join(lines[2:]))
    assert "4 columns" in message("1 2 3\n" * 30)
    assert "labels 0 (good) or 1" in message("".join(line.rstrip()[:-1] + "-1\n" for line in lines))
    bad.truth.unlink()
    missing = list_classes(tmp_path)[0].test[1]
    assert missing.truth is None
    assert "no label file" in error_of(read_truth, missing, points)


def test_truth_of_a_scan_with_nan_points(tmp_path: Path) -> None:
    small_set(tmp_path, "real3d")
    bad = list_classes(tmp_path)[0].test[1]
    points = read_scan(bad.path).points
    points[2] = np.nan
    save_pcd(bad.path, points, "binary", np.float32)
    assert bad.truth is not None
    lines = bad.truth.read_text().splitlines()
    lines[2] = "nan nan nan 1"
    bad.truth.write_text("\n".join(lines))
    assert read_truth(bad, read_scan(bad.path).points).tolist() == [True] * 4 + [False] * 25


def test_sets_that_are_none(tmp_path: Path) -> None:
    assert "cannot be listed" in error_of(detect_layout, tmp_path / "nope")
    assert "neither" in error_of(detect_layout, tmp_path)
    (tmp_path / "file").touch()
    assert "this is a file" in error_of(detect_layout, tmp_path / "file")
    small_set(tmp_path, "shapenet")
    for path in (tmp_path / "gear2" / "train").iterdir():
        path.rename(path.with_name(path.name.replace("template", "scan")))
    assert "class gear2" in error_of(list_classes, tmp_path)


@pytest.mark.slow
def test_generated_parts_in_both_layouts(tmp_path: Path) -> None:
    script = ROOT.parent / "shared" / "data" / "make_parts.py"
    if not script.exists():
        pytest.skip("the generator of test parts is not beside the repository")
    call = [sys.executable, str(script), str(tmp_path), "--quick", "--classes", "bracket0"]
    subprocess.run(call, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for layout in ("shapenet", "real3d"):
        root = tmp_path / f"parts-{layout}"
        assert detect_layout(root) == layout
        (entry,) = list_classes(root)
        assert entry.name == "bracket0" and len(entry.train) == 4
        for labelled in entry.test:
            assert read_truth(labelled, read_scan(labelled.path).points).any() == (not labelled.good)
