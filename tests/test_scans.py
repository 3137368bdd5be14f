"""Readers, writers and data set layouts: what goes in comes out, and bad input gets one clear line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from r3dad.errors import InputError
from r3dad.scans import (
    SUFFIXES,
    Scan,
    as_scan,
    detect_layout,
    find_scans,
    list_classes,
    read_scan,
    read_truth,
    write_atomic,
    write_ply,
)
from r3dad.scans.mesh import SAMPLED_POINTS, mesh_points

ROOT = Path(__file__).resolve().parents[1]


def cloud(count: int = 40, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3)) * (30, 20, 10) + shift


def save_pcd(path: Path, points: np.ndarray, encoding: str, dtype: type) -> None:
    from pypcd4 import Encoding, PointCloud

    # other fields around x, y, z: readers go by name; pypcd4 writes what does not shrink as binary
    ring, zeros = np.arange(len(points)), np.zeros(len(points))
    fields, types = ("ring", "x", "y", "z", "intensity", "time"), (np.uint16, dtype, dtype, dtype, dtype, np.float64)
    table = PointCloud.from_points([ring, *points.T.astype(dtype), zeros, zeros], fields, types)
    table.save(path, Encoding(encoding))
    assert len(points) < 10 or f"DATA {encoding}\n".encode() in path.read_bytes()


def save_ascii_pcd(path: Path, points: np.ndarray) -> None:
    """As PCL writes it, with every digit (pypcd4 writes 10 decimals)."""
    m = len(points)
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\n"
    )
    head += f"WIDTH {m}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {m}\nDATA ascii\n"
    path.write_text(head + "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in points.tolist()))


def save_las(path: Path, points: np.ndarray) -> None:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets = np.floor(points.min(axis=0))
    header.scales = np.full(3, 1e-4)
    las = laspy.LasData(header)
    las.xyz = points
    las.write(str(path))


def save_ascii_ply(path: Path, points: np.ndarray) -> None:
    head = f"ply\nformat ascii 1.0\ncomment made by hand\nelement vertex {len(points)}\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz") + "property uchar red\nend_header\n"
    path.write_text(head + "".join(f"{x!r} {y!r} {z!r} 7\n" for x, y, z in points.tolist()))


def save_table(path: Path, points: np.ndarray, mark: str, header: str = "") -> None:
    lines = [mark.join(map(repr, row)) for row in points.tolist()]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")


def dense_sphere(subdivisions: int = 5) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=20.0)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def save_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    text = "# größe\nmtllib none.mtl\n" + "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in vertices.tolist())
    path.write_bytes((text + "".join(f"f {a} {b} {c}\n" for a, b, c in (faces + 1).tolist())).encode("latin-1"))


def save_off(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    text = f"OFF\n# by hand\n{len(vertices)} {len(faces)} 0\n"
    text += "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in vertices.tolist())
    path.write_text(text + "".join(f"3 {a} {b} {c}\n" for a, b, c in faces.tolist()))


def save_mesh(path: Path, vertices: np.ndarray, faces: np.ndarray, **options: str) -> None:
    import trimesh

    trimesh.Trimesh(vertices, faces, process=False).export(path, **options)


# every way to write a point cloud here: suffix, writer, the largest error it makes
CLOUD_WRITERS = {
    "pcd ascii": (".pcd", save_ascii_pcd, 0.0),
    "pcd binary": (".pcd", lambda p, x: save_pcd(p, x, "binary", np.float64), 0.0),
    "pcd compressed": (".pcd", lambda p, x: save_pcd(p, x, "binary_compressed", np.float64), 0.0),
    "ply ascii": (".ply", save_ascii_ply, 0.0),
    "xyz": (".xyz", lambda p, x: save_table(p, x, " "), 0.0),
    "txt tabs": (".txt", lambda p, x: save_table(p, x, "\t", "//X\tY\tZ"), 0.0),
    "csv": (".csv", lambda p, x: save_table(p, x, ",", '"X [mm]","Y [mm]","Z [mm]"'), 0.0),
    "csv semicolons": (".csv", lambda p, x: save_table(p, x, ";"), 0.0),
    "npy": (".npy", lambda p, x: np.save(p, x), 0.0),
    "npz": (".npz", lambda p, x: np.savez_compressed(p, points=x, other=np.zeros((2, 3))), 0.0),
    "las": (".las", save_las, 0.51e-4),
    "laz": (".laz", save_las, 0.51e-4),
}
MESH_WRITERS = {
    "obj": (".obj", save_obj),
    "off": (".off", save_off),
    "stl binary": (".stl", save_mesh),
    "stl ascii": (".stl", lambda p, v, f: p.write_text(ascii_stl(v, f))),
    "ply mesh": (".ply", save_mesh),
    "ply mesh ascii": (".ply", lambda p, v, f: save_mesh(p, v, f, encoding="ascii")),
}


def ascii_stl(vertices: np.ndarray, faces: np.ndarray) -> str:
    facets = [
        "facet normal 0 0 0\nouter loop\n"
        + "".join(f"vertex {x!r} {y!r} {z!r}\n" for x, y, z in corners)
        + "endloop\nendfacet\n"
        for corners in vertices[faces].tolist()
    ]
    return "solid part\n" + "".join(facets) + "endsolid part\n"


def error_of(call, *args, **kwargs) -> str:
    """The message of the InputError that a call raises: one line, and not a bare library message."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and ";" in message, message
    return message


