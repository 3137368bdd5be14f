"""NumPy files: NPY, NPZ."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from r3dad.scans.scan import Raw, Unreadable

#: A compressed member may claim to unpack to this many bytes whatever its own size, and beyond that to
#: LARGEST_RATIO times its own size: real coordinates hardly shrink tenfold.
ALWAYS_ALLOWED = 16 << 20
LARGEST_RATIO = 100

_NPY_HEADER = 128  # bytes


def read_npy(path: Path, size: int) -> Raw:
    """The array [M, 3] of an NPY file."""
    with open(path, "rb") as file:
        _header(file, size)
        file.seek(0)
        return Raw(np.lib.format.read_array(file, allow_pickle=False))


def read_npz(path: Path, size: int) -> Raw:
    """The array `points` of an NPZ file, or its only array of shape [M, 3]."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = ["points"] if "points" in members else list(members)
        found: dict[str, np.ndarray] = {}
        for name in wanted:
            info = members[name]
            if not info.filename.endswith(".npy"):
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
                raise Unreadable(f"array {name!r} is packed in a way NumPy does not use; save it with numpy.savez")
            if info.file_size > max(ALWAYS_ALLOWED, LARGEST_RATIO * info.compress_size):
                raise Unreadable(
                    f"array {name!r} claims to unpack from {info.compress_size:,} to {info.file_size:,} bytes; "
                    "save the points with numpy.savez"
                )
            with archive.open(info) as packed:
                # not more than the directory claims: what a member really holds is read no further
                blob = io.BytesIO(packed.read(info.file_size))
            shape = _header(blob, info.file_size)
            if name == "points" or (len(shape) == 2 and shape[1] == 3):
                blob.seek(0)
                found[name] = np.lib.format.read_array(blob, allow_pickle=False)
            if len(found) > 1:
                break
    if len(found) != 1:
        held = ", ".join(sorted(found or members)[:6]) or "nothing"
        many = "several arrays" if found else "no array"
        raise Unreadable(f"expected `points` or one array of shape [M, 3], found {many} ({held}); save it as `points`")
    return Raw(next(iter(found.values())))


def claimed_npz(path: Path) -> int:
    """float64 points [M, 3] that unpacking would take the memory of, by the archive's directory."""
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    wanted = [sizes["points.npy"]] if "points.npy" in sizes else list(sizes.values())
    return max(0, max(wanted, default=0) - _NPY_HEADER) // 24


def _header(stream: BinaryIO, size: int) -> tuple[int, ...]:
    """Shape of the array that starts here, once its claimed size fits into the `size` bytes of the file."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # numpy allocates the length of the header unseen
        at = stream.tell()
        if int.from_bytes(stream.read(4), "little") > size:
            raise Unreadable("its header claims to be longer than the file; the file is damaged, copy it again")
        stream.seek(at)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    if dtype.hasobject:
        raise Unreadable("expected numbers, found Python objects (pickle is never opened); save a float64 array [M, 3]")
    claimed = math.prod(shape) * dtype.itemsize
    held = size - stream.tell()
    if min(shape, default=1) < 0 or claimed > held:
        raise Unreadable(
            f"its header claims {claimed:,} bytes of numbers, {held:,} are there; the file is cut, copy it again"
        )
    return shape
