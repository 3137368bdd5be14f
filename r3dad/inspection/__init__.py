"""From a score to a decision: verdict, defect list, deviation against tolerances, and the folder to hand on."""

from __future__ import annotations

from r3dad.inspection.inspection import SCHEMA, VERDICTS, Alignment, Defect, Inspection
from r3dad.inspection.judge import check_tolerance, inspect, inspect_many
from r3dad.inspection.tolerance import Tolerance
from r3dad.inspection.write import PAGES, check_pages, write

__all__ = [
    "PAGES",
    "SCHEMA",
    "VERDICTS",
    "Alignment",
    "Defect",
    "Inspection",
    "Tolerance",
    "check_pages",
    "check_tolerance",
    "inspect",
    "inspect_many",
    "write",
]
