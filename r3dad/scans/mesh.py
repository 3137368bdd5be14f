"""PLY, OBJ, STL and OFF through trimesh, and what the points of a mesh are.

A scanner's mesh is dense: its vertices are measured points and they are the scan. A mesh from CAD has vertices where
its design has corners: points are drawn from its faces. Definition: a mesh is dense where faces whose longest edge is
at most DENSE_EDGE of the bounding box's diagonal make up at least DENSE_AREA of its surface.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from r3dad.scans.scan import Raw, Unreadable

DENSE_EDGE = 0.03
DENSE_AREA = 0.95
#: Points drawn from a mesh that is not dense.
SAMPLED_POINTS = 30_000

_LONGEST_HEADER = 65536


def read_mesh(path: Path, size: int, *, seed: int = 0) -> Raw:
    """Points of a PLY point cloud in the file's order, or those of a mesh (`mesh_points`)."""
    import trimesh

    suffix = path.suffix.lower().lstrip(".")
    claims = {"ply": _ply_claims, "off": _off_claims}.get(suffix)
    claimed = claims(path, size) if claims else {}
    with _opened(path, size, suffix) as file, warnings.catch_warnings():
        # numpy only warns where text stands for a number and returns what came before
        warnings.filterwarnings("error", message=".*(unmatched data|could not be read).*")
        # materials would open other files; fix_texture and processing would cut or merge vertices
        try:
            scene = trimesh.load_scene(file, file_type=suffix, process=False, skip_materials=True, fix_texture=False)
        except ValueError as error:
            if "unexpected length" not in str(error):
                raise
            raise Unreadable(
                "its length is not what its header claims: the file is cut, or its faces mix triangles and polygons; "
                "copy it again or triangulate it"
            ) from None
        parts = list(scene.geometry.values())
    vertices = [np.asarray(part.vertices, dtype=np.float64).reshape(-1, 3) for part in parts]
    offsets = np.cumsum([0, *map(len, vertices)])
    faces = [
        np.asarray(part.faces, dtype=np.int64).reshape(-1, 3) + offset
        for part, offset in zip(parts, offsets, strict=False)
        if hasattr(part, "faces")
    ]
    points = np.concatenate([np.empty((0, 3)), *vertices])
    triangles = np.concatenate([np.empty((0, 3), dtype=np.int64), *faces])
    for what, held in (("vertex", len(points)), ("face", len(triangles))):
        if held < claimed.get(what, 0):
            raise Unreadable(
                f"its header claims element {what} {claimed[what]:,}, {held:,} are there; "
                "the file is cut, copy it again"
            )
    if suffix == "ply" and not claimed.get("face"):
        return Raw(points)
    return mesh_points(points, triangles, seed=seed)


def mesh_points(vertices: np.ndarray, faces: np.ndarray, *, seed: int = 0) -> Raw:
    """Points of a mesh: the distinct vertices [V, 3] of a dense mesh in their order, else points drawn from the faces.

    faces [F, 3] are indices of vertices. Drawn points are uniform over the surface, the same for the same seed.
    Raises Unreadable: no faces, faces of vertices that are not there, or faces without area.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces, dtype=np.int64)
    if not len(faces):
        raise Unreadable("expected a mesh with faces, found none; export the points themselves as PLY, PCD or XYZ")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise Unreadable("its faces name vertices that are not there; the file is damaged, copy or export it again")
    corners = vertices[faces]
    whole = np.isfinite(corners).all(axis=(1, 2))
    faces, corners = faces[whole], corners[whole]
    with np.errstate(over="ignore", invalid="ignore"):
        edges = corners - np.roll(corners, 1, axis=1)
        areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
        surface = float(areas.sum())
        diagonal = float(np.linalg.norm(np.ptp(corners.reshape(-1, 3), axis=0))) if len(corners) else 0.0
        fine = np.linalg.norm(edges, axis=2).max(axis=1) <= DENSE_EDGE * diagonal
    if not (np.isfinite(surface) and surface > 0):
        raise Unreadable("the faces of the mesh have no area; export the points themselves as PLY, PCD or XYZ")
    if float(areas[fine].sum()) >= DENSE_AREA * surface:
        return Raw(_distinct(vertices))
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    drawn, _ = trimesh.sample.sample_surface(mesh, SAMPLED_POINTS, face_weight=areas, seed=seed)
    return Raw(np.asarray(drawn), sampled=True)


def _distinct(vertices: np.ndarray) -> np.ndarray:
    """Vertices in their order, each place once: STL names a vertex for each of its faces."""
    order = np.lexsort(
        vertices.T
    )  # stable: equal vertices stay in their order; np.unique by rows takes over twice as long
    ordered = vertices[order]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    return vertices[np.sort(order[first])]


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LONGEST_HEADER)


def _opened(path: Path, size: int, suffix: str) -> BinaryIO:
    """The file as trimesh reads it safely: text as UTF-8, since trimesh guesses at other encodings at length."""
    if suffix == "ply":
        return open(path, "rb")
    if suffix == "stl":
        head = _head(path)
        triangles = int.from_bytes(head[80:84], "little")
        if len(head) >= 84 and size == 84 + 50 * triangles:
            return open(path, "rb")
        if not head.lstrip().lower().startswith(b"solid"):
            raise Unreadable(
                f"expected {84 + 50 * triangles:,} bytes for the {triangles:,} triangles its header claims, "
                f"found {size:,}; the file is cut, copy it again"
            )
    return io.BytesIO(path.read_bytes().decode("utf-8", "replace").encode())


def _ply_claims(path: Path, size: int) -> dict[str, int]:
    """Elements that the header of a PLY file claims, once they can fit into the file."""
    header, end, _ = _head(path).partition(b"end_header")
    if not end:
        raise Unreadable("expected a PLY header that ends with 'end_header', found none; export the scan again as PLY")
    counts = {name.decode(): int(count) for name, count in re.findall(rb"(?m)^\s*element\s+(\w+)\s+(\d+)", header)}
    return _fitting(counts, size - len(header))


def _off_claims(path: Path, size: int) -> dict[str, int]:
    """Vertices and faces that the header of an OFF file claims, once they can fit into the file."""
    head = re.sub(rb"#[^\n]*", b"", _head(path))
    counts = re.match(rb"\s*N?C?OFF\s+(\d+)\s+(\d+)", head)
    if not counts:
        raise Unreadable("expected OFF and the numbers of vertices and faces, found none; export the mesh again as OFF")
    return _fitting({"vertex": int(counts[1]), "face": int(counts[2])}, size)


def _fitting(counts: dict[str, int], held: int) -> dict[str, int]:
    for name, count in counts.items():
        if count > held:  # an element takes a byte or more
            raise Unreadable(
                f"its header claims element {name} {count:,}, {held:,} bytes cannot hold them; "
                "the file is cut, copy it again"
            )
    if not counts.get("vertex"):
        raise Unreadable("its header claims no vertices; export the scan again")
    return counts
