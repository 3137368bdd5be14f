"""The latest results with their scans, bounded in number and bytes, in a folder that goes with the server."""

from __future__ import annotations

import secrets
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Kept:
    """A result. file: its scan; size: bytes of everything in its folder; inspection: as `Inspection.to_json`."""

    id: str
    model: str
    file: Path
    size: int
    inspection: dict[str, Any]
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As clients get it."""
        return {
            "id": self.id,
            "model": self.model,
            "report": f"/v1/results/{self.id}/report",
            "inspection": self.inspection,
        }


class Store:
    """At most ``most`` results of at most ``most_bytes`` together; the oldest go first."""

    def __init__(self, folder: Path, most: int, most_bytes: int) -> None:
        self._folder, self._most, self._most_bytes = folder, most, most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def room(self) -> tuple[str, Path]:
        """An id that cannot be guessed, and an empty folder of it."""
        mark = secrets.token_hex(12)
        folder = self._folder / mark
        folder.mkdir()
        return mark, folder

    def drop(self, mark: str) -> None:
        """Remove a folder of `room`, and the result if there is one."""
        self._kept.pop(mark, None)
        shutil.rmtree(self._folder / mark, ignore_errors=True)

    def add(self, kept: Kept) -> None:
        """Keep a result, at the cost of older ones."""
        self._kept[kept.id] = kept
        self.shrink()

    def shrink(self) -> None:
        """Let the oldest go until the bounds hold; the latest stays."""
        while len(self._kept) > 1 and (
            len(self._kept) > self._most or sum(k.size for k in self._kept.values()) > self._most_bytes
        ):
            self.drop(next(iter(self._kept)))

    def get(self, mark: str) -> Kept | None:
        """The result, if it is still here."""
        return self._kept.get(mark)

    def latest(self) -> list[Kept]:
        """All that are kept, the latest first."""
        return list(reversed(self._kept.values()))
