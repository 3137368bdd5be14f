"""One scan file to one inspection, as every way of the line does it."""

from __future__ import annotations

import time
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
