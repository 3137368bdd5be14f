"""What every recipe gives for a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from r3dad.align import Pose


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
        pose: how the scan lies in the part's frame. fitted: [M, 3] float64, the points after the little bending that good parts
            are allowed, in shares of the part's diagonal about its centre (the frame of ``recipe.surface``). kept: indices of the
            points that were scored; the others took their scores from those. near: [M] index of the nearest
            point of the surface. coverage: share of the surface that some view shows for sure which the scan shows. None for a recipe
            without.
    """

    point_scores: np.ndarray
    score: float
    displacement: np.ndarray
    deviation: np.ndarray | None = None
    is_this_part: bool = True
    note: str = ""
    pose: Pose | None = None
    fitted: np.ndarray | None = None
    kept: np.ndarray | None = None
    near: np.ndarray | None = None
    coverage: float | None = None