# ---------------------------------------------------------------- round trips


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


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_with_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert "no such file" in error_of(read_scan, path)
    path.touch()
    assert "empty" in error_of(read_scan, path)
    path.unlink()
    path.mkdir()
    assert "folder" in error_of(read_scan, path)
    os.mkfifo(tmp_path / f"pipe{suffix}")
    assert "regular file" in error_of(read_scan, tmp_path / f"pipe{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_noise_and_prose_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for data in (
        np.random.default_rng(0).bytes(3000),
        b"Dear customer,\nplease find the scans attached.\n",
        b"\0" * 900,
    ):
        path.write_bytes(data)
        assert str(path) in error_of(read_scan, path)


def test_unknown_suffix_names_the_known(tmp_path: Path) -> None:
    (tmp_path / "a.step").write_text("1 2 3")
    message = error_of(read_scan, tmp_path / "a.step")
    assert "'.step'" in message and all(suffix in message for suffix in SUFFIXES)


@pytest.mark.parametrize("kind", ["pcd ascii", "pcd binary", "ply ascii", "npy", "npz", "las"])
def test_wrong_suffix_names_the_right_one(tmp_path: Path, kind: str) -> None:
    suffix, save, _ = CLOUD_WRITERS[kind]
    save(tmp_path / f"a{suffix}", cloud())
    for wrong in {".xyz", ".obj", ".npz", ".pcd", ".ply"} - {suffix}:
        (tmp_path / f"b{wrong}").write_bytes((tmp_path / f"a{suffix}").read_bytes())
        assert f"rename it to b{suffix}" in error_of(read_scan, tmp_path / f"b{wrong}")


def test_points_with_nan_are_dropped_and_counted(tmp_path: Path) -> None:
    points = cloud()
    points[3, 1], points[7, 0], points[7, 2] = np.nan, np.inf, -np.inf
    left = np.delete(points, [3, 7], axis=0)
    for kind in ("pcd ascii", "pcd binary", "xyz", "npy", "ply ascii"):
        suffix, save, _ = CLOUD_WRITERS[kind]
        save(tmp_path / f"a{suffix}", points)
        scan = read_scan(tmp_path / f"a{suffix}")
        assert scan.dropped == 2 and np.array_equal(scan.points, left)
    np.save(tmp_path / "b.npy", np.full((4, 3), np.nan))
    assert "all 4 points" in error_of(read_scan, tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.empty((0, 3)))
    assert "no points" in error_of(read_scan, tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.full((4, 3), 1e200))
    assert "1e+200" in error_of(read_scan, tmp_path / "d.npy")


