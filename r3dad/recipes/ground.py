"""Surfaces that clouds are fitted to, and good scans fused into one (lengths are shares of the part's diagonal)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from r3dad.align import Nearest, fit_affine, fit_quadratic, fit_rigid
from r3dad.surface import Surface


def as_tensor(points: np.ndarray) -> Tensor:
    """A cloud ``[N, 3]`` as the fits take it."""
    return torch.from_numpy(np.ascontiguousarray(points, np.float32))


class Ground:
    """A surface with what the fits need of it (lengths are shares of the diagonal)."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.points, self.normals = as_tensor(surface.points), as_tensor(surface.normals)
        self.nearest = Nearest(self.points)

    def fitted(self, points: np.ndarray, rigid: bool = True) -> list[np.ndarray]:
        """The cloud ``[N, 3]`` moved onto the surface a little stretched, the same and a little bent, and as a rigid body."""
        q = as_tensor(points)
        if rigid:
            q = fit_rigid(q, self.points, self.normals, nearest=self.nearest)[0]
        stretched = fit_affine(q, self.points, self.normals, nearest=self.nearest, steps=4)[0]
        bent = fit_quadratic(stretched, self.points, self.normals, nearest=self.nearest, steps=4)[0]
        return [x.double().numpy() for x in (stretched, bent, q)]


def fuse(clouds: Sequence[np.ndarray], most: int) -> tuple[list[np.ndarray], Surface]:
    """Clouds in one frame, fitted to their common surface with the freedom a scan has, and the surface of the fitted ones."""
    if len(clouds) == 1:
        return list(clouds), Surface.build(list(clouds), most)
    ground = Ground(Surface.build(list(clouds), most))
    clouds = [ground.fitted(cloud)[0] for cloud in clouds]
    return clouds, Surface.build(clouds, most)
