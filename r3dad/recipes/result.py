"""What every recipe gives for a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RecipeResult:
    """Of a scan of M points, in the scan's own units and frame.

    Attributes:
        point_scores: [M] float32, higher is more anomalous.
        score: of the scan.
        displacement: [M, 3] from each point to its good place.
        deviation: [M] signed distance from the good surface along its normal (+ material, - missing), or None for a recipe without.
        is_this_part: False where the scan does not register to the good scans; then no score is to be trusted.
        note: one line for the user, or empty.
    """

    point_scores: np.ndarray
    score: float
    displacement: np.ndarray
    deviation: np.ndarray | None = None
    is_this_part: bool = True
    note: str = ""