CLAIMS = {
    "pcd binary": [
        (b"POINTS 40", b"POINTS 1000000000000"),
        (b"WIDTH 40", b"WIDTH 1000000000000"),
        (b"COUNT 1", b"COUNT 99999999999"),
    ],
    "pcd ascii": [
        (b"POINTS 40", b"POINTS 1000000000000"),
        (b"WIDTH 40", b"WIDTH 41"),
        (b"COUNT 1", b"COUNT 99999999999"),
    ],
    "pcd compressed": [
        (b"POINTS 40", b"POINTS 1000000000000"),
        (b"SIZE 2 8 8 8", b"SIZE 2 8 8 9"),
        (b"SIZE 2 8 8 8 8 8", b"SIZE 2 8 8 8 8 4"),
    ],
    "ply ascii": [(b"vertex 40", b"vertex 1000000000000"), (b"vertex 40", b"vertex 41")],
    "ply mesh": [
        (b"vertex 10242", b"vertex 1000000000000"),
        (b"face 20480", b"face 1000000000000"),
        (b"face 20480", b"face 20481"),
    ],
    "off": [
        (b"10242 20480", b"1000000000000 20480"),
        (b"10242 20480", b"10242 20481"),
        (b"10242 20480", b"10242 1000000000000"),
    ],
    "npy": [(b"(40, 3)", b"(1000000000000, 3)"), (b"(40, 3)", b"(41, 3)"), (b"(40, 3)", b"(-1, 3)")],
    "npz": [],
    "las": [],
    "laz": [],
}


def claiming(path: Path, kind: str) -> list[bytes]:
    """Small files whose headers claim far more than they hold."""
    if kind in MESH_WRITERS:
        MESH_WRITERS[kind][1](path, *dense_sphere())
    else:
        CLOUD_WRITERS[kind][1](path, cloud())
    data = path.read_bytes()
    liars = [data.replace(old, new, 1) for old, new in CLAIMS[kind]]
    assert all(liar != data for liar in liars)
    if kind in ("las", "laz"):
        put = lambda at, value, size: data[:at] + value.to_bytes(size, "little") + data[at + size :]  # noqa: E731
        liars += [
            put(107, 2**32 - 1, 4),
            put(100, 2**32 - 1, 4),
            put(96, 2**32 - 1, 4),
            put(94, 65535, 2),
        ]
    if kind == "las":  # LAZ does not say how many points its last chunk holds
        liars.append(data[:107] + (41).to_bytes(4, "little") + data[111:])
    if kind == "pcd compressed":
        at = data.index(b"DATA binary_compressed\n") + 23
        liars += [
            data[: at + 4] + b"\xff\xff\xff\xff" + data[at + 8 :],
            data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :],
        ]
    if (
        kind == "npy"
    ):  # shapes and header lengths that grow: keep the header's own length right, or claim 4 GB of header
        liars = [
            np.lib.format.magic(1, 0) + len(liar[10:138]).to_bytes(2, "little") + liar[10:138] + data[128:]
            for liar in liars
        ]
        liars.append(np.lib.format.magic(2, 0) + b"\xff\xff\xff\xff" + data[10:])
    if kind == "npz":
        liars += [bomb(zipfile.ZIP_DEFLATED), bomb(zipfile.ZIP_BZIP2), bomb(zipfile.ZIP_LZMA)]
    return liars


def bomb(compression: int) -> bytes:
    """A small zip whose array is 30 MB of zeros."""
    out = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (30_000_000 // 24, 3)}
    )
    with zipfile.ZipFile(out, "w", compression) as archive, archive.open("points.npy", "w") as member:
        member.write(header.getvalue())
        member.write(bytes(30_000_000))
    return out.getvalue()


