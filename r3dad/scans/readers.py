"""Scans from what people have: files by their suffix, folders, arrays, tensors, Open3D and trimesh objects."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from r3dad.errors import InputError
from r3dad.scans.arrays import claimed_npz, read_npy, read_npz
from r3dad.scans.las import claimed_las, read_las
from r3dad.scans.mesh import mesh_points, read_mesh
from r3dad.scans.pcd import claimed_pcd, read_pcd
from r3dad.scans.scan import Raw, Scan, Unreadable, check_most, checked
from r3dad.scans.text import read_text

for _library in ("trimesh", "laspy"):  # their tracebacks on damaged files are no answer to a user
    logging.getLogger(_library).addHandler(logging.NullHandler())

_READERS: dict[str, Callable[..., Raw]] = {
    ".pcd": read_pcd,
    ".ply": read_mesh,
    ".obj": read_mesh,
    ".stl": read_mesh,
    ".off": read_mesh,
    ".xyz": read_text,
    ".txt": read_text,
    ".csv": read_text,
    ".npy": read_npy,
    ".npz": read_npz,
    ".las": read_las,
    ".laz": read_las,
}
#: Suffixes that `read_scan` takes, in lower case; files may write them in any case.
SUFFIXES: tuple[str, ...] = tuple(_READERS)
#: Points that a packed file claims to hold: a few bytes of it may stand for many points.
_CLAIMS: dict[Callable[..., Raw], Callable[[Path], int]] = {
    read_pcd: claimed_pcd,
    read_npz: claimed_npz,
    read_las: claimed_las,
}
#: In a folder with other scans these are notes and tables, no scans.
_NOTES = (".txt", ".csv")
#: First bytes that tell a format whatever the file is called.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (rb"ply\s", "ply"),
    (rb"#\s*\.PCD|VERSION\s+0?\.\d|FIELDS\s", "pcd"),
    (rb"N?C?OFF\s", "off"),
    (rb"\x93NUMPY", "npy"),
    (rb"PK\x03\x04", "npz"),
    (rb"LASF", "las"),
)


def read_scan(path: str | os.PathLike[str], *, seed: int = 0, most_points: int | None = None) -> Scan:
    """Scan of one file, by its suffix (SUFFIXES, any case; docs/formats.md says what is read of each).

    seed: for the points drawn from meshes of large faces (`r3dad.scans.mesh`); other files have no random draw.
    most_points: files of more are refused, packed ones (NPZ, LAZ, compressed PCD) before they are unpacked.
    Raises InputError, and nothing else, where the file is no readable scan.
    """
    file = Path(path)
    size = _size(file)
    suffix = file.suffix.lower()
    if suffix not in _READERS:
        raise InputError(
            f"{file}: unknown suffix {suffix or '(none)'!r}; expected one of {' '.join(SUFFIXES)}; export or rename it"
        )
    try:
        with open(file, "rb") as opened:
            looks = _looks_like(opened.read(64))
        if looks and looks != suffix[1:] and {looks, suffix[1:]} != {"las", "laz"}:
            raise Unreadable(
                f"expected {suffix[1:].upper()}, its content is {looks.upper()}; rename it to {file.stem}.{looks}"
            )
        reader = _READERS[suffix]
        if most_points is not None and reader in _CLAIMS:
            check_most(_CLAIMS[reader](file), most_points)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own; what matters is raised
            raw = reader(file, size, seed=seed) if reader is read_mesh else reader(file, size)
        if most_points is not None:
            check_most(len(raw.points), most_points)
        return checked(raw, file.stem, file)
    except Unreadable as error:
        raise InputError(f"{file}: {error}") from None
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from None
    except BaseException as error:
        # lazrs panics with an exception that is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        kind = suffix[1:].upper()
        raise InputError(
            f"{file}: expected {kind}, the file is damaged or of another kind ({_reason(error)}); export it again"
        ) from None


def as_scan(obj: Any, *, name: str = "scan", seed: int = 0) -> Scan:
    """Scan of a path, Scan, NumPy array or torch tensor [M, 3], Open3D or trimesh point cloud or mesh.

    name: what results call it; paths and scans keep their own. Raises InputError.
    """
    if isinstance(obj, Scan):
        return obj
    if isinstance(obj, str | os.PathLike):
        return read_scan(obj, seed=seed)
    try:
        return checked(_raw(obj, seed), name, None)
    except Unreadable as error:
        raise InputError(f"{name}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{name}: expected points [M, 3], this {type(obj).__name__} has none ({_reason(error)}); give an array"
        ) from None


def find_scans(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files of scans: files as they are given, folders replaced by the scans in them in natural order (2 before 10).

    Folders are not searched below their top level, so that good and defective scans never mix unasked. TXT and CSV
    count only in a folder without other scans; hidden files never count. Raises InputError: nothing given, a path that
    is not there, a folder without scans.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths):
        if path.is_dir():
            found += _folder(path)
        else:
            if not path.exists():  # whatever else is wrong with one, reading it says, and the others go on
                raise InputError(f"{path}: no such file; check its path")
            found.append(path)
    if not found:
        raise InputError(
            f"no scans given; expected files ({' '.join(SUFFIXES)}) or a folder of them; name at least one"
        )
    return found


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key of a path's name in which numbers count as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    return [(not part.isdigit(), int(part) if part.isdigit() and len(part) < 4000 else 0, part) for part in parts]


def scans_in(folder: Path) -> list[Path]:
    """Scans at the top level of a folder in natural order; may be empty. Raises InputError: it cannot be listed."""
    try:
        files = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); check the folder and its permissions"
        ) from None
    scans = sorted((file for file in files if file.suffix.lower() in SUFFIXES), key=natural)
    return [file for file in scans if file.suffix.lower() not in _NOTES] or scans


def _folder(folder: Path) -> list[Path]:
    scans = scans_in(folder)
    if not scans:
        below = [child.name for child in sorted(folder.iterdir(), key=natural) if child.is_dir() and scans_in(child)]
        remedy = (
            f"give one of its folders ({', '.join(below[:5])})" if below else "put scans there or name another folder"
        )
        raise InputError(f"{folder}: a folder without scans; expected {' '.join(SUFFIXES)} at its top level; {remedy}")
    return scans


def _size(path: Path) -> int:
    """Bytes of a regular file that is there and not empty."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file, this is a folder; give one of the files in it")
    if not path.exists():
        raise InputError(f"{path}: no such file; check its path")
    if not path.is_file():
        raise InputError(f"{path}: expected a regular file; save the scan as a file")
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path}: the file is empty; export or copy it again")
    return size


