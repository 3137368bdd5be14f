"""One scan file to one inspection, as every way of the line does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from r3dad.detector import Detector
from r3dad.errors import InputError
from r3dad.inspection import Inspection, Tolerance
from r3dad.scans import read_scan


def inspect_file(
    detector: Detector, file: Path, *, tolerance: Tolerance | None = None, most_points: int | None = None
) -> Inspection:
    """Inspection of a scan file; its ``seconds`` are those from file to result.

    Raises:
        InputError: the scan cannot be read or used, or has more than ``most_points`` points; the line begins with the file.
    """
    started = time.perf_counter()
    scan = read_scan(file, most_points=most_points)
    try:
        inspection = detector.inspect(scan, tolerance=tolerance)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return replace(inspection, seconds=time.perf_counter() - started)


def inspect_anyway(inspect: Callable[[Path], Inspection], file: Path) -> Inspection:
    """``inspect(file)``, or ``UNREADABLE`` with the reason: whatever is wrong with one scan, or with us over it, the others go on."""
    started = time.perf_counter()
    try:
        return inspect(file)
    except InputError as error:
        note = str(error)
    except Exception as error:
        note = f"{file}: could not be inspected ({reason(error)})"
    return Inspection.unreadable(file.stem, note, source=file, seconds=time.perf_counter() - started)


def reason(error: Exception) -> str:
    """An error that nobody foresaw, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
