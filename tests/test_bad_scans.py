"""Bad scan files: one clear line, and no memory for false claims."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from r3dad.scans import SUFFIXES, read_scan
from tests.scan_files import (
    CLOUD_WRITERS,
    MESH_WRITERS,
    ROOT,
    ascii_stl,
    cloud,
    dense_sphere,
    error_of,
    save_las,
    save_obj,
    save_off,
)


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
