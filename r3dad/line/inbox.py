"""Which files of a folder that others write into are whole."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arrival:
    """A scan file in the inbox as it was seen. The same name, size and time of change is the same scan."""

    path: Path
    size: int
    changed: int  # mtime, ns

    @property
    def key(self) -> str:
        """Name of its result: readable, and as unique as the identity."""
        mark = hashlib.sha256(os.fsencode(f"{self.path.name}\0{self.size}\0{self.changed}")).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9.+=,@-]', '_', self.path.name)[:60]}.{mark}"

    @classmethod
    def of(cls, path: Path) -> Arrival:
        """Raises OSError: it is not there."""
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)


class Inbox:
    """Looks into a folder, not below it. A file is whole where one of these holds:

    - its size and time of change have not moved for ``settle`` seconds of this process's clock;
    - it was last written ``settle`` before it was last renamed (or its times were set, as copying programs do last);
    - an earlier look saw it under a name that is none of a scan (``.hidden``, ``part.ply.tmp``): it was renamed into place.

    Clocks of other machines do not enter. suffixes: in lower case, with their dot.
    """

    def __init__(self, folder: Path, suffixes: Collection[str], settle: float) -> None:
        self.folder, self._suffixes, self._settle = folder, frozenset(suffixes), settle
        self._seen: dict[Arrival, float] = {}
        self._unnamed: set[int] = set()

    def look(self, known: Collection[str]) -> tuple[list[Arrival], int]:
        """Whole files whose key is not ``known``, the longest unchanged first, and the number of those not yet whole.

        Raises OSError: the folder cannot be listed.
        """
        now, ready = time.monotonic(), []
        seen: dict[Arrival, float] = {}
        unnamed: set[int] = set()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith(".") or path.suffix.lower() not in self._suffixes:
                    unnamed.add(entry.inode())
                    continue
                try:
                    if not entry.is_file():
                        continue
                    stat = entry.stat()
                except OSError:  # gone since
                    continue
                arrival = Arrival(path, stat.st_size, stat.st_mtime_ns)
                if arrival.key in known:
                    continue
                seen[arrival] = self._seen.get(arrival, now)
                # Writing sets both times alike; a rename or a program that sets the time moves the second on.
                later = (stat.st_ctime_ns - stat.st_mtime_ns) / 1e9
                moved = later >= self._settle or (later > 0 and entry.inode() in self._unnamed)
                if moved and stat.st_size:
                    seen[arrival] = -math.inf
                if now - seen[arrival] >= self._settle:
                    ready.append(arrival)
        self._seen, self._unnamed = seen, unnamed
        return sorted(ready, key=lambda a: (a.changed, a.path.name)), len(seen) - len(ready)
