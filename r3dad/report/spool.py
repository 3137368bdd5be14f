"""Results parked on disk while a batch streams by: colours need the whole batch's scale, memory must not hold the
whole batch."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from r3dad.report.item import ReportItem

_FIELDS = tuple(f.name for f in fields(ReportItem))
_LIGHT = "light"


class Spool:
    """Takes items one at a time, gives those that are listed back in order, counts all, and keeps the quantiles from
    which the batch's scales are made.

    folder: an existing folder for one npz file per listed item; each is removed when it has been given back. In memory
    an item costs some 100 bytes.

    Attributes:
        counts: of (verdict in words, truth in words), each None where unknown.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ranks: list[tuple[int, float]] = []
        self._bands: tuple[array[float], array[float]] = (array("d"), array("d"))
        self.counts: Counter[tuple[str | None, str | None]] = Counter()
        self.score_lows, self.score_peaks, self.deviation_peaks = array("d"), array("d"), array("d")

    def __len__(self) -> int:
        return len(self._ranks)

    def fill(self, items: Iterable[ReportItem]) -> None:
        """Count every item of an iterable and park the listed ones; one is held in memory at a time."""
        for item in items:
            self.counts[item.words, item.truth] += 1
            if item.listed:
                self._park(item)

    def _park(self, item: ReportItem) -> None:
        if len(item.points):
            self.score_lows.append(float(np.quantile(item.point_scores, 0.01)))
            self.score_peaks.append(float(np.quantile(item.point_scores, 0.999)))
            if item.deviation is not None:
                self.deviation_peaks.append(float(np.quantile(np.abs(item.deviation), 0.999)))
        if item.band:
            for end, value in zip(self._bands, item.band, strict=True):
                end.append(value)
        values = {name: getattr(item, name) for name in _FIELDS}
        heavy = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        light = {name: value for name, value in values.items() if name not in heavy}
        text = json.dumps(light, default=lambda value: value.item()).encode()  # numpy's numbers become Python's
        heavy[_LIGHT] = np.frombuffer(text, np.uint8)
        np.savez(self._file(len(self._ranks)), **heavy)  # type: ignore[arg-type]
        self._ranks.append(item.rank)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.npz"

    @property
    def band(self) -> tuple[float, float] | None:
        """The tolerance that the batch's colours show: the median of its items'."""
        if not self._bands[0]:
            return None
        low, high = (float(np.median(end)) for end in self._bands)
        return low, high

    def worst(self, most: int) -> set[int]:
        """Numbers of the parked items that are among the ``most`` worst."""
        return set(sorted(range(len(self._ranks)), key=self._ranks.__getitem__)[:most])

    def drain(self) -> Iterator[ReportItem]:
        """The parked items again, whole, in order."""
        for number in range(len(self._ranks)):
            with np.load(self._file(number), allow_pickle=False) as heavy:
                values: dict[str, Any] = json.loads(heavy[_LIGHT].tobytes())
                values |= {name: heavy[name] for name in heavy.files if name != _LIGHT}
            self._file(number).unlink()
            yield ReportItem(**values)
