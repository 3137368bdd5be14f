"""Pose of scans: the good scans of a part are brought into one frame, and every scan into theirs.

`Frame.build` and `Frame.register` find rigid poses; `fit_rigid`, `fit_affine` and `fit_quadratic` then fit a scan to a surface,
the last two with a little bending.
"""

from r3dad.align.fit import fit_affine, fit_quadratic, fit_rigid
from r3dad.align.frame import Frame, Pose
from r3dad.nearest import Nearest

__all__ = ["Frame", "Nearest", "Pose", "fit_affine", "fit_quadratic", "fit_rigid"]
