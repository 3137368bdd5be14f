"""Robust fits of a cloud to a surface: batched Gauss-Newton on point-to-plane residuals with Tukey weights."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad.align.cloud import rotation_vector_matrix
from r3dad.nearest import Nearest, Order

SIGMAS = 3.0  # a residual beyond so many standard deviations has no weight
SIGMA_FLOOR = 2e-4  # of the surface's diagonal: below it, residuals are taken for noise


def tukey(residual: Tensor, cut: Tensor | float) -> Tensor:
    """Weights of Tukey's biweight: (1 - (r/c)^2)^2 for |r| < c, else 0."""
    return (1 - (residual / cut).square()).clamp_min(0).square()


def solve(rows: Tensor, weight: Tensor, residual: Tensor, ridge: Tensor) -> Tensor:
    """Weighted ridge least squares, batched, in float64: x [B, P] minimising sum w (rows x + r)^2 + ridge x^2.

    rows: [B, N, P]; weight, residual: [B, N]; ridge: [P], times the number of points.
    """
    rows, weight = rows.double(), weight.double()
    weighted = (rows * weight[..., None]).transpose(1, 2)
    normal = weighted @ rows + torch.diag(ridge.double() * rows.shape[1])
    return -torch.linalg.solve(normal, (weighted @ residual.double()[..., None]))[..., 0]


def compose(matrix: Tensor, points: Tensor) -> Tensor:
    """Points [..., N, 3] moved by [..., 4, 4]."""
    return points @ matrix[..., :3, :3].transpose(-1, -2) + matrix[..., None, :3, 3]


