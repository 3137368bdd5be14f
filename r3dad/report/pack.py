"""A cloud thinned and quantised for the page: base64 of little-endian arrays one after another, decoded by the page
when it is chosen."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from r3dad.report.colours import Scale
from r3dad.report.item import ReportItem
from r3dad.report.thumbnail import spacing_of

HOT_WEIGHT = 4.0  # a point above the threshold is this many times as likely to be kept, lest small defects thin away


def thinned(count: int, hot: np.ndarray, budget: int, seed: int = 0) -> np.ndarray:
    """Indices of at most `budget` of `count` points in random order, hot ones (bool [count]) preferred by HOT_WEIGHT.

    Weighted sampling without replacement (Efraimidis and Spirakis 2006); the order is random again, so that any
    prefix is a fair thinning.
    """
    rng = np.random.default_rng(seed)
    if count <= budget:
        return rng.permutation(count)
    key = rng.exponential(size=count) / np.where(hot, HOT_WEIGHT, 1.0)
    return rng.permutation(np.argpartition(key, budget)[:budget])


def pack(item: ReportItem, keep: np.ndarray, scores: Scale, deviations: Scale) -> tuple[dict[str, Any], bytes]:
    """What the page needs of the points `keep` of `item`: (description, base64).

    The bytes are, for n = len(keep): uint16 position [n, 3] over the bounding box `corner` + `extent`; uint8 score
    [n] on the batch's scale; then, where the item has them, uint8 deviation [n], uint8 labels [n] (0 or 255) and int8
    displacement [n, 3] in parts of `shift_scale` / 127.
    """
    points = np.asarray(item.points, float)[keep]
    corner, extent = points.min(axis=0), np.ptp(points, axis=0)
    position = np.round((points - corner) / np.where(extent > 0, extent, 1.0) * 65535).astype("<u2")
    parts = [position, scores.levels(item.point_scores[keep])]
    about: dict[str, Any] = {
        "shown": len(keep),
        "corner": corner.tolist(),
        "extent": extent.tolist(),
        "spacing": spacing_of(points) or 1.0,
        "deviation": item.deviation is not None,
        "labels": item.labels is not None,
        "shift_scale": 0.0,
    }
    if item.deviation is not None:
        parts.append(deviations.levels(item.deviation[keep]))
    if item.labels is not None:
        parts.append(item.labels[keep].astype(np.uint8) * 255)
    if item.displacement is not None:
        shift = item.displacement[keep]
        reach = float(np.abs(shift).max()) or 1.0
        about["shift_scale"] = reach
        parts.append(np.round(shift / reach * 127).astype(np.int8))
    return about, base64.b64encode(b"".join(part.tobytes() for part in parts))