def _looks_like(head: bytes) -> str | None:
    return next((name for magic, name in _MAGIC if re.match(magic, head)), None)


def _raw(obj: Any, seed: int) -> Raw:
    """Points of an object by its attributes: nothing is imported that the caller has not imported."""
    if isinstance(obj, np.ndarray):
        return Raw(obj)
    if hasattr(obj, "detach") and hasattr(obj, "cpu"):  # torch.Tensor; numpy has no bfloat16
        tensor = obj.detach().cpu()
        return Raw((tensor.double() if tensor.is_floating_point() else tensor).numpy())
    if hasattr(obj, "vertices"):
        faces = obj.faces if hasattr(obj, "faces") else getattr(obj, "triangles", None)  # trimesh, else Open3D
        vertices = np.asarray(obj.vertices)
        return Raw(vertices) if faces is None else mesh_points(vertices, np.asarray(faces), seed=seed)
    if hasattr(obj, "points"):
        return Raw(np.asarray(obj.points))
    raise Unreadable(
        f"expected a path, an array or tensor [M, 3], or an Open3D or trimesh object, found {type(obj).__name__}; "
        "give numpy.asarray(points, dtype=float)"
    )


def _reason(error: BaseException) -> str:
    """First line of an error's text, short, on one line."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:120].strip()
