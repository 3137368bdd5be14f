"""What `r3dad predict` and `r3dad demo` leave in their output folder."""

from __future__ import annotations

from r3dad.report.item import ReportItem
from r3dad.report.write import write_report

__all__ = ["ReportItem", "write_report"]
