"""LAS and LAZ point clouds, through laspy and lazrs (the extra `las`)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from r3dad.scans.scan import WIDEST_POINT, Raw, Unreadable

_CHUNK = 1 << 18  # points decompressed at a time: a false count ends with the data, not with the memory
_POINTS_PER_BYTE = 4  # LAZ of real scans takes 2 bytes a point and more
_ALWAYS_ALLOWED = 1 << 18  # points


def read_las(path: Path, size: int) -> Raw:
    """Points of a LAS or LAZ file, scaled and shifted as its header says."""
    try:
        import laspy
        import lazrs
    except ImportError:
        raise Unreadable('reading LAS and LAZ needs laspy and lazrs; run: pip install "r3dad[las]"') from None
    with open(path, "rb") as file:
        _check_claims(file, size)
        file.seek(0)
        with laspy.open(file, closefd=False, laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False) as reader:
            head = reader.header
            if head.are_points_compressed:
                vlr = lazrs.LazVlr(head.vlrs.get("LasZipVlr")[0].record_data)
                if vlr.item_size() != head.point_format.size:
                    raise Unreadable("the sizes of its points disagree; the file is damaged, copy or export it again")
            parts = [np.column_stack([p.x, p.y, p.z]) for p in reader.chunk_iterator(_CHUNK)]
            count = sum(map(len, parts))
            if count != head.point_count:
                raise Unreadable(f"its header claims {head.point_count:,} points, {count:,} are there; copy it again")
    return Raw(np.concatenate(parts) if parts else np.empty((0, 3)))


def claimed_las(path: Path) -> int:
    """Points that the header claims, wide ones counted as `WIDEST_POINT` says. Raises Unreadable: the file cannot hold them."""
    with open(path, "rb") as file:
        points = _check_claims(file, path.stat().st_size)
        file.seek(105)
        width = int.from_bytes(file.read(2), "little")
    return points * -(-width // WIDEST_POINT)


def _check_claims(file: BinaryIO, size: int) -> int:
    """Points that the header claims; more records than the file can hold are refused: laspy loops over and allocates
    what it claims.

    Offsets: LAS specification 1.4 R15, table 3 (public header block).
    """
    head = file.read(375)
    if head[:4] != b"LASF" or len(head) < 227:
        raise Unreadable("expected a LAS header ('LASF'), found other bytes; export the scan again as LAS")
    minor = head[25]
    header_size, data_start, records = struct.unpack_from("<HII", head, 94)
    packed = bool(head[104] & 0xC0)
    record, points = struct.unpack_from("<HI", head, 105)
    if minor >= 4:
        if len(head) < 375:
            raise Unreadable("its header is cut; copy it again")
        (points,) = struct.unpack_from("<Q", head, 247)
    held = size - data_start
    if held < 0 or header_size + 54 * records > data_start:
        raise Unreadable(f"its header does not fit into its {size:,} bytes; the file is cut, copy it again")
    most = max(_ALWAYS_ALLOWED, _POINTS_PER_BYTE * held) if packed else held // max(record, 1)
    if points > most:
        raise Unreadable(f"its header claims {points:,} points, {held:,} bytes of data cannot hold them; copy it again")
    if packed:
        _check_chunks(file, size, data_start, points)
    return int(points)


def _check_chunks(file: BinaryIO, size: int, data_start: int, points: int) -> None:
    """Refuse a table of more chunks than points: lazrs allocates it unseen, and ends the process where it cannot.

    The data of a LAZ file start with the place of the table (-1: it stands in the last 8 bytes); the table starts with
    its version and the number of chunks.
    """

    def number(place: int, length: int) -> int:
        file.seek(max(place, 0))
        return int.from_bytes(file.read(length), "little", signed=True)

    table = number(data_start, 8)
    if table == -1:
        table = number(size - 8, 8)
    if not data_start + 8 <= table <= size - 8 or not 0 <= number(table + 4, 4) <= points:
        raise Unreadable("its table of chunks does not fit into the file; the file is damaged or cut, copy it again")
