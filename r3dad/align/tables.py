"""Tables that answer "how far is the surface from here" by look-up, for many poses at once.

Coordinates come first (points as [H, 3, N]): component by component a look-up runs several times faster than row by row.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from r3dad.align.cloud import thin
from r3dad.nearest import Nearest, Order

COARSE = 0.03  # voxel of the coarse copy of the surface
INDEX_CELLS = 120  # voxels of the index along the longest side
FIELD_SIDE = 128  # cells of the distance field per axis, over -1.1 to 1.1
FIELD_CELL = 2.2 / FIELD_SIDE
FIELD_CAP = 0.08


class Tables:
    """A surface in units of its diagonal, with its middle at the origin, and look-up tables about it."""

    def __init__(self, points: Tensor, normals: Tensor, index: Tensor | None = None) -> None:
        """points, normals: [M, 3] float32; index: what an earlier object of the same surface has as `index`, to save the time."""
        self.points, self.normals = points, normals
        self.nearest = Nearest(points)
        self.spacing = self.nearest.spacing
        self.coarse = thin(points, COARSE)[0]
        self._columns = [c.contiguous() for c in torch.cat([points, normals], 1).T]
        margin = FIELD_CAP + 0.02
        self._low = (points.amin(0) - margin).tolist()
        self._cell = float((points.amax(0) - points.amin(0)).max() + 2 * margin) / INDEX_CELLS
        self._sides = [int((h + margin - low) / self._cell) + 1 for h, low in zip(points.amax(0).tolist(), self._low)]
        if index is not None:
            self.index = index

    @cached_property
    def index(self) -> Tensor:
        """Of the point nearest to each voxel of a box around the surface: [X, Y, Z] int32.

        Nearest to the voxel's centre near the surface; far from it voxels share the answer of the middle of a block of 3 x 3 x 3.
        """

        def centres(stride: int) -> Tensor:
            counts = [-(-s // stride) for s in self._sides]
            axes = [
                low + self._cell * (stride * torch.arange(n, device=self.points.device) + stride / 2)
                for n, low in zip(counts, self._low)
            ]
            return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

        distance, index = self.nearest(centres(3))
        for dim in range(3):
            distance, index = (x.repeat_interleave(3, dim).narrow(dim, 0, self._sides[dim]) for x in (distance, index))
        index, close = index.int(), distance < 4 * self._cell
        index[close] = self.nearest(centres(1)[close])[1].int()
        return index

    @cached_property
    def field(self) -> Tensor:
        """Distance at the centres of a cube of cells, in 255ths of FIELD_CAP, flat [FIELD_SIDE^3] uint8."""
        axis = (torch.arange(FIELD_SIDE, device=self.points.device) - FIELD_SIDE // 2) * FIELD_CELL
        field = torch.full((FIELD_SIDE,) * 3, 255, dtype=torch.uint8, device=axis.device)
        for k, x in enumerate(axis):
            if not self._low[0] < float(x) < self._low[0] + self._cell * self.index.shape[0]:
                continue
            y, z = torch.meshgrid(axis, axis, indexing="ij")
            q = torch.stack([x.expand_as(y), y, z])[None].flatten(2)
            residual, across, _ = self.pairs(q)
            field[k] = (
                (torch.hypot(residual, across) * (255 / FIELD_CAP)).round().clamp_max(255).to(torch.uint8).view_as(y)
            )
        return field.flatten()

    def field_cells(self, q: Tensor, dim: int) -> Tensor:
        """Cell of the field as an int32, additive under shifts: cells(q + t) is about cells(q) + cells(t); `dim` holds x, y, z."""
        cell = (q / FIELD_CELL).round().int()
        x, y, z = cell.unbind(dim)
        return (x * FIELD_SIDE + y) * FIELD_SIDE + z

    @cached_property
    def _wide_field(self) -> tuple[Tensor, int]:
        """The field between layers of cells at the cap, and where its middle lies: nothing within 1.6 of it needs a test."""
        margin = torch.full((FIELD_SIDE**3 // 4,), 255, dtype=torch.uint8, device=self.field.device)
        origin = (FIELD_SIDE // 2) * (FIELD_SIDE * FIELD_SIDE + FIELD_SIDE + 1)
        return torch.cat([margin, self.field, margin]), len(margin) + origin

    def field_sums(self, cells: Tensor, shifts: Tensor) -> Tensor:
        """Sum over the first axis of the field at cells [P, H] and each of the shifts [T]: [H, T] int32, in 255ths of FIELD_CAP.

        Cells and shifts are of points at most 0.75, places at most 0.6 from the middle.
        """
        field, middle = self._wide_field
        least = int(cells.min())
        count = cells.shape[1]
        cells = (cells - least).flatten()
        sums = [
            field[middle + least + shift :].index_select(0, cells).view(-1, count).sum(0, dtype=torch.int32)
            for shift in shifts.tolist()
        ]
        return torch.stack(sums, 1)

    def field_sum(self, cells: Tensor) -> Tensor:
        """As `field_sums`, of cells [P, H] as they are: [H]."""
        return self.field_sums(cells, torch.zeros(1, dtype=torch.int32))[:, 0]

    def pairs(self, q: Tensor, exact: bool | Order = False) -> tuple[Tensor, Tensor, Tensor]:
        """The surface near points q [H, 3, N]: residual along the normal [H, N], distance across it [H, N], normal [H, 3, N].

        Not exact: against the point nearest to the centre of the voxel that a point falls into. An `Order`: exact, for points that were
        searched for before.
        """
        if exact:
            q_last = q.transpose(1, 2)
            j = self.nearest(exact.of(q_last) if isinstance(exact, Order) else q_last)[1].flatten()
        else:
            cell = [
                ((q[:, k] - self._low[k]) * (1 / self._cell)).clamp_(0, self.index.shape[k] - 1).int() for k in range(3)
            ]
            j = self.index.flatten().index_select(
                0, ((cell[0] * self.index.shape[1] + cell[1]) * self.index.shape[2] + cell[2]).flatten()
            )
        shape = (q.shape[0], q.shape[2])
        p, n = ([c.index_select(0, j).view(shape) for c in self._columns[k : k + 3]] for k in (0, 3))
        x, y, z = q[:, 0] - p[0], q[:, 1] - p[1], q[:, 2] - p[2]
        residual = x * n[0] + y * n[1] + z * n[2]
        across = (x * x + y * y + z * z - residual * residual).clamp_min_(0).sqrt_()
        return residual, across, torch.stack(n, 1)

    def distance(self, q: Tensor, exact: bool | Order = True) -> Tensor:
        """Distance of points [H, 3, N] to the surface; across the normal a spacing of its points is free."""
        residual, across, _ = self.pairs(q, exact)
        return torch.hypot(residual, (across - self.spacing).clamp_min_(0))
