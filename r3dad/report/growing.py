"""Text files that grow while a batch streams by, and tables in them."""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from r3dad.errors import InputError


class Growing:
    """A text file (UTF-8) that is written bit by bit under another name: it gets its own by `done`, or is never there.

    Use it in a ``with`` block. Raises InputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._out = open(self._part, "x", encoding="utf-8", newline="")
        except OSError as error:
            raise self._unwritten(error) from None

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        self._part.unlink(missing_ok=True)

    def write(self, text: str) -> None:
        """Add ``text``."""
        try:
            self._out.write(text)
        except OSError as error:
            raise self._unwritten(error) from None

    def row(self, values: Iterable[Any]) -> None:
        """Add a row of a CSV table, each value as `cell`."""
        try:
            csv.writer(self._out).writerow([cell(value) for value in values])
        except OSError as error:
            raise self._unwritten(error) from None

    def done(self) -> None:
        """The file is whole."""
        try:
            self._out.flush()
            os.fsync(self._out.fileno())
            os.replace(self._part, self._path)
        except OSError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError) -> InputError:
        return InputError(
            f"{self._path}: cannot be written ({error.strerror or error}); choose a folder with room that you may write to"
        )


def cell(value: Any) -> str:
    """A value in a table: empty for None, numbers short, and no text that a spreadsheet would run as a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, ".9g")
    text = str(value)
    return "'" + text if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text
