"""The results of a watched folder on disk. A scan is done when its result file is there: that file is the journal.

``results/<key>.json`` is written whole by renaming, after the part's page and before tables; what a crash leaves behind is either no
result (the scan is inspected again) or a whole one (it never is).
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from r3dad.errors import InputError
from r3dad.inspection import Inspection, check_pages, write
from r3dad.line.inbox import Arrival
from r3dad.report.growing import cell
from r3dad.scans import write_atomic

RESULT_SCHEMA = "r3dad.watch.result/1"
COLUMNS = (
    "time", "file", "verdict", "score", "threshold", "defects", "worst_kind", "worst_depth_mm", "seconds", "note", "page",
)  # fmt: skip
SHOWN = 500
"""Latest results that the index page lists."""
ATTEMPTS = 5
"""A scan during which the program ended this often without a word is not tried again: it may be what ends it."""


class Journal:
    """Results in the folder ``out``, and which scans have one.

    pages: ``bad``: a page for every part that is not OK; ``all``; ``none``. title, settings: of those pages.

    Raises:
        InputError: the folder cannot be written, or another watcher writes into it.
    """

    def __init__(self, out: Path, *, title: str, settings: dict[str, str], pages: str = "bad") -> None:
        self.out, self._title, self._settings, self._pages = out, title, settings, pages
        check_pages(pages)
        self._results, self._attempt = out / "results", out / ".attempt.json"
        try:
            self._results.mkdir(parents=True, exist_ok=True)
            self._lock = open(out / ".lock", "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it whatever ends the process
        except BlockingIOError:
            raise InputError(f"{out}: another watcher writes there; give this one another --out") from None
        except OSError as error:
            raise InputError(
                f"{out}: cannot be written ({error.strerror}); choose a folder that you may write to"
            ) from None
        rows = sorted((self._read(file) for file in self._results.glob("*.json")), key=lambda row: row["time"])
        self.done = {row["key"] for row in rows}
        self.counts = Counter(row["verdict"] for row in rows)
        self.latest = deque(rows, maxlen=SHOWN)
        write_atomic(out / "parts.csv", _lines([list(COLUMNS), *map(_cells, rows)]))

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        try:
            return _row(json.loads(file.read_text()), file.name.removesuffix(".json"))
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file}: no result of a watcher; remove it, and its scan is inspected again") from None

    def begin(self, arrival: Arrival) -> bool:
        """Say that a scan is about to be inspected; False where that ended the program ``ATTEMPTS`` times in a row."""
        count = 0
        if self._attempt.exists():
            last = json.loads(self._attempt.read_text())
            count = last["count"] if last["key"] == arrival.key else 0
        if count >= ATTEMPTS:
            return False
        write_atomic(self._attempt, json.dumps({"key": arrival.key, "count": count + 1}))
        return True

    def record(self, arrival: Arrival, inspection: Inspection) -> dict[str, Any]:
        """Write the result of a scan; its row.

        Raises:
            InputError: it cannot be written; the scan is not done then.
        """
        page = None
        if self._pages == "all" or (self._pages == "bad" and inspection.verdict not in ("OK", "UNREADABLE")):
            folder = self.out / "parts" / arrival.key
            page = write(folder, [inspection], title=f"{self._title}: {inspection.name}", settings=self._settings)
        result = {
            "schema": RESULT_SCHEMA,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "file": {"name": _text(arrival.path.name), "bytes": arrival.size, "changed_ns": arrival.changed},
            "page": page and page.relative_to(self.out).as_posix(),
            "inspection": inspection.to_json(),
        }
        write_atomic(self._results / f"{arrival.key}.json", json.dumps(result, indent=1, allow_nan=False))
        row = _row(result, arrival.key)
        self.done.add(arrival.key)
        self.counts[row["verdict"]] += 1
        self.latest.append(row)
        try:
            with open(self.out / "parts.csv", "a", encoding="utf-8", newline="") as table:
                table.write(_lines([_cells(row)]))
        except OSError:  # the table is made anew from the results at the next start
            pass
        return row

    def close(self) -> None:
        """Let another watcher have the folder."""
        self._attempt.unlink(missing_ok=True)
        self._lock.close()


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _row(result: dict[str, Any], key: str) -> dict[str, Any]:
    inspection = result["inspection"]
    worst = inspection["defects"][0] if inspection["defects"] else {}
    return {
        "key": key,
        "time": result["time"],
        "file": result["file"]["name"],
        "defects": len(inspection["defects"]),
        "worst_kind": worst.get("kind"),
        "worst_depth_mm": worst.get("depth_mm"),
        "page": result["page"],
        **{name: inspection[name] for name in ("verdict", "score", "threshold", "seconds", "note")},
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [cell(row[name]) for name in COLUMNS]


def _lines(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
