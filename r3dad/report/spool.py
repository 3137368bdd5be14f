"""Results parked on disk while a batch streams by: colours need the whole batch's scale, memory must not hold the
whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from r3dad.report.item import ReportItem

_FIELDS = tuple(f.name for f in fields(ReportItem))


class Spool:
    """Takes items one at a time, gives them back in order, and keeps the quantiles from which the batch's scales are
    made.

    folder: an existing folder for one npz file per item; each is removed when it has been given back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._light: list[ReportItem] = []
        self.score_lows: list[float] = []
        self.score_peaks: list[float] = []
        self.deviation_peaks: list[float] = []
        self.bands: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return len(self._light)

    def fill(self, items: Iterable[ReportItem]) -> None:
        """Park every item of an iterable; one is held in memory at a time."""
        for item in items:
            if len(item.points):
                self.score_lows.append(float(np.quantile(item.point_scores, 0.01)))
                self.score_peaks.append(float(np.quantile(item.point_scores, 0.999)))
                if item.deviation is not None:
                    self.deviation_peaks.append(float(np.quantile(np.abs(item.deviation), 0.999)))
            if item.band:
                self.bands.append(item.band)
            heavy = {
                name: np.asarray(value) for name in _FIELDS if isinstance(value := getattr(item, name), np.ndarray)
            }
            np.savez(self._folder / f"{len(self._light)}.npz", **heavy)  # type: ignore[arg-type]
            empty = {name: value[:0].copy() for name, value in heavy.items()}
            self._light.append(replace(item, **empty))  # type: ignore[arg-type]

    @property
    def band(self) -> tuple[float, float] | None:
        """The tolerance that the batch's colours show: the median of its items'."""
        if not self.bands:
            return None
        low, high = np.median(self.bands, axis=0)
        return float(low), float(high)

    def drain(self) -> Iterator[ReportItem]:
        """The items again, whole, in order."""
        for number, light in enumerate(self._light):
            file = self._folder / f"{number}.npz"
            with np.load(file, allow_pickle=False) as heavy:
                item = replace(light, **{name: heavy[name] for name in heavy.files})
            file.unlink()
            yield item
