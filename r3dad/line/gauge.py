"""Type-1 gauge study: one part, one place, measured n times. Is the gauge good enough for the tolerance?

Definitions (Minitab, "Methods and formulas for Type 1 Gage Study"; the same in Bosch's booklet 10, "Capability of Measurement and Test
Processes"), with T the width of the tolerance, K = 20 (percent), L = 6 (standard deviations), s the standard deviation of the n values
(n - 1 in its denominator), x the mean and r the reference:

    bias = x - r        Cg = (K / 100 T) / (L s)        Cgk = (K / 200 T - |bias|) / (L s / 2)        t = |bias| sqrt(n) / s

A gauge is called capable where Cg and Cgk are at least 1.33.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r3dad.errors import InputError

PERCENT = 20.0
DEVIATIONS = 6.0
CAPABLE = 1.33
ENOUGH = 25
"""Values below which the study is said to be short (50 are usual)."""


@dataclass(frozen=True)
class Type1:
    """A study of the values ``[n]``.

    Attributes:
        name, unit: of what was measured. tolerance: width T; reference: r; both None where unknown, and what needs them with them.
        bias, t, p: and the two-sided probability of so large a t if there were no bias. cg, cgk: inf where the values do not spread.
    """

    name: str
    unit: str
    values: np.ndarray
    mean: float
    s: float
    tolerance: float | None = None
    reference: float | None = None
    bias: float | None = None
    t: float | None = None
    p: float | None = None
    cg: float | None = None
    cgk: float | None = None

    @property
    def capable(self) -> bool | None:
        """Whether Cg, and Cgk where there is a reference, reach ``CAPABLE``; None without a tolerance."""
        if self.cg is None:
            return None
        return min(self.cg, self.cg if self.cgk is None else self.cgk) >= CAPABLE


def type1(
    name: str,
    values: Sequence[float] | np.ndarray,
    *,
    unit: str = "mm",
    tolerance: float | None = None,
    reference: float | None = None,
) -> Type1:
    """Study of the values of one part measured again and again.

    Raises:
        InputError: fewer than two values, or a tolerance that is not positive.
    """
    x = np.asarray(values, float)
    n = len(x)
    if n < 2:
        raise InputError(f"{name}: expected at least two values, found {n}; scan the part more often")
    if tolerance is not None and not tolerance > 0:
        raise InputError(f"tolerance {tolerance:g}: expected a width above 0 mm")
    mean = float(x.mean())
    dust = 1e-12 * max(1.0, abs(mean))  # what rounding leaves of equal values
    s = _swept(float(x.std(ddof=1)), dust)
    bias = t = p = cg = cgk = None
    if reference is not None:
        bias = _swept(mean - reference, dust)
        t = _over(abs(bias) * math.sqrt(n), s)
        from scipy.stats import t as student

        p = float(2 * student.sf(t, n - 1))
    if tolerance is not None:
        cg = _over(PERCENT / 100 * tolerance, DEVIATIONS * s)
        if bias is not None:
            cgk = _over(PERCENT / 200 * tolerance - abs(bias), DEVIATIONS * s / 2)
    return Type1(name, unit, x, mean, s, tolerance, reference, bias, t, p, cg, cgk)


def _swept(value: float, dust: float) -> float:
    return 0.0 if abs(value) <= dust else value


def _over(a: float, b: float) -> float:
    return a / b if b else math.copysign(math.inf, a) if a else 0.0
