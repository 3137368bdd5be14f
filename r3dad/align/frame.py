"""The frame of a part: good scans brought together, and any scan brought to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from r3dad.align.fit import compose, rigid_step, tukey
from r3dad.align.grid import Grid, Nearest, normals_of, rotation_grid, rotation_vector_matrix, sphere, spread, thin
from r3dad.errors import InputError

# Lengths are shares of the diagonal of the part.
FINE, COARSE = 0.012, 0.03  # voxels of the surface, and of the clouds that search for a pose
CAP = 0.02  # a distance counts at most this much when poses are ranked
SEARCH_CAP = 0.08
NEAR = 0.01  # a point this close to the surface overlaps it
ROTATIONS = 1500
VIEWS = 42
ALIKE = 0.004  # two poses are the same if they move the surface onto itself within this mean distance
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

    def __init__(self, points: Tensor, normals: Tensor, centre: Tensor, scale: float, reference: float, grid: Grid | None = None) -> None:
        """points, normals: [M, 3] float32 in units of `scale` (mm, the diagonal) about `centre` [3] float64 (mm)."""
        self.points, self.normals, self.centre, self.scale, self.reference = points, normals, centre, scale, reference
        self.nearest = Nearest(points)
        self.grid = grid or Grid.build(points, self.nearest)
        self.spacing = float(self.nearest(spread(points, 2000), 2)[0][:, 1].median())
        self.coarse = thin(points, COARSE)[0]
        self.rotations = rotation_grid(ROTATIONS).to(points.device)
        self.whole = self.coarse.mean(0)
        self.partial = _partial_centres(self.coarse)
        _, vectors = torch.linalg.eigh(torch.cov((self.coarse - self.whole).T.double()))
        self.axes = vectors.T.float()

    @classmethod
    def of(cls, cloud: Tensor, reference: float = 0.0) -> Frame:
        """Frame of one aligned cloud [N, 3] float64 (mm)."""
        kept, _ = _unstray(cloud)
        low, high = kept.amin(0), kept.amax(0)
        centre, scale = (low + high) / 2, float((high - low).norm())
        points, _ = thin(((kept - centre) / scale).float(), FINE)
        normals = normals_of(points, Nearest(points))
        return cls(points, normals, centre, scale, reference)

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
        scan = _check(points, self.points.device)
        if pose == "fixed":
            return self._judge(scan, torch.eye(4, dtype=torch.float64, device=scan.device), math.inf)
        matrix, margin = self._search(scan)
        return self._judge(scan, matrix, margin)

    def state(self) -> dict[str, Tensor]:
        """All that is needed to restore the frame, as tensors."""
        return {
            "points": self.points, "normals": self.normals, "centre": self.centre,
            "scale": torch.tensor([self.scale, self.reference], dtype=torch.float64),
            "grid_index": self.grid.index, "grid_distance": self.grid.distance,
            "grid_box": torch.cat([self.grid.low.double().cpu(), torch.tensor([self.grid.cell], dtype=torch.float64)]),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: str | torch.device = "cpu") -> Frame:
        """The frame that `state` described."""
        s = {k: v.to(device) for k, v in state.items()}
        box = s["grid_box"]
        grid = Grid(box[:3].float(), float(box[3]), s["grid_index"], s["grid_distance"])
        scale, reference = s["scale"].tolist()
        return cls(s["points"], s["normals"], s["centre"], scale, reference, grid)

    # ------------------------------------------------------------ search

    def _search(self, scan: Tensor) -> tuple[Tensor, float]:
        """Matrix [4, 4] float64 (mm) of the best pose found, and its margin."""
        middle = scan.median(0).values
        kept = scan[(scan - middle).norm(dim=1) < 1.2 * self.scale]
        unit = ((kept - middle) / self.scale).float()
        fine, _ = thin(unit, FINE)
        coarse, weight = thin(unit, COARSE)
        poses = self._hypotheses(coarse, weight)
        for keep, count, reaches in ((24, 150, (0.10, 0.08, 0.06)), (8, 400, (0.05, 0.04, 0.03)), (4, 800, (0.03, 0.02, 0.015))):
            sample = spread(fine, count)
            for reach in reaches:
                poses = self._step(poses, sample, reach)
            poses = self._distinct(poses, self._misfit(poses, sample), keep)
        sample = spread(fine, 1500)
        poses = self._finish(poses, sample)
        cost = self._cost(compose(poses, sample.double()))
        turned = self._finish(self._turned(poses[cost.argmin()], fine), sample)
        poses, cost = torch.cat([poses, turned]), torch.cat([cost, self._cost(compose(turned, sample.double()))])
        best = cost.argmin()
        other = self._differs(poses, poses[best])
        margin = float(cost[other].min() / cost[best] - 1) if bool(other.any()) else math.inf
        return self._to_mm(poses[best], middle), margin

    def _to_mm(self, pose: Tensor, middle: Tensor) -> Tensor:
        matrix = pose.clone()
        matrix[:3, 3] = self.scale * pose[:3, 3] + self.centre - pose[:3, :3] @ middle
        return matrix

    def _hypotheses(self, coarse: Tensor, weight: Tensor, keep: int = 64) -> Tensor:
        """The best of all rotations, each with several translations, on the distance field: [keep, 4, 4] float64."""
        solid = weight >= 0.25 * weight.median()
        coarse, weight = coarse[solid], weight[solid].clamp_max(float(weight.median()))
        centre = (coarse * weight[:, None]).sum(0) / weight.sum()
        probe = (spread(coarse, 60) - centre) @ self.rotations.transpose(1, 2)  # [R, P, 3]
        targets = torch.cat([self.whole[None], self.partial])
        cost = torch.stack([self._field(probe + t) for t in targets], 1).flatten()
        order = cost.argsort(stable=True)[: 16 * keep]
        r, t = order // len(targets), order % len(targets)
        probe = (spread(coarse, 200) - centre) @ self.rotations[r].transpose(1, 2) + targets[t, None]
        order = self._field(probe).argsort(stable=True)[:keep]
        poses = torch.eye(4, dtype=torch.float64, device=coarse.device).repeat(len(order), 1, 1)
        rotation = self.rotations[r[order]].double()
        poses[:, :3, :3] = rotation
        poses[:, :3, 3] = targets[t[order]].double() - (rotation @ centre.double()[:, None])[..., 0]
        return poses

    def _field(self, query: Tensor) -> Tensor:
        """Mean distance to the surface over the points of each pose [..., P, 3], capped, from the grid."""
        return self.grid.distance.flatten()[self.grid.voxel(query)].clamp_max(SEARCH_CAP).mean(-1)

    def _pairs(self, q: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
        """Residual along the normal, the distance across it [H, N], and the normal, of points q [H, N, 3] float32."""
        j = self.nearest(q)[1] if exact else self.grid.index.flatten()[self.grid.voxel(q)].long()
        normal, offset = self.normals[j], q - self.points[j]
        residual = (offset * normal).sum(-1)
        return residual, (offset.square().sum(-1) - residual.square()).clamp_min(0).sqrt(), normal

    def _step(self, poses: Tensor, sample: Tensor, reach: float, exact: bool = False) -> Tensor:
        q = compose(poses.float(), sample)
        residual, across, normal = self._pairs(q, exact)
        weight = tukey(residual, reach) * (across < max(reach, 2 * self.spacing))
        return rigid_step(q, normal, weight, residual) @ poses

    def _finish(self, poses: Tensor, sample: Tensor, steps: int = 4) -> Tensor:
        """Robust fit with exact neighbours; the reach shrinks to the noise of each pose."""
        for _ in range(steps):
            q = compose(poses.float(), sample)
            residual, across, normal = self._pairs(q, True)
            near = across < 2 * self.spacing
            size = torch.where(near, residual.abs(), torch.nan).nanmedian(1, keepdim=True).values.nan_to_num(CAP)
            weight = tukey(residual, (4.4 * size).clamp(1e-3, CAP)) * near
            poses = rigid_step(q, normal, weight, residual) @ poses
        return poses

    def _misfit(self, poses: Tensor, sample: Tensor, cap: float = CAP) -> Tensor:
        residual, across, _ = self._pairs(compose(poses.float(), sample), False)
        return torch.hypot(residual, (across - self.spacing).clamp_min(0)).clamp_max(cap).mean(-1)

    def _departure(self, q: Tensor) -> Tensor:
        """Distance [..., N] of points to the surface, exact neighbours; across the normal a spacing is free."""
        residual, across, _ = self._pairs(q.float(), True)
        return torch.hypot(residual, (across - self.spacing).clamp_min(0))

    def _cost(self, q: Tensor) -> Tensor:
        return self._departure(q).clamp_max(CAP).double().mean(-1)

    def _distinct(self, poses: Tensor, cost: Tensor, keep: int, apart: float = 0.02) -> Tensor:
        """The best `keep` poses, in order, of which no two put the part's corners nearly in the same place."""
        order = cost.argsort(stable=True)
        corner = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64, device=poses.device) / 2
        places = compose(poses[order], corner)
        gap = (places[:, None] - places[None]).norm(dim=-1).amax(-1)
        chosen: list[int] = []
        for i in range(len(order)):
            if all(float(gap[i, k]) > apart for k in chosen):
                chosen.append(i)
            if len(chosen) == keep:
                break
        return poses[order[chosen]]

    def _turned(self, pose: Tensor, fine: Tensor, degrees: float = 1.5, keep: int = 8) -> Tensor:
        """The best turns of a pose about the principal axes of the part: [keep, 4, 4].

        Teeth, spokes and knurls make nearly equal poses a few degrees apart. The few points that tell them apart are lost in a trimmed
        mean; the capped one keeps them.
        """
        angle = torch.deg2rad(torch.arange(degrees, 360 - degrees / 2, degrees, device=fine.device))
        turn = rotation_vector_matrix((angle[:, None, None] * self.axes.T[None].transpose(1, 2)).flatten(0, 1)).double()
        poses = torch.eye(4, dtype=torch.float64, device=fine.device).repeat(len(turn), 1, 1)
        c = self.whole.double()
        poses[:, :3, :3] = turn
        poses[:, :3, 3] = c - turn @ c
        poses = poses @ pose
        cost = self._misfit(poses, spread(fine, 300))
        return poses[cost.argsort(stable=True)[:keep]]

    def _differs(self, poses: Tensor, best: Tensor) -> Tensor:
        """Which poses [H, 4, 4] put the part elsewhere than `best`, symmetries of the part apart: [H] bool."""
        change = poses @ torch.linalg.inv(best)
        return self._cost(compose(change, spread(self.coarse, 400).double())) > ALIKE

    # ------------------------------------------------------------ verdict

    def _judge(self, scan: Tensor, matrix: Tensor, margin: float) -> Pose:
        q = (compose(matrix, spread(scan, 4000)) - self.centre) / self.scale
        distance = self._departure(q)
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


