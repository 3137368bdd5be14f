"""The frame of a part: good scans brought together, and any scan brought to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from r3dad.align.cloud import Nearest, normals_of, spread, thin
from r3dad.align.fit import compose
from r3dad.align.search import CAP, FINE, Search
from r3dad.align.tables import Tables
from r3dad.errors import InputError

NEAR = 0.01  # a point this close to the surface overlaps it (share of the diagonal)
MISFIT = 3.0  # a scan whose residual exceeds so many times that of good scans is not this part
OVERLAP = 0.7  # nor one that has less of its points near the surface


@dataclass(frozen=True)
class Pose:
    """Where a scan lies in the frame of the part.

    matrix: [4, 4] float64, rigid, from the scan's frame to the part's (mm to mm). rms_mm: root mean square of the distances to the surface,
    each capped at 2 % of the part's diagonal. overlap: share of the scan's points within 1 % of the diagonal of the surface. margin: how much
    worse the best pose of another kind fits, (second - best) / best of the mean capped distance; poses that a symmetry of the part makes
    equal are of one kind; inf if the search met no other. ok: False if the scan does not fit the part; reason says why.
    """

    matrix: np.ndarray
    rms_mm: float
    overlap: float
    margin: float
    ok: bool
    reason: str


class Frame:
    """The fused surface of the good scans, and the tables with which scans are registered to it. Built by `build`."""

    def __init__(self, tables: Tables, centre: Tensor, scale: float, reference: float = 0.0) -> None:
        """tables: the surface in units of `scale` (mm, its diagonal) about `centre` [3] float64 (mm); reference: residual of good scans."""
        self.tables, self.centre, self.scale, self.reference = tables, centre, scale, reference
        self.search = Search(tables)

    @classmethod
    def of(cls, cloud: Tensor) -> Frame:
        """Frame of one aligned cloud [N, 3] float64 (mm)."""
        kept, _ = _unstray(cloud)
        low, high = kept.amin(0), kept.amax(0)
        centre, scale = (low + high) / 2, float((high - low).norm())
        points, _ = thin(((kept - centre) / scale).float(), FINE)
        return cls(Tables(points, normals_of(points, Nearest(points))), centre, scale)

    @classmethod
    def build(
        cls, clouds: list[np.ndarray], *, pose: Literal["search", "fixed"] = "search", device: str | torch.device = "cpu"
    ) -> tuple[Frame, list[Pose]]:
        """Brings good scans (each [N, 3], mm, any pose, whole or one-sided) into the frame of the first one.

        pose: "fixed" leaves scans where they are. Returns the frame and the pose of each scan. Raises InputError for a scan without points.
        """
        scans = [_check(c, device) for c in clouds]
        if not scans:
            raise InputError("good scans: none given, at least one expected")
        eye = torch.eye(4, dtype=torch.float64, device=device)
        matrices = [eye] * len(scans)
        if pose == "search":
            frame = cls.of(scans[0])
            matrices[1:] = [frame._search(s)[0] for s in scans[1:]]
        moved = [compose(m, s) for m, s in zip(matrices, scans)]
        frame = cls.of(torch.cat(moved))
        poses = [frame._judge(s, m, math.inf) for s, m in zip(scans, matrices)]
        frame.reference = float(np.median([p.rms_mm for p in poses])) / frame.scale
        return frame, [frame._judge(s, m, math.inf) for s, m in zip(scans, matrices)]

    def register(self, points: np.ndarray | Tensor, *, pose: Literal["search", "fixed"] = "search") -> Pose:
        """Pose of a scan [N, 3] (mm) in the frame; "fixed" takes the scan to be in place and only measures how well it fits."""
        scan = _check(points, self.centre.device)
        if pose == "fixed":
            return self._judge(scan, torch.eye(4, dtype=torch.float64, device=scan.device), math.inf)
        matrix, margin = self._search(scan)
        return self._judge(scan, matrix, margin)

    def state(self) -> dict[str, Tensor]:
        """All that is needed to restore the frame, as tensors."""
        numbers = torch.cat([self.centre.cpu(), torch.tensor([self.scale, self.reference], dtype=torch.float64)])
        return {"points": self.tables.points, "normals": self.tables.normals, "index": self.tables.index, "numbers": numbers}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: str | torch.device = "cpu") -> Frame:
        """The frame that `state` described."""
        tables = Tables(*(state[k].to(device) for k in ("points", "normals", "index")))
        *_, scale, reference = state["numbers"].tolist()
        return cls(tables, state["numbers"][:3].to(device), scale, reference)

    def _search(self, scan: Tensor) -> tuple[Tensor, float]:
        """Matrix [4, 4] float64 (mm) of the best pose found, and its margin."""
        middle = scan.median(0).values
        kept = scan[(scan - middle).norm(dim=1) < 1.2 * self.scale]
        pose, margin = self.search(((kept - middle) / self.scale).float())
        matrix = pose.clone()
        matrix[:3, 3] = self.scale * pose[:3, 3] + self.centre - pose[:3, :3] @ middle
        return matrix, margin

    def _judge(self, scan: Tensor, matrix: Tensor, margin: float) -> Pose:
        q = (compose(matrix, spread(scan, 4000)) - self.centre) / self.scale
        distance = self.tables.distance(q.T[None].float())[0]
        rms, overlap = float(distance.clamp_max(CAP).square().mean().sqrt()), float((distance < NEAR).double().mean())
        pose = Pose(matrix.cpu().numpy(), rms * self.scale, overlap, margin, True, "")
        said = f"residual {rms * self.scale:.3g} mm, {overlap:.0%} of the scan within {NEAR * self.scale:.3g} mm of the part"
        if self.reference and rms > MISFIT * self.reference:
            return replace(pose, ok=False, reason=f"not this part: {said}; good scans {self.reference * self.scale:.3g} mm")
        if overlap < OVERLAP:
            return replace(pose, ok=False, reason=f"not this part: {said}")
        return replace(pose, reason=said)


def _check(points: np.ndarray | Tensor, device: str | torch.device) -> Tensor:
    scan = torch.as_tensor(points, device=device).double()
    if scan.dim() != 2 or scan.shape[1] != 3:
        raise InputError(f"scan: array of shape {tuple(scan.shape)}, [points, 3] expected")
    scan = scan[torch.isfinite(scan).all(1)]
    if len(scan) < 100:
        raise InputError(f"scan: {len(scan)} finite points, at least 100 expected")
    return scan


def _unstray(cloud: Tensor) -> tuple[Tensor, Tensor]:
    """The cloud without points far outside of where 98 % of it lie, and which those are."""
    sample = spread(cloud, 100_000)
    low, high = torch.quantile(sample, 0.01, 0), torch.quantile(sample, 0.99, 0)
    margin = 0.1 * (high - low).norm()
    keep = ((cloud > low - margin) & (cloud < high + margin)).all(1)
    return cloud[keep], keep
