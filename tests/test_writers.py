"""PLY results, and files written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from r3dad.errors import InputError
from r3dad.scans import find_scans, read_scan, write_atomic, write_ply
from tests.scan_files import ROOT, cloud, error_of


@pytest.mark.parametrize(("shift", "kind"), [(0.0, "float"), (1e6, "double")])
def test_ply_results(tmp_path: Path, shift: float, kind: str) -> None:
    import trimesh

    points = cloud(100, shift)
    scores = np.linspace(0, 1, 100)
    colors = np.arange(300, dtype=np.uint8).reshape(100, 3)
    path = write_ply(
        tmp_path / "new" / "a.ply",
        points,
        scalars={"scalar_anomaly_score": scores, "scalar_defect": scores > 0.5, "scalar_part": np.arange(100)},
        colors=colors,
    )
    header = path.read_bytes().partition(b"end_header\n")[0].decode()
    assert f"property {kind} x\n" in header and "property float scalar_anomaly_score\n" in header
    assert np.abs(read_scan(path).points - points).max() < 1e-5
    raw = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"]
    assert np.array_equal(raw["scalar_anomaly_score"], scores.astype(np.float32))
    assert np.array_equal(raw["scalar_defect"], scores > 0.5) and np.array_equal(raw["scalar_part"], np.arange(100))
    assert np.array_equal(np.column_stack([raw["red"], raw["green"], raw["blue"]]), colors)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.ply"]


def test_ply_arguments_that_do_not_fit(tmp_path: Path) -> None:
    points = cloud()
    error_of(write_ply, tmp_path / "a.ply", points[:, :2])
    for scalars in (
        {"a b": points[:, 0]},
        {"x": points[:, 0]},
        {"a": points[:3, 0]},
        {"a": points},
        {"a": np.full(40, "b")},
    ):
        error_of(write_ply, tmp_path / "a.ply", points, scalars=scalars)
    error_of(write_ply, tmp_path / "a.ply", points, colors=np.zeros((40, 3)))
    assert not list(tmp_path.iterdir())


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "er" / "a.csv"
    assert write_atomic(path, "größe") == path and path.read_text(encoding="utf-8") == "größe"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert "No space left" in error_of(write_atomic, path, b"newer")
    assert path.read_bytes() == b"new" and [entry.name for entry in path.parent.iterdir()] == ["a.csv"]
    monkeypatch.undo()
    assert "cannot be written" in error_of(write_atomic, path / "b.csv", "below a file")
    assert "cannot be written" in error_of(write_atomic, path.parent, "over a folder")


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """The process dies after the new bytes are written and before they take the file's name."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    code = (
        "import os, sys; from r3dad.scans import write_atomic\n"
        "os.replace = lambda *a: os._exit(9)\n"
        "write_atomic(sys.argv[1], b'new' * 10**6)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT).returncode == 9
    assert path.read_bytes() == b"old"
    assert find_scans_names(tmp_path) == []


def find_scans_names(folder: Path) -> list[str]:
    """Scans a folder shows; what a killed writer left is hidden and is none."""
    try:
        return [path.name for path in find_scans([folder])]
    except InputError:
        return []
