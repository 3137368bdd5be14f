"""Colour maps that are perceptually uniform by construction, and the one scale of a batch.

Both maps are polylines in OKLab (Ottosson 2020) walked at constant speed, so equal steps of the value are equal steps
for the eye. Lightness falls strictly from good (light grey) to the extremes, so the maps also read in greyscale and
with colour-blind eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

_HEAT = ("#d3dadf", "#f0c05f", "#ee8535", "#d43d3f", "#7d1054")
_MATERIAL = ("#dde2e5", "#f0a982", "#d2503f", "#7e0f2b")  # deviation > 0
_MISSING = ("#dde2e5", "#8fbfe6", "#3d7fc4", "#173a80")  # deviation < 0

_WITHIN = ("#a7d7a0", "#c9e6bf", "#a7d7a0")  # deviation within the tolerance

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """uint8 sRGB [..., 3] to float OKLab [..., 3]."""
    c = np.asarray(rgb, float) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T)


def _srgb(lab: np.ndarray) -> np.ndarray:
    linear = (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T
    linear = np.clip(linear, 0, 1)
    c = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(c * 255).astype(np.uint8)


def _walk(anchors: tuple[str, ...], count: int) -> np.ndarray:
    corners = oklab(np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors]))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    at = np.linspace(0, length[-1], count)
    return _srgb(np.stack([np.interp(at, length, corners[:, k]) for k in range(3)], axis=1))


@cache
def heat_map() -> np.ndarray:
    """Colours of the score, good to defective: uint8 [256, 3]."""
    return _walk(_HEAT, 256)


@cache
def deviation_map(low: int = 128, high: int = 128) -> np.ndarray:
    """Colours of the signed deviation, missing (blue) to material (red), index 128 = on nominal: uint8 [256, 3].

    With low < high, levels of the tolerance's two ends: what lies between is green.
    """
    if not 0 < low < high < 255:
        return np.concatenate([_walk(_MISSING, 129)[:0:-1], _walk(_MATERIAL, 128)])
    within = _walk(_WITHIN, high - low + 1)
    return np.concatenate([_walk(_MISSING, low + 1)[:0:-1], within, _walk(_MATERIAL, 256 - high)[1:]])


@dataclass(frozen=True)
class Scale:
    """What the first and the last colour mean, the same over a whole batch."""

    low: float
    high: float

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Index into a colour map for every value, clipped at both ends: uint8, shape of `values`."""
        step = 255 / (self.high - self.low)
        return np.clip(np.round((np.asarray(values, float) - self.low) * step), 0, 255).astype(np.uint8)


def score_scales(lows: Sequence[float], peaks: Sequence[float], threshold: float | None) -> tuple[Scale, Scale]:
    """Scales of a batch's point scores, (colours, histogram), from each scan's 1 % quantile (`lows`) and 99.9 %
    quantile (`peaks`).

    The top of both is the 90 % quantile of the peaks, so that one wild scan does not wash out the others; with a
    `threshold` it is kept between 1.5 and 3 times as far up as the threshold, so that the threshold always falls well
    inside the bar. The histogram starts at the low scores, or at 0 where that costs little; the colours start a third
    of the way to the threshold, so that good surface is plain.
    """
    low = float(np.quantile(lows, 0.1)) if lows else 0.0
    high = float(np.quantile(peaks, 0.9)) if peaks else 1.0
    if 0 <= low < 0.5 * high:
        low = 0.0
    foot = low
    if threshold is not None:
        low = min(low, threshold)
        reach = (threshold - low) or abs(threshold) or 1.0
        high = min(max(high, low + 1.5 * reach), low + 3 * reach)
        foot = low + reach / 3
    high = high if high > low else low + (abs(low) or 1.0)
    return Scale(foot, high), Scale(low, high)


def deviation_scale(peaks: Sequence[float], band: tuple[float, float] | None = None) -> Scale:
    """Symmetric scale of a batch of deviation maps, from each map's 99.9 % quantile of the absolute deviation; twice as wide as
    the tolerance `band` at least."""
    reach = float(np.quantile(peaks, 0.9)) if peaks else 0.0
    if band:
        reach = max(reach, 2 * max(map(abs, band)))
    return Scale(-reach, reach) if reach > 0 else Scale(-1.0, 1.0)
