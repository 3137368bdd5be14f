"""Readers, objects and folders: what goes in comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from r3dad.scans import Scan, as_scan, find_scans, read_scan, write_ply
from r3dad.scans.mesh import SAMPLED_POINTS, mesh_points
from tests.scan_files import CLOUD_WRITERS, MESH_WRITERS, ROOT, cloud, dense_sphere, error_of, save_pcd


@pytest.mark.parametrize("kind", CLOUD_WRITERS)
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_clouds_come_back_exactly_and_in_order(tmp_path: Path, kind: str, shift: float) -> None:
    suffix, save, error = CLOUD_WRITERS[kind]
    points = cloud(shift=shift)
    path = tmp_path / f"part 1{suffix}"
    save(path, points)
    scan = read_scan(path)
    assert scan.points.dtype == np.float64 and scan.points.shape == points.shape
    assert np.abs(scan.points - points).max() <= error
    assert (scan.name, scan.path, scan.dropped, scan.sampled) == ("part 1", path, 0, False)


def test_float32_pcd_and_one_point(tmp_path: Path) -> None:
    for encoding in ("ascii", "binary", "binary_compressed"):
        points = cloud(1).astype(np.float32)
        save_pcd(tmp_path / "a.pcd", points, encoding, np.float32)
        assert np.array_equal(read_scan(tmp_path / "a.pcd").points, points.astype(np.float64))


def test_suffix_in_any_case(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud())
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    assert np.array_equal(read_scan(tmp_path / "A.NPY").points, cloud())
    assert find_scans([tmp_path]) == [tmp_path / "A.NPY"]


def test_a_ply_cloud_keeps_duplicates_and_order(tmp_path: Path) -> None:
    points = np.repeat(cloud(5), 3, axis=0)[::-1]
    write_ply(tmp_path / "a.ply", points + 1e6)
    assert np.array_equal(read_scan(tmp_path / "a.ply").points, points + 1e6)


@pytest.mark.parametrize("kind", MESH_WRITERS)
def test_vertices_of_a_dense_mesh_are_the_points(tmp_path: Path, kind: str) -> None:
    vertices, faces = dense_sphere()
    suffix, save = MESH_WRITERS[kind]
    path = tmp_path / f"a{suffix}"
    save(path, vertices, faces)
    scan = read_scan(path)
    assert not scan.sampled
    order = lambda x: x[np.lexsort(np.round(x, 3).T)]  # noqa: E731 - STL lists faces: its order is another
    assert scan.points.shape == vertices.shape
    assert np.allclose(order(scan.points), order(vertices), atol=1e-5)
    if kind in ("obj", "off"):
        assert np.array_equal(scan.points, vertices)


@pytest.mark.parametrize("kind", MESH_WRITERS)
def test_points_are_drawn_from_a_mesh_of_large_faces(tmp_path: Path, kind: str) -> None:
    import trimesh

    box = trimesh.creation.box((40, 30, 20))
    suffix, save = MESH_WRITERS[kind]
    path = tmp_path / f"a{suffix}"
    save(path, np.asarray(box.vertices) + 1000, np.asarray(box.faces))
    scan = read_scan(path, seed=1)
    assert scan.sampled and scan.points.shape == (SAMPLED_POINTS, 3)
    on_a_side = np.isclose(np.abs(scan.points - 1000), (20, 15, 10), atol=1e-6).any(axis=1)
    assert on_a_side.all()
    assert np.array_equal(scan.points, read_scan(path, seed=1).points)
    assert not np.array_equal(scan.points, read_scan(path, seed=2).points)
    top = np.isclose(scan.points[:, 2], 1010).mean()  # its share of the surface
    assert abs(top - 40 * 30 / (2 * (40 * 30 + 40 * 20 + 30 * 20))) < 0.02


def test_a_fine_fillet_does_not_make_a_cad_mesh_dense() -> None:
    """A mesh with many small faces and one large plate: its vertices would leave the plate without points."""
    vertices, faces = dense_sphere()
    plate = np.array([[0, 0, -30], [80, 0, -30], [0, 80, -30]], dtype=float)
    both = mesh_points(np.vstack([vertices, plate]), np.vstack([faces, [[len(vertices) + i for i in range(3)]]]))
    assert both.sampled
    assert (np.abs(both.points[:, 2] + 30) < 1e-9).mean() > 0.2


# ---------------------------------------------------------------- text tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]]),
        ("\ufeff1, 2, 3\r\n\r\n4, 5, 6\r\n", [[1, 2, 3], [4, 5, 6]]),
        ("1 2 3 255 0 0\n4\t5   6 0 0 0\n", [[1, 2, 3], [4, 5, 6]]),
        ("id;X [mm];Y [mm];Z [mm]\n9;1,5;2,5;-3\n", [[1.5, 2.5, -3]]),
        ("1,5\t2,5\t3\n", [[1.5, 2.5, 3]]),
        ("Point ID,z,y,x\nP1,3,2,1\n", [[1, 2, 3]]),
        ("# made by hand\n//X Y Z R\n1 2 3 4\n", [[1, 2, 3]]),
        ("a b c d\n1 2 3 4 # the first\n", [[1, 2, 3]]),
        ("x y z\n1e-3 2E2 -.5\n", [[1e-3, 200, -0.5]]),
    ],
)
def test_text_tables(tmp_path: Path, text: str, expected: list) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    assert np.array_equal(read_scan(tmp_path / "a.csv").points, np.array(expected, dtype=float))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y,z\n1,2,3\n4,five,6\n", "line 3"),
        ("1 2 3\n\n4 5\n", "line 3"),
        ("1,2,\n1,2,3\n", "line 1"),
        ("P1,1,2,3\n", "line 1"),
        ("1 2\n3 4\n", "expected 3 columns"),
        ("this is\nno table\n", "no table"),
        ("x y z\n", "lines of numbers"),
        ("1" * 70000, "65,000"),
        ("1 2 3\n4 5 6 nonsense \x00\n7 \x00 8\n", "line 3"),
    ],
)
def test_text_where_numbers_belong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert words in error_of(read_scan, tmp_path / "a.txt")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    for data in (b"1 2 3\n" * 9000 + b"\xff 2 3\n", "1 2 3\n".encode("utf-16"), b"x y z [\xb5m]\n1 2 3\n"):
        (tmp_path / "a.xyz").write_bytes(data)
        assert "UTF-8" in error_of(read_scan, tmp_path / "a.xyz")


# ---------------------------------------------------------------- objects


def test_objects_become_scans() -> None:
    import trimesh

    points = cloud()
    vertices, faces = dense_sphere()
    for obj in (
        points,
        torch.from_numpy(points).requires_grad_(),
        trimesh.PointCloud(points),
        SimpleNamespace(points=points.tolist()),  # as Open3D's PointCloud, whose vectors numpy reads
    ):
        scan = as_scan(obj, name="mine")
        assert scan.name == "mine" and scan.path is None and np.array_equal(scan.points, points)
        assert scan.points.dtype == np.float64 and as_scan(scan) is scan
    for mesh in (trimesh.Trimesh(vertices, faces), SimpleNamespace(vertices=vertices, triangles=faces)):
        assert np.array_equal(as_scan(mesh).points, vertices)
    assert as_scan(trimesh.creation.box(), seed=4).sampled
    assert as_scan(torch.ones(2, 3, dtype=torch.bfloat16)).points.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert as_scan(np.arange(6).reshape(2, 3)).points.tolist() == [[0, 1, 2], [3, 4, 5]]
    kept = points.copy()
    as_scan(points).points[:] = 0
    assert np.array_equal(points, kept)  # a scan never shares memory with the caller


def test_open3d_objects_become_scans() -> None:
    o3d = pytest.importorskip("open3d", reason="open3d is not installed", exc_type=ImportError)
    points = o3d.utility.Vector3dVector(cloud())
    assert np.array_equal(as_scan(o3d.geometry.PointCloud(points)).points, cloud())
    assert as_scan(o3d.geometry.TriangleMesh.create_box()).sampled


@pytest.mark.parametrize(
    "obj", [None, 3, [[1.0, 2.0, 3.0]], np.zeros((3, 2)), np.zeros((2, 3), bool), torch.zeros(2, 3, 3), object()]
)
def test_objects_that_are_no_scan(obj: object) -> None:
    assert error_of(as_scan, obj, name="the cloud").startswith("the cloud: ")


def test_paths_are_read_by_as_scan(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud())
    assert as_scan(str(tmp_path / "a.npy")).name == "a"
    assert isinstance(as_scan(tmp_path / "a.npy"), Scan)


def test_the_package_of_scans_is_light() -> None:
    code = (
        "import sys, r3dad.scans; print([m for m in 'trimesh pypcd4 laspy scipy open3d'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- folders


def test_folders_become_their_scans_in_natural_order(tmp_path: Path) -> None:
    for name in ("part10.npy", "part2.npy", "part1.NPY", ".hidden.npy", "notes.txt", "scores.csv", "report.html"):
        (tmp_path / name).write_bytes(b"1 2 3")
    (tmp_path / "deeper.npy").mkdir()
    names = [path.name for path in find_scans([tmp_path])]
    assert names == ["part1.NPY", "part2.npy", "part10.npy"]
    single = tmp_path / "part10.npy"
    assert find_scans([single, str(tmp_path / "part2.npy"), single])[0] == single
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "a.csv").write_text("1 2 3")
    assert find_scans([tables]) == [tables / "a.csv"]


def test_folders_without_scans_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert "without scans" in error_of(find_scans, [tmp_path])
    (tmp_path / "train" / "a.npy").touch()
    assert "give one of its folders (train)" in error_of(find_scans, [tmp_path])
    assert "no such file" in error_of(find_scans, [tmp_path / "nope.pcd"])
    assert "no scans given" in error_of(find_scans, [])
    (tmp_path / "empty.pcd").touch()
    assert find_scans([tmp_path / "empty.pcd"]) == [tmp_path / "empty.pcd"], "reading says so, and the others go on"