def _partial_centres(points: Tensor, cell: float = 0.04) -> Tensor:
    """Centroids [V, 3] of what is left of a cloud [N, 3] if it is seen from one side, or cut in half, for many directions."""
    view = sphere(VIEWS).to(points.device)
    depth = points @ view.T
    centres = []
    for k in range(VIEWS):
        a = torch.linalg.cross(view[k], torch.eye(3, device=points.device)[view[k].abs().argmin()])
        a = a / a.norm()
        b = torch.linalg.cross(view[k], a)
        pixel = ((torch.stack([points @ a, points @ b], 1) + 2) / cell).long() @ torch.tensor([4096, 1], device=points.device)
        _, where = torch.unique(pixel, return_inverse=True)
        front = torch.full((int(where.max()) + 1,), -10.0, device=points.device)
        front.scatter_reduce_(0, where, depth[:, k], "amax")
        centres.append(points[depth[:, k] > front[where] - 1.5 * cell].mean(0))
        centres.append(points[depth[:, k] > depth[:, k].median()].mean(0))
    centres = torch.stack(centres)
    chosen = [0]
    for i in range(1, len(centres)):
        if float((centres[chosen] - centres[i]).norm(dim=1).min()) > 0.03:
            chosen.append(i)
    return centres[chosen]
