"""PCD point clouds (ascii, binary, binary_compressed), through pypcd4."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from r3dad.scans.scan import WIDEST_POINT, Raw, Unreadable

_LONGEST_HEADER = 65536
_MOST_LINES = 10  # with DATA, without comments: pypcd4 takes what follows for points
_MOST_VALUES = 4096  # per point
_LZF_RATIO = 90  # an LZF back-reference of 3 bytes stands for at most 264


def read_pcd(path: Path, size: int) -> Raw:
    """Fields x, y, z of a PCD file. The viewpoint is not applied: points stay in the file's frame."""
    from pypcd4 import PointCloud

    with open(path, "rb") as file:
        count = _check_claims(file, size)
        file.seek(0)
        data = np.atleast_1d(PointCloud.from_fileobj(file).pc_data)
    if len(data) != count:
        raise Unreadable(f"its header claims {count:,} points, {len(data):,} are there; the file is cut, copy it again")
    return Raw(np.column_stack([data[axis].astype(np.float64) for axis in "xyz"]))


def claimed_pcd(path: Path) -> int:
    """Points that the header claims, wide ones counted as `WIDEST_POINT` says. Raises Unreadable: the file cannot hold them."""
    from pypcd4.pypcd4 import MetaData

    with open(path, "rb") as file:
        points = _check_claims(file, path.stat().st_size)
        file.seek(0)
        width = MetaData.parse_header(_header_lines(file)).build_dtype().itemsize
    return points * -(-width // WIDEST_POINT)


def _check_claims(file: BinaryIO, size: int) -> int:
    """Number of points that the header claims, once they fit into the file: pypcd4 trusts it."""
    from pypcd4.pypcd4 import Encoding, MetaData

    head = MetaData.parse_header(_header_lines(file))
    missing = [axis for axis in "xyz" if axis not in head.fields]
    if missing:
        raise Unreadable(f"expected the fields x y z, found {' '.join(head.fields)[:80]}; export the coordinates")
    if not len(head.fields) == len(head.size) == len(head.type) == len(head.count):
        raise Unreadable("FIELDS, SIZE, TYPE and COUNT of its header differ in length; export the scan again")
    if sum(head.count) > _MOST_VALUES or any(head.count[head.fields.index(axis)] != 1 for axis in "xyz"):
        raise Unreadable("expected one value each for x, y, z (COUNT 1); export the scan again")
    if head.points != head.width * head.height:
        raise Unreadable(f"POINTS {head.points} of its header is not WIDTH x HEIGHT; export the scan again")
    if not head.points:
        raise Unreadable("its header claims 0 points; export the scan again")
    held = size - file.tell()
    if head.data == Encoding.ASCII:
        least = head.points * 2 * sum(head.count) - 1  # a digit and a separator; the last line may lack its end
    else:
        least = head.points * head.build_dtype().itemsize
    if head.data in (Encoding.BINARY_COMPRESSED, Encoding.BINARYSCOMPRESSED):
        if held < 8:
            raise Unreadable("its compressed data are missing; the file is cut, copy it again")
        packed, unpacked = struct.unpack("<II", file.read(8))
        if unpacked != least or unpacked > _LZF_RATIO * packed + 264:
            raise Unreadable(
                f"its header claims {head.points:,} points, which {packed:,} compressed bytes cannot hold; "
                "export it again"
            )
        held, least = held - 8, packed
    if least > held:
        raise Unreadable(
            f"its header claims {head.points:,} points, {held:,} bytes of data cannot hold them; "
            "the file is cut, copy it again"
        )
    return head.points


def _header_lines(file: BinaryIO) -> list[str]:
    """Lines up to DATA; leaves the file where the data start."""
    lines: list[str] = []
    left = _LONGEST_HEADER
    while left > 0:
        raw = file.readline(left)
        if not raw:
            break
        left -= len(raw)
        line = raw.decode("utf-8").strip()
        if not line or line.startswith("#"):
            continue
        lines.append(line)
        if line.startswith("DATA"):
            return lines
        if len(lines) == _MOST_LINES:
            break
    raise Unreadable("expected a PCD header that ends with a line DATA, found none; export the scan again as PCD")
