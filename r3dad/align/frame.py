"""The frame of a part: good scans brought together, and any scan brought to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from r3dad.align.cloud import normals_of, spread, thin
from r3dad.align.fit import compose
from r3dad.align.search import CAP, FINE, Search, apart, moved, settle, visible_share
from r3dad.align.tables import Tables
from r3dad.errors import InputError
from r3dad.nearest import Nearest, Order

NEAR = 0.01  # a point this close to the surface overlaps it (share of the diagonal)
SHARE = 0.8  # of the scan must lie on the surface: the rest may be defect, strays, a fixture
MISFIT = 2.0  # and not further from it than so many times what good scans show
OVERLAP = 0.91  # nor may more of it be off the part than defects and 5 % strays explain
SURE_OVERLAP = 0.95  # which is asked of a pose that has a rival
LONE = 0.7  # median over twelve parts: another scan against the surface of a lone one, over half of that one against the other half
REFERENCE_FLOOR = 0.0016  # what good scans show at least: instances differ, noise (share of the diagonal)
LEAST_EXTENT = 0.25  # a scan smaller than this (share of the diagonal) fits anywhere
DOUBT = 1.3  # a first search that leaves more than so many times is followed by a wider one
JOINED = 0.97  # good scans with this overlap join the surface at once, others one by one; a scan with less is searched for more widely
LEAST_OVERLAP = 0.5  # a good scan with less overlap with the others cannot be placed
CRISP = (
    0.89,
    0.004,
    0.012,
)  # nor one of whose points within the last distance a smaller share than the first lie within the middle one
UNSURE = 0.1  # margin below which a pose is said to be unsure
STARTS = 4  # good scans tried as the first one
FAR = 0.006  # from a surface further off than warps and noise move a point
BETTER = 0.8  # times as much of it far off, and a good scan goes over to another pose
ROUNDS = 3  # in which good scans may go over to the pose that the others agree on


@dataclass(frozen=True)
class Pose:
    """Where a scan lies in the frame of the part.

    matrix: [4, 4] float64, rigid, from the scan's frame to the part's (mm to mm). rms_mm: root mean square of the distances to the
    surface, each capped at 2 % of the part's diagonal. overlap: share of the scan's points within 1 % of the diagonal of the surface.
    margin: how much worse the best pose of another kind fits, (second - best) / best of the mean capped distance; poses that a symmetry
    of the part makes equal are of one kind; inf if the search met no other. ok: False if the scan is not of this part (80 % of its points
    lie further from the surface than twice what good scans show, or more than 9 % are off it) or, of the good scans, does not join the
    others; reason: in words.
    """

    matrix: np.ndarray
    rms_mm: float
    overlap: float
    margin: float
    ok: bool
    reason: str


class _Fit(NamedTuple):
    """Shares of the diagonal: distance within which 80 % of a scan lie, root mean square of its capped distances; overlap; crispness.

    Where views of a part overlap but in part, points are on the surface or far from it. Many a little off it betray a wrong pose.
    """

    residual: float
    rms: float
    overlap: float
    crisp: float


class Frame:
    """The fused surface of the good scans, and the tables with which scans are registered to it. Built by `build`."""

    def __init__(self, tables: Tables, centre: Tensor, scale: float, reference: float = 0.0) -> None:
        """tables: the surface in units of `scale` (mm, its diagonal) about `centre` [3] float64 (mm).

        reference: distance within which 80 % of a good scan lie, in the same unit; 0 if unknown.
        """
        self.tables, self.centre, self.scale, self.reference = tables, centre, scale, reference

    @cached_property
    def search(self) -> Search:
        """The search for a pose on this surface."""
        return Search(self.tables)

    @classmethod
    def of(cls, cloud: Tensor) -> Frame:
        """Frame of one aligned cloud [N, 3] float64 (mm)."""
        kept = _unstray(cloud)
        low, high = kept.amin(0), kept.amax(0)
        centre, scale = (low + high) / 2, float((high - low).norm())
        points, count = thin(((kept - centre) / scale).float(), FINE)
        points = points[count >= 0.25 * count.median()]
        return cls(Tables(points, normals_of(points, Nearest(points))), centre, scale)

    @classmethod
    def build(
        cls,
        clouds: list[np.ndarray],
        *,
        pose: Literal["search", "fixed"] = "search",
        device: str | torch.device = "cpu",
    ) -> tuple[Frame, list[Pose]]:
        """Brings good scans (each [N, 3], mm, any pose, whole or one-sided) into the frame of the first one that fits the others.

        The most complete scan comes first, the others join the growing surface, best overlap first. pose: "fixed" leaves scans where
        they are. Returns the frame and the pose of each scan; a scan that does not join (ok is False) is no part of the surface.
        Raises InputError for no scans or one of too few points.
        """
        scans = [_check(c, device) for c in clouds]
        if not scans:
            raise InputError("good scans: none given, at least one expected")
        if pose == "fixed":
            placed = {k: (torch.eye(4, dtype=torch.float64, device=device), math.inf) for k in range(len(scans))}
        else:
            placed = {}
            for start in sorted(range(len(scans)), key=lambda k: visible_share(scans[k]))[:STARTS]:
                found = cls._grow(scans, start)
                placed = found if len(found) > len(placed) else placed
                if len(placed) == len(scans):
                    break
            placed = cls._agreed(scans, placed)
        first = torch.linalg.inv(placed[min(placed)][0])
        placed = {k: (first @ matrix, margin) for k, (matrix, margin) in sorted(placed.items())}
        frame = cls._fused(scans, placed)
        if pose == "search" and len(placed) > 1:
            placed = {
                k: (frame._polished(scans[k], matrix) if k != min(placed) else matrix, m)
                for k, (matrix, m) in placed.items()
            }
            frame = cls._fused(scans, placed)
        frame.reference = max(REFERENCE_FLOOR, cls._held_out(scans, placed) / frame.scale)
        poses = []
        for k, scan in enumerate(scans):
            if k in placed:
                poses.append(frame._judge(scan, *placed[k]))
            else:
                lone = frame._judge(scan, *frame._search(scan))
                said = lone.reason.removeprefix("not this part: ")
                poses.append(replace(lone, ok=False, reason=f"does not join the other good scans: {said}"))
        return frame, poses

    @classmethod
    def _fused(cls, scans: list[Tensor], placed: dict[int, tuple[Tensor, float]]) -> Frame:
        return cls.of(torch.cat([compose(matrix, scans[k]) for k, (matrix, _) in placed.items()]))

    @classmethod
    def _held_out(cls, scans: list[Tensor], placed: dict[int, tuple[Tensor, float]], most: int = 6) -> float:
        """Distance (mm) within which 80 % of a good scan lie from the surface of the others, where they meet: the median over scans.

        A lone scan is cut in two, every other point; half the points make a rougher surface, which LONE allows for.
        """
        if lone := len(placed) == 1:
            (k,) = placed
            scans = [scans[k][::2], scans[k][1::2]]
            placed = dict.fromkeys((0, 1), placed[k])
        found = []
        for k in list(placed)[:most]:
            others = cls._fused(scans, {j: p for j, p in placed.items() if j != k})
            distance = others._distance(scans[k], placed[k][0])
            meet = distance[distance < CRISP[2]]
            found += [others.scale * float(torch.quantile(meet, SHARE))] if len(meet) else []
        return (LONE if lone else 1.0) * float(np.median(found)) if found else 0.0

    @classmethod
    def _grow(cls, scans: list[Tensor], start: int) -> dict[int, tuple[Tensor, float]]:
        """Pose and margin of every scan that can be joined to scan `start`, directly or through others."""
        placed = {start: (torch.eye(4, dtype=torch.float64, device=scans[start].device), math.inf)}
        while len(placed) < len(scans):
            frame = cls._fused(scans, placed)
            found = {k: frame._search(scans[k]) for k in range(len(scans)) if k not in placed}
            fits = {k: frame._fit(scans[k], matrix) for k, (matrix, _) in found.items()}
            chosen = [k for k, fit in fits.items() if fit.overlap >= JOINED]
            if not chosen:
                sure = [k for k, fit in fits.items() if fit.overlap >= LEAST_OVERLAP and fit.crisp >= CRISP[0]]
                chosen = sorted(sure, key=lambda k: -fits[k].crisp)[:1]
            if not chosen:  # where walls are as thin as points are apart, none covers another that well: as a half of it the other half
                usual = cls._held_out(scans, placed) / frame.scale
                alike = [k for k, fit in fits.items() if fit.residual <= MISFIT * usual and fit.overlap >= SHARE]
                chosen = [
                    k
                    for k in sorted(alike, key=lambda k: fits[k].residual)
                    if frame._shown(scans[k], found[k][0]) >= SHARE
                ][:1]
            if not chosen:
                break
            placed.update({k: found[k] for k in chosen})
        return placed

    @classmethod
    def _agreed(cls, scans: list[Tensor], placed: dict[int, tuple[Tensor, float]]) -> dict[int, tuple[Tensor, float]]:
        """The poses, each scan turned by a likeness of the others' surface where that leaves less far off, until none moves.

        Two instances differ by their warp as much as two teeth of a gear differ by its key: which tooth is right shows where
        several others agree, and their warps cancel.
        """
        if len(placed) < 3:
            return placed
        frame = cls._fused(scans, placed)
        likenesses = frame._to_mm(frame.search.likenesses, frame.centre)
        for _ in range(ROUNDS):
            gone = False
            for k, (matrix, margin) in sorted(placed.items()):
                others = cls._fused(scans, {j: p for j, p in placed.items() if j != k})
                turned, better = others._turned(scans[k], matrix, likenesses)
                if better < BETTER:
                    placed, gone = placed | {k: (turned, margin)}, True
            if not gone:
                break
        return placed

    def _turned(self, scan: Tensor, matrix: Tensor, likenesses: Tensor) -> tuple[Tensor, float]:
        """Of a pose and its likenesses (mm) the one that leaves least of a scan far off, and how much less than the pose as it is."""
        sample = spread(((compose(matrix, scan) - self.centre) / self.scale).float(), 4000)
        steps = torch.cat([torch.eye(4, dtype=torch.float64, device=scan.device)[None], likenesses])
        steps[:, :3, 3] += steps[:, :3, :3] @ self.centre - self.centre
        steps[:, :3, 3] /= self.scale
        steps = settle(self.tables, steps, spread(sample, 1000), 3)
        far = (self.tables.distance(moved(steps, sample)).clamp_max(CAP) - FAR).clamp_min(0).double().mean(1)
        far[1:][~apart(steps[1:], steps[:1])[:, 0]] = math.inf  # the same pose, settled a little differently
        best = int(far.argmin())
        return self._to_mm(steps[best], self.centre) @ matrix, float(far[best] / far[0].clamp_min(1e-9))

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
        return {
            "points": self.tables.points,
            "normals": self.tables.normals,
            "index": self.tables.index,
            "numbers": numbers,
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: str | torch.device = "cpu") -> Frame:
        """The frame that `state` described."""
        tables = Tables(*(state[k].to(device) for k in ("points", "normals", "index")))
        *_, scale, reference = state["numbers"].tolist()
        return cls(tables, state["numbers"][:3].to(device), scale, reference)

    def _search(self, scan: Tensor) -> tuple[Tensor, float]:
        """Matrix [4, 4] float64 (mm) of the best pose found, and its margin."""
        middle = scan.median(0).values
        kept = (((scan - middle) / self.scale)[(scan - middle).norm(dim=1) < 1.2 * self.scale]).float()
        if not len(kept):  # in another unit, a thousand times as large
            return self._to_mm(torch.eye(4, dtype=torch.float64, device=scan.device), middle), math.inf
        pose, margin = self.search(kept)
        matrix = self._to_mm(pose, middle)
        fit = self._fit(scan, matrix)
        if self.reference and (fit.residual > DOUBT * self.reference or fit.overlap < JOINED):
            pose, margin = self.search(kept, wide=True)
            if self._fit(scan, wide := self._to_mm(pose, middle)).rms < fit.rms:
                return wide, margin
        return matrix, margin

    def _to_mm(self, pose: Tensor, middle: Tensor) -> Tensor:
        """Poses [..., 4, 4] of points in units of the part about `middle` (mm), as poses of points in mm."""
        matrix = pose.clone()
        matrix[..., :3, 3] = self.scale * pose[..., :3, 3] + self.centre - pose[..., :3, :3] @ middle
        return matrix

    def _polished(self, scan: Tensor, matrix: Tensor) -> Tensor:
        """A pose (mm) after a robust fit to the surface."""
        sample = spread(((compose(matrix, scan) - self.centre) / self.scale).float(), 3000)
        step = settle(
            self.tables, torch.eye(4, dtype=torch.float64, device=scan.device)[None], sample, 4, exact=Order()
        )[0]
        return self._to_mm(step, self.centre) @ matrix

    def _distance(self, scan: Tensor, matrix: Tensor) -> Tensor:
        """Distance to the surface of at most 4000 points of a scan (mm) under a pose, in shares of the diagonal: [N] float64."""
        q = (compose(matrix, spread(scan, 4000)) - self.centre) / self.scale
        return self.tables.distance(q.T[None].float())[0].double()

    def _fit(self, scan: Tensor, matrix: Tensor) -> _Fit:
        """How well a scan (mm) lies on the surface under a pose."""
        distance = self._distance(scan, matrix)

        def share(within: float) -> float:
            return float((distance < within).double().mean())

        rms = distance.clamp_max(CAP).square().mean().sqrt()
        crisp = share(CRISP[1]) / max(share(CRISP[2]), 1e-9)
        return _Fit(float(torch.quantile(distance, SHARE)), float(rms), share(NEAR), crisp)

    def _shown(self, scan: Tensor, matrix: Tensor) -> float:
        """Share of the surface that a scan (mm) under a pose shows."""
        surface = self.tables.points.double() * self.scale + self.centre
        return (
            Frame.of(compose(matrix, scan))._fit(surface, torch.eye(4, dtype=torch.float64, device=scan.device)).overlap
        )

    def _judge(self, scan: Tensor, matrix: Tensor, margin: float) -> Pose:
        residual, rms, overlap, _ = self._fit(scan, matrix)
        said = f"{SHARE:.0%} of the scan lie within {residual * self.scale:.3g} mm of the part"
        ok = True
        if self.reference:
            said += (
                f" (good scans: {self.reference * self.scale:.3g} mm), {overlap:.0%} within {NEAR * self.scale:.3g} mm"
            )
            ok = residual <= MISFIT * self.reference and overlap >= (OVERLAP if margin >= UNSURE else SURE_OVERLAP)
        sample = spread(scan, 4000)
        extent = 2 * float(torch.quantile((sample - sample.median(0).values).norm(dim=1), 0.95))
        if extent < LEAST_EXTENT * self.scale:
            ok, said = False, f"{said}, but it measures {extent:.3g} mm, the part {self.scale:.3g} mm; is its unit mm?"
        if ok and margin < UNSURE:
            said += "; another pose fits almost as well"
        return Pose(
            matrix.cpu().numpy(), rms * self.scale, overlap, margin, ok, said if ok else f"not this part: {said}"
        )


def _check(points: np.ndarray | Tensor, device: str | torch.device) -> Tensor:
    scan = torch.as_tensor(points, device=device).double()
    if scan.dim() != 2 or scan.shape[1] != 3:
        raise InputError(f"scan: array of shape {tuple(scan.shape)}, [points, 3] expected")
    scan = scan[torch.isfinite(scan).all(1)]
    if len(scan) < 100:
        raise InputError(f"scan: {len(scan)} finite points, at least 100 expected")
    return scan


def _unstray(cloud: Tensor) -> Tensor:
    """The cloud without points far outside of where 98 % of it lie."""
    sample = spread(cloud, 100_000)
    low, high = torch.quantile(sample, 0.01, 0), torch.quantile(sample, 0.99, 0)
    margin = 0.1 * (high - low).norm()
    return cloud[((cloud > low - margin) & (cloud < high + margin)).all(1)]