@pytest.mark.parametrize("kind", CLAIMS)
def test_false_claims_cost_no_memory(tmp_path: Path, kind: str) -> None:
    suffix = (MESH_WRITERS.get(kind) or CLOUD_WRITERS[kind])[0]
    path = tmp_path / f"a{suffix}"
    liars = claiming(path, kind)
    read_scan(path)  # imports what it needs, and is readable itself
    for liar in liars:
        path.write_bytes(liar)
        tracemalloc.start()
        try:
            error_of(read_scan, path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 24e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("kind", ["pcd compressed", "npz", "laz", "npy", "xyz", "ply ascii"])
def test_more_points_than_wanted_are_refused_before_they_are_unpacked(tmp_path: Path, kind: str) -> None:
    suffix, save, _ = CLOUD_WRITERS[kind]
    path = tmp_path / f"a{suffix}"
    save(path, cloud(1000))
    assert len(read_scan(path, most_points=1000).points) == 1000
    assert "at most 999 points, found 1,000; thin" in error_of(read_scan, path, most_points=999)
    if kind in ("pcd compressed", "npz", "laz"):
        save(path, np.zeros((300_000, 3)))  # 7.2 MB from a small file
        assert path.stat().st_size < 1_000_000
        tracemalloc.start()
        error_of(read_scan, path, most_points=999)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


def test_wide_points_count_as_several(tmp_path: Path) -> None:
    import lzf

    rows = b"\0" * (40 * 12) + b"\0" * (40 * 4000)
    packed = lzf.compress(rows)
    head = "VERSION 0.7\nFIELDS x y z w\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1000\nWIDTH 40\nHEIGHT 1\nPOINTS 40\n"
    data = head.encode() + b"DATA binary_compressed\n" + np.array([len(packed), len(rows)], "<u4").tobytes() + packed
    (tmp_path / "a.pcd").write_bytes(data)
    assert "found 640;" in error_of(read_scan, tmp_path / "a.pcd", most_points=100)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    """Half a file must not come out as half a scan (text tables and OBJ say nowhere how long they are)."""
    for kind in [*CLOUD_WRITERS, *MESH_WRITERS]:
        if kind.startswith(("xyz", "txt", "csv", "obj")):
            continue
        suffix = (MESH_WRITERS.get(kind) or CLOUD_WRITERS[kind])[0]
        path = tmp_path / f"{kind}{suffix}"
        if kind in MESH_WRITERS:
            MESH_WRITERS[kind][1](path, *dense_sphere())
        else:
            CLOUD_WRITERS[kind][1](path, cloud(400))
        data = path.read_bytes()
        for part in (0.1, 0.5, 0.9):
            path.write_bytes(data[: int(part * len(data))])
            assert str(path) in error_of(read_scan, path)


def test_arrays_that_are_no_points(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array in (np.zeros(3), np.zeros((3, 4)), np.zeros((2, 2, 3)), np.zeros((4, 3), complex), np.full((2, 3), "a")):
        np.save(path, array)
        error_of(read_scan, path)
    np.save(path, np.array([[object()] * 3]), allow_pickle=True)
    assert "pickle is never opened" in error_of(read_scan, path)
    np.savez(tmp_path / "a.npz", a=cloud(), b=cloud())
    assert "several arrays (a, b)" in error_of(read_scan, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=np.zeros(4))
    assert "no array (a)" in error_of(read_scan, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=np.zeros(4), b=cloud())
    assert np.array_equal(read_scan(tmp_path / "a.npz").points, cloud())


def test_meshes_without_faces(tmp_path: Path) -> None:
    vertices, faces = dense_sphere(1)
    save_off(tmp_path / "a.off", vertices, faces[:0])
    save_obj(tmp_path / "a.obj", vertices, faces[:0])
    (tmp_path / "a.stl").write_bytes(bytes(84))
    for suffix in (".off", ".obj", ".stl"):
        assert "faces" in error_of(read_scan, tmp_path / f"a{suffix}")
    save_off(tmp_path / "b.off", vertices, faces + len(vertices) - 1)
    error_of(read_scan, tmp_path / "b.off")
    save_obj(tmp_path / "b.obj", vertices * 0, faces)
    assert "no area" in error_of(read_scan, tmp_path / "b.obj")


def test_las_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_las(tmp_path / "a.las", cloud())
    monkeypatch.setitem(sys.modules, "laspy", None)
    assert 'pip install "r3dad[las]"' in error_of(read_scan, tmp_path / "a.las")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud())
    (tmp_path / "a.npy").chmod(0)
    assert "permissions" in error_of(read_scan, tmp_path / "a.npy")


def test_libraries_stay_silent(tmp_path: Path) -> None:
    """Nothing but our one line: trimesh logs a traceback on this file, numpy warns about that one."""
    text = ascii_stl(*dense_sphere(1)).replace("normal 0 0 0", "normal 0 x 0", 1)
    (tmp_path / "a.stl").write_text(text)
    np.save(tmp_path / "b.npy", cloud())
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes().replace(b"(40, 3), ", b"(40L, 3),"))
    code = "import sys; from r3dad.scans import read_scan; [read_scan(path) for path in sys.argv[1:]]"
    call = [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


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


# ---------------------------------------------------------------- data sets


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


# ---------------------------------------------------------------- writers


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
