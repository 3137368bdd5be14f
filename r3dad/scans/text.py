"""Tables of numbers as text: XYZ, TXT, CSV, and the label files of data sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from r3dad.scans.scan import Raw, Unreadable

_LONGEST_LINE = 65536


def read_text(path: Path, size: int) -> Raw:
    """Points of a text table: the columns named x, y, z of a header line, else the first three."""
    return Raw(read_table(path, ("x", "y", "z")))


def read_table(path: Path, columns: Sequence[str]) -> np.ndarray:
    """Columns [M, C] float64 of a text table: by name where a header line has them all, else the first C.

    Values stand apart by commas, semicolons, tabs or blanks; beside semicolons or tabs a comma is a decimal comma.
    What follows `#` in a line is a comment. Raises Unreadable.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            header, first, start = _first_lines(file)
            delimiter = ";" if ";" in first else "," if "," in first and "\t" not in first else None
            names = [_plain(field) for field in header.split(delimiter)]
            if len(names) == 1:  # a header that is written in another way than the data
                names = [_plain(field) for field in re.split(r"[;,\s]+", header)]
            use = tuple(range(len(columns)))
            if set(columns) <= set(names):
                use = tuple(names.index(column) for column in columns)
            width = len(first.split(delimiter))
            if width <= max(use):
                raise Unreadable(
                    f"expected {max(use) + 1} columns ({', '.join(columns)}), found {width} in {first[:60]!r}; "
                    "export the coordinates, one point a line"
                )
            file.seek(start)
            decimal_comma = "," in first and delimiter != ","
            lines = (line.replace(",", ".") for line in file) if decimal_comma else file
            try:
                return np.loadtxt(lines, delimiter=delimiter, usecols=use, ndmin=2, dtype=np.float64)
            except UnicodeDecodeError:
                raise
            except ValueError:
                file.seek(0)
                raise Unreadable(_fault(file, start, delimiter, use, decimal_comma)) from None
    except UnicodeDecodeError:
        raise Unreadable("expected UTF-8 text, found other bytes; save it as UTF-8 text") from None


def _first_lines(file: TextIO) -> tuple[str, str, int]:
    """The header line ('' if there is none), the first line of numbers, and where that one starts."""
    header = ""
    while True:
        start = file.tell()
        line = file.readline(_LONGEST_LINE)
        if not line:
            raise Unreadable("expected lines of numbers, found none; export the points, one a line")
        if len(line) == _LONGEST_LINE:
            raise Unreadable("expected one point a line, found a line of over 65,000 characters; export it again")
        text = line.strip()
        bare = text.lstrip("#/ ")
        if not bare:
            continue
        if text != bare:  # a comment; CloudCompare writes its header like this
            if {"x", "y", "z"} <= {_plain(field) for field in re.split(r"[;,\s]+", bare)}:
                header = bare
        elif any(map(_is_number, re.split(r"[;,\s]+", text))):
            return header, text, start
        elif header:
            raise Unreadable(f"expected lines of numbers, found {text[:60]!r}; export the points, one a line")
        else:
            header = text


def _fault(file: TextIO, start: int, delimiter: str | None, use: tuple[int, ...], decimal_comma: bool) -> str:
    """Which line of the table is at fault: numpy counts rows, people look for lines."""
    number, at_data = 0, False
    while line := file.readline():
        number += 1
        at_data = at_data or file.tell() > start
        text = line.partition("#")[0].strip()
        fields = (text.replace(",", ".") if decimal_comma else text).split(delimiter)
        if at_data and text and not (len(fields) > max(use) and all(_is_number(fields[i]) for i in use)):
            return (
                f"line {number}: expected {len(use)} numbers, found {text[:60]!r}; correct the line or export it again"
            )
    return "expected numbers in every line; export it again"


def _plain(field: str) -> str:
    """Name of a column without quotes, case and unit: '"X [mm]"' is x."""
    return re.sub(r"[\[(].*", "", field).strip(" \t\"'").lower()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
