"""Search for the rigid pose of a scan on a surface: rotation grid, robust refinement, turns about the principal axes.

Lengths are shares of the diagonal of the part. Poses are [H, 4, 4] float64, from the scan's frame to the surface's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from r3dad.align.cloud import rotation_grid, rotation_vector_matrix, sphere, spread, thin
from r3dad.align.fit import rigid_step, tukey
from r3dad.align.tables import COARSE, Tables
from r3dad.nearest import Order

FINE = 0.012  # voxel of the scan when poses are refined
CAP = 0.02  # a distance counts at most this much when poses are ranked
ROTATIONS = 1500
VIEWS = 42
LIKENESSES = 256
ALIKE = 0.004  # poses are of one kind if one moves the other's surface onto itself within this mean distance
STAGES = (
    (24, 150, (0.10, 0.08, 0.06)),
    (10, 400, (0.05, 0.04, 0.03)),
    (6, 800, (0.03, 0.02, 0.015)),
)  # keep, points, reaches


def moved(poses: Tensor, points: Tensor) -> Tensor:
    """Points [N, 3] under each pose: [H, 3, N] float32."""
    return (poses[:, :3, :3].reshape(-1, 3).float() @ points.T).view(len(poses), 3, len(points)) + poses[
        :, :3, 3:
    ].float()


def cost(tables: Tables, poses: Tensor, points: Tensor, exact: bool | Order = True) -> Tensor:
    """Mean capped distance of the points [N, 3] to the surface: [H] float64."""
    return tables.distance(moved(poses, points), exact).clamp_max(CAP).double().mean(1)


def settle(tables: Tables, poses: Tensor, sample: Tensor, steps: int, exact: bool | Order = False) -> Tensor:
    """Robust fit of each pose to the sample [N, 3]; the reach shrinks to the noise of each pose."""
    for _ in range(steps):
        residual, across, normal = tables.pairs(q := moved(poses, sample), exact)
        near = across < 2 * tables.spacing
        size = torch.where(near, residual.abs(), torch.nan).nanmedian(1, keepdim=True).values.nan_to_num(CAP)
        weight = tukey(residual, (4.4 * size).clamp(1e-3, CAP)) * near
        poses = rigid_step(q, normal, weight, residual) @ poses
    return poses


class Search:
    """The part of the search that depends on the surface alone."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        device = tables.points.device
        self.rotations = rotation_grid(ROTATIONS).to(device)
        middle = tables.coarse.mean(0)
        # Where the centroid of a scan may lie: that of the whole part, or of what one sees of it from one side.
        self.targets = torch.cat([middle[None], partial_centres(tables.coarse)])
        low, high = tables.coarse.amin(0), tables.coarse.amax(0)
        steps = [torch.arange(float(a) + 0.04, float(b), 0.08, device=device) for a, b in zip(low, high)]
        self.lattice = torch.cartesian_prod(*steps)
        _, vectors = torch.linalg.eigh(torch.cov((tables.coarse - middle).T.double()))
        middle = middle.double()
        # Thin walls hold a pose a little off, one side of the scan on the wrong side of the wall: such poses are shaken.
        self.nudges = torch.cat(
            [turns_about(middle, vectors.T, torch.tensor([-3.0, 3.0])), shifts_along(vectors.T, 0.02)]
        )
        self.likenesses = self.find_likenesses(middle, vectors.T)

    def find_likenesses(self, middle: Tensor, axes: Tensor) -> Tensor:
        """Motions [L, 4, 4] that put the surface nearly onto itself: by a tooth, a spoke, a half turn. A scan may have slipped by one.

        Turns about the principal axes, alone and after a half turn about another one, each fitted to the surface.
        """
        turns = turns_about(middle, axes, torch.arange(0.0, 359, 1.5)).unflatten(0, (3, -1))
        halves = turns_about(middle, axes.roll(1, 0), torch.tensor([180.0]))
        motions = torch.cat([turns.flatten(0, 1), (turns @ halves[:, None]).flatten(0, 1)])
        value = cost(self.tables, motions, spread(self.tables.coarse, 400), exact=False)
        motions = distinct(motions[value < 0.012], value[value < 0.012], 2 * LIKENESSES, by=0.01)
        points = spread(self.tables.points, 600)
        motions = settle(self.tables, motions, points, 5)
        value = cost(self.tables, motions, points, exact=False)
        return distinct(motions[value < 0.008], value[value < 0.008], LIKENESSES, by=0.005)

    def __call__(self, points: Tensor, wide: bool = False) -> tuple[Tensor, float]:
        """Best pose [4, 4] of a scan [N, 3] float32 in units of the part, and by how much its cost is below that of another kind.

        wide: the scan's centroid may lie anywhere in the part, not only where a whole, halved or one-sided scan has it.
        """
        tables = self.tables
        fine, _ = thin(points, FINE)
        targets, keep = (self.lattice, 160) if wide else (self.targets, 64)
        poses = self.hypotheses(*thin(points, COARSE), targets, keep)
        for keep, count, reaches in STAGES:
            sample = spread(fine, count)
            for reach in reaches:
                residual, across, normal = tables.pairs(q := moved(poses, sample))
                weight = tukey(residual, reach) * (across < max(reach, 2 * tables.spacing))
                poses = rigid_step(q, normal, weight, residual) @ poses
            poses = distinct(poses, cost(tables, poses, sample, exact=False), keep)
        sample, dense = spread(fine, 1000), spread(fine, 4000)
        poses = settle(tables, poses, sample, 3)
        best = poses[cost(tables, poses, sample, exact=False).argmin()]
        # The few points that tell two teeth apart are lost in a trimmed mean; the capped one keeps them. All likenesses take part.
        alike = self.likenesses @ best
        value = cost(tables, alike, spread(fine, max(400, 300_000 // max(len(alike), 1))), exact=False)
        alike = alike[value.argsort(stable=True)[:8]]
        poses = torch.cat([poses, settle(tables, torch.cat([alike, self.nudges @ best]), sample, 4)])
        poses = distinct(poses, cost(tables, poses, dense, exact=False), 8, by=0.005)
        order = Order()
        leading = settle(tables, poses[:3], dense, 4, exact=order)
        final = cost(tables, leading, dense, exact=order)
        best = leading[final.argmin()]
        poses, value = torch.cat([leading, poses[3:]]), torch.cat([final, cost(tables, poses[3:], dense)])
        other = cost(tables, poses @ torch.linalg.inv(best), spread(tables.coarse, 400)) > ALIKE
        return best, float(value[other].min() / final.min()) - 1 if bool(other.any()) else math.inf

    def hypotheses(self, coarse: Tensor, weight: Tensor, places: Tensor, keep: int) -> Tensor:
        """The best of all rotations, the centroid at each of several places [V, 3], on the distance field."""
        solid = weight >= 0.25 * weight.median()  # voxels with hardly a point hold strays
        coarse, weight = coarse[solid], weight[solid].clamp_max(float(weight.median()))
        centre = (coarse * weight[:, None]).sum(0) / weight.sum()
        coarse = coarse - centre
        coarse = coarse[coarse.norm(dim=1) < 0.75]
        targets = self.tables.field_cells(places, 1)

        def cells(rotations: Tensor, count: int) -> Tensor:
            probe = spread(coarse, count)
            return self.tables.field_cells(
                (rotations.reshape(-1, 3) @ probe.T).view(-1, 3, len(probe)).permute(2, 0, 1), 2
            )

        probe = cells(self.rotations.float(), 60)
        value = self.tables.field_sums(probe, targets).flatten()
        order = value.argsort(stable=True)[: 16 * keep]
        r, t = order // len(targets), order % len(targets)
        value = self.tables.field_sum(cells(self.rotations[r].float(), 200) + targets[t])
        order = value.argsort(stable=True)[:keep]
        poses = torch.eye(4, dtype=torch.float64, device=coarse.device).repeat(len(order), 1, 1)
        poses[:, :3, :3] = self.rotations[r[order]]
        poses[:, :3, 3] = places[t[order]].double() - poses[:, :3, :3] @ centre.double()
        return poses


def turns_about(centre: Tensor, axes: Tensor, degrees: Tensor) -> Tensor:
    """Turns by each angle [T] about each of three axes [3, 3] through a point: [3 T, 4, 4] float64."""
    angle = torch.deg2rad(degrees.to(axes))
    turns = torch.eye(4, dtype=torch.float64, device=centre.device).repeat(3 * len(angle), 1, 1)
    turns[:, :3, :3] = rotation_vector_matrix((axes[:, None] * angle[None, :, None]).flatten(0, 1))
    turns[:, :3, 3] = centre - turns[:, :3, :3] @ centre
    return turns


def shifts_along(axes: Tensor, length: float) -> Tensor:
    """Shifts to both sides along each of three axes [3, 3]: [6, 4, 4] float64."""
    shifts = torch.eye(4, dtype=torch.float64, device=axes.device).repeat(6, 1, 1)
    shifts[:, :3, 3] = length * torch.cat([axes, -axes])
    return shifts


def apart(poses: Tensor, others: Tensor, by: float = 0.02) -> Tensor:
    """Whether poses [A, 4, 4] put some place of the part elsewhere than others [B, 4, 4] do: [A, B] bool."""
    corners = torch.eye(3, dtype=torch.float64, device=poses.device) / 2
    a, b = (p[:, :3, :3] @ corners + p[:, :3, 3:] for p in (poses, others))
    return (a[:, None] - b[None]).square().sum(2).amax(-1) >= by**2


def distinct(poses: Tensor, value: Tensor, keep: int, by: float = 0.02) -> Tensor:
    """The best `keep` poses, best first, no two of which put the part nearly in the same place."""
    order = value.argsort(stable=True)
    near = ~apart(poses[order], poses[order], by).cpu().numpy()
    chosen: list[int] = []
    for i in range(len(near)):
        if len(chosen) < keep and not near[i, chosen].any():
            chosen.append(i)
    return poses[order[chosen]]


def seen(points: Tensor, view: Tensor, cell: float) -> Tensor:
    """Which points [N, 3] a camera far off in direction `view` [3] sees: those not behind the front-most of their pixel. [N] bool."""
    depth = points @ view
    a = torch.linalg.cross(view, torch.eye(3, dtype=points.dtype, device=points.device)[view.abs().argmin()])
    a = a / a.norm()
    pixel = (torch.stack([points @ a, points @ torch.linalg.cross(view, a)], 1) / cell).floor().long()
    _, where = torch.unique(pixel[:, 0] * (1 << 20) + pixel[:, 1], return_inverse=True)
    front = torch.full((int(where.max()) + 1,), -math.inf, dtype=points.dtype, device=points.device)
    return depth > front.scatter_reduce_(0, where, depth, "amax")[where] - 1.5 * cell


def visible_share(scan: Tensor) -> float:
    """Largest share of a scan [N, 3] that one camera sees: near 1 for a one-sided scan, about a half for a whole one."""
    size = 2 * (scan - scan.median(0).values).norm(dim=1).median()
    coarse, _ = thin((scan / size).float(), COARSE)
    return max(float(seen(coarse, view, 0.04).float().mean()) for view in sphere(VIEWS).to(scan.device))


def partial_centres(points: Tensor) -> Tensor:
    """Centroids [V, 3] of what is left of a cloud [N, 3] if it is seen from one side, or cut in half, for many directions."""
    chosen: list[Tensor] = []
    for view in sphere(VIEWS).to(points.device):
        depth = points @ view
        for part in (seen(points, view, 0.04), depth > depth.median()):
            centre = points[part].mean(0)
            if all(float((centre - c).norm()) > 0.03 for c in chosen):
                chosen.append(centre)
    return torch.stack(chosen)
