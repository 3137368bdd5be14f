"""Scan files of every format, written by other libraries or by hand, for the tests of the readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r3dad.errors import InputError

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