def rigid_step(q: Tensor, normal: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    """One Gauss-Newton step of a rigid motion: [B, 4, 4] float64, to be applied on the left.

    q, normal: [B, 3, N] (coordinates first); weight, residual: [B, N], residual = (q - p).n. The ridge keeps a direction in which nothing
    holds the cloud (the plane of a sheet) where it is.
    """
    centre = q.mean(2, keepdim=True)
    rows = torch.cat([torch.linalg.cross(q - centre, normal, dim=1), normal, residual[:, None]], 1).double()
    products = (rows[:, :6] * weight.double()[:, None]) @ rows.transpose(1, 2)
    ridge = 1e-6 * q.shape[2] * torch.eye(6, dtype=torch.float64, device=q.device)
    x = -torch.linalg.solve(products[:, :, :6] + ridge, products[:, :, 6])
    step = torch.eye(4, dtype=torch.float64, device=q.device).repeat(len(q), 1, 1)
    step[:, :3, :3] = rotation_vector_matrix(x[:, :3])
    c = centre.double()
    step[:, :3, 3:] = c + x[:, 3:, None] - step[:, :3, :3] @ c
    return step


class _Target:
    """The surface in units of its diagonal, and the weights of residuals against it."""

    def __init__(self, points: Tensor, normals: Tensor, nearest: Nearest | None) -> None:
        low, high = points.amin(0), points.amax(0)
        self.centre, self.scale = (low + high).double() / 2, float((high - low).norm())
        self.points, self.normals = points, normals
        self.nearest = nearest or Nearest(points)
        self.reach = 4 * self.nearest.spacing
        self._order = Order()

    def residuals(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual along the normal and its weight [B, N], and the normal [B, N, 3], of q [B, N, 3] (mm)."""
        distance, j = self.nearest(self._order.of(q.to(self.points.dtype)))
        normal = self.normals[j].double()
        residual = ((q - self.points[j].double()) * normal).sum(-1)
        near = (distance.double().square() - residual.square()).clamp_min(0).sqrt() < self.reach
        size = torch.where(near, residual.abs(), torch.nan).nanmedian(-1, keepdim=True).values.nan_to_num(self.scale)
        cut = SIGMAS * (1.4826 * size).clamp_min(SIGMA_FLOOR * self.scale)
        return residual, tukey(residual, cut) * near, normal


def _prepare(points: Tensor, surface_points: Tensor, surface_normals: Tensor, nearest: Nearest | None, count: int):
    target = _Target(surface_points, surface_normals, nearest)
    batch = points if points.dim() == 3 else points[None]
    n = batch.shape[1]
    if n > count:  # golden-ratio steps: even whatever order the points are stored in
        turns = torch.arange(count, dtype=torch.float64, device=points.device) * 0.6180339887498949
        batch_sample = batch[:, ((turns - turns.floor()) * n).long()]
    else:
        batch_sample = batch
    return target, batch.double(), batch_sample.double()


def fit_rigid(
    points: Tensor,
    surface_points: Tensor,
    surface_normals: Tensor,
    *,
    nearest: Nearest | None = None,
    steps: int = 5,
    count: int = 3000,
) -> tuple[Tensor, Tensor]:
    """Moves a cloud that nearly lies on a surface onto it, as a rigid body.

    points: [N, 3] or [B, N, 3] (mm); surface_points, surface_normals: [M, 3], normals of length 1, sign arbitrary; nearest: search
    structure of surface_points, built here if absent; count: points of the cloud that take part.
    Returns the moved points and the matrix [4, 4] float64 (batched as the points).
    """
    target, whole, q = _prepare(points, surface_points, surface_normals, nearest, count)
    matrix = torch.eye(4, dtype=torch.float64, device=q.device).repeat(len(q), 1, 1)
    sample = q
    for _ in range(steps):
        residual, weight, normal = target.residuals(q)
        unit = target.scale
        step = rigid_step(((q - target.centre) / unit).transpose(1, 2), normal.transpose(1, 2), weight, residual / unit)
        rotation = step[:, :3, :3]
        step[:, :3, 3] = unit * step[:, :3, 3] + target.centre - (rotation @ target.centre[:, None])[..., 0]
        matrix = step @ matrix
        q = compose(matrix, sample)
    moved = compose(matrix, whole).to(points.dtype)
    return (moved, matrix) if points.dim() == 3 else (moved[0], matrix[0])


def _monomials(x: Tensor, degree: int) -> Tensor:
    """1, x, y, z and, of degree 2, the six products: [..., 4 or 10]."""
    columns = [torch.ones_like(x[..., :1]), x]
    if degree == 2:
        columns += [x * x, x * x.roll(-1, -1)]
    return torch.cat(columns, -1)


def _fit_polynomial(points, surface_points, surface_normals, degree, nearest, steps, count, ridge):
    target, whole, sample = _prepare(points, surface_points, surface_normals, nearest, count)
    basis = _monomials((sample - target.centre) / target.scale, degree)
    terms = basis.shape[-1]
    # The displacement is linear in its coefficients, so each step solves for all of it, drawn to zero by the ridge.
    penalty = torch.full((3, terms), ridge, dtype=torch.float64, device=sample.device)
    penalty[:, 0] *= 1e-3
    coefficients = torch.zeros(len(sample), 3, terms, dtype=torch.float64, device=sample.device)
    for _ in range(steps):
        q = sample + target.scale * basis @ coefficients.transpose(1, 2)
        residual, weight, normal = target.residuals(q)
        rows = (normal[..., :, None] * basis[..., None, :]).flatten(-2)
        start = residual / target.scale - (rows @ coefficients.flatten(1)[..., None])[..., 0]
        coefficients = solve(rows, weight, start, penalty.flatten()).unflatten(1, (3, terms))
    moved = whole + target.scale * _monomials((whole - target.centre) / target.scale, degree) @ coefficients.transpose(
        1, 2
    )
    moved = moved.to(points.dtype)
    return (moved, coefficients) if points.dim() == 3 else (moved[0], coefficients[0])


def fit_affine(
    points: Tensor,
    surface_points: Tensor,
    surface_normals: Tensor,
    *,
    nearest: Nearest | None = None,
    steps: int = 5,
    count: int = 3000,
    ridge: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """As `fit_rigid`, but the cloud may also be stretched and sheared a little (12 parameters).

    Returns the moved points and the coefficients [3, 4] float64 (batched as the points): the displacement in units of the surface's
    diagonal is coefficients @ (1, x, y, z), with x, y, z counted from the middle of its bounding box in the same unit.
    """
    return _fit_polynomial(points, surface_points, surface_normals, 1, nearest, steps, count, ridge)


def fit_quadratic(
    points: Tensor,
    surface_points: Tensor,
    surface_normals: Tensor,
    *,
    nearest: Nearest | None = None,
    steps: int = 5,
    count: int = 3000,
    ridge: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """As `fit_affine`, but the cloud may also bend (30 parameters): coefficients [3, 10] of 1, x, y, z, xx, yy, zz, xy, yz, zx."""
    return _fit_polynomial(points, surface_points, surface_normals, 2, nearest, steps, count, ridge)
