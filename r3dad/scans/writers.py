"""Files that are written whole or not at all, and PLY clouds that CloudCompare shows coloured at once."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from r3dad.errors import InputError

#: float32 coordinates are written where they move no point by more than this part of the bounding box's diagonal.
FLOAT32_SHIFT = 1e-6

_PLY_TYPES = {"f4": "float", "f8": "double", "i4": "int", "u1": "uchar"}


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write `data` (text as UTF-8) to `path`: the file is there whole, or as it was before.

    Folders above it are made. Raises InputError where the file cannot be written.
    """
    file = Path(path)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as out:
                out.write(data.encode() if isinstance(data, str) else data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror or error}); choose a folder with room that you may write to"
        ) from None
    return file


def write_ply(
    path: str | os.PathLike[str],
    points: np.ndarray,
    *,
    scalars: Mapping[str, np.ndarray] | None = None,
    colors: np.ndarray | None = None,
) -> Path:
    """Write points [M, 3] as binary little-endian PLY, whole or not at all.

    Coordinates are float, or double where float would move a point by more than FLOAT32_SHIFT of the bounding box's
    diagonal, as it does far from the origin. scalars: properties by name, each [M] (float, integers as int, bool as
    uchar); CloudCompare shows names that start with `scalar_` as scalar fields. colors: red, green, blue [M, 3] uint8.
    Raises InputError: shapes that do not fit, names PLY cannot hold, a file that cannot be written.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 3:
        raise InputError(f"points: expected shape [M, 3], found {list(cloud.shape)}; give x, y, z")
    columns: list[tuple[str, str, np.ndarray]] = [(axis, _width(cloud), cloud[:, i]) for i, axis in enumerate("xyz")]
    if colors is not None:
        rgb = np.asarray(colors)
        if rgb.shape != cloud.shape or rgb.dtype != np.uint8:
            raise InputError(
                f"colors: expected uint8 of shape {list(cloud.shape)}, found {rgb.dtype} {list(rgb.shape)}; convert"
            )
        columns += [(channel, "u1", rgb[:, i]) for i, channel in enumerate(("red", "green", "blue"))]
    for name, given in (scalars or {}).items():
        values = np.asarray(given)
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in {column for column, _, _ in columns}:
            raise InputError(
                f"scalars: {name!r} cannot name a property; expected letters, digits and _, each name once"
            )
        if values.shape != (len(cloud),) or values.dtype.kind not in "fiub":
            raise InputError(
                f"scalars: expected {len(cloud)} numbers for {name!r}, found {values.dtype} {list(values.shape)}; give one a point"
            )
        columns.append((name, {"f": "f4", "b": "u1"}.get(values.dtype.kind, "i4"), values))
    table = np.empty(len(cloud), dtype=[(name, "<" + kind) for name, kind, _ in columns])
    for name, _, values in columns:
        table[name] = values
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    header += [f"property {_PLY_TYPES[kind]} {name}" for name, kind, _ in columns]
    return write_atomic(path, ("\n".join([*header, "end_header"]) + "\n").encode() + table.tobytes())


def _width(cloud: np.ndarray) -> str:
    """'f4' where float32 holds these points well enough, else 'f8'."""
    if not len(cloud):
        return "f4"
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.abs(cloud - cloud.astype(np.float32)).max()
    return "f4" if moved <= FLOAT32_SHIFT * float(np.linalg.norm(np.ptp(cloud, axis=0))) else "f8"
