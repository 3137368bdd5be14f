"""Planes through neighbourhoods: normals and curvatures of points."""

from __future__ import annotations

import numpy as np

TRIES = 24
"""Planes through three neighbours that are tried for a point's face."""
FLAT = 0.01
"""Points of a face are not taken to lie flatter than this share of how far apart they are."""
ROUND = 1e-9
"""A neighbourhood whose two least extents differ by less than this share of its greatest has no plane to speak of."""


def surface_normals(
    points: np.ndarray, j: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Unoriented normals ``[N, 3]`` and curvature ``[N]`` (root of the least over the other eigenvalues), in float64.

    ``points [M, 3]``, neighbours ``j [N, k]``; ``weights [N, k]``, the same for all if not given.
    """
    j = j.T
    w = np.full(j.shape, 1 / len(j)) if weights is None else np.array(weights.T, np.float64, order="C")
    if weights is not None:
        w /= np.maximum(w.sum(0), 1e-12)
    x = [column.take(j) for column in points.T.astype(np.float64)]
    x = [c - np.einsum("kn,kn->n", w, c) for c in x]
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    weighted = [w * c for c in x]
    value, vector = least_axis(*(np.einsum("kn,kn->n", weighted[a], x[b]) for a, b in pairs))
    trace = sum(np.einsum("kn,kn->n", weighted[a], x[a]) for a in range(3))
    return vector, np.sqrt(np.maximum(value, 0) / np.maximum(trace - value, 1e-18))


def face_normals(v: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Unoriented normals ``[N, 3]`` of the face that each point lies on, and a thickness that noise gives to a face, float64.

    ``v [N, k, 3]``: neighbours less the point, nearest first; ``weights [N, k]``. A plane through all of them mixes the faces beside an
    edge and the two sides of a thin wall. So planes through three neighbours are tried, the one beside which most lie (a Gaussian of their
    distance, and the point's own) is kept (RANSAC, Fischler & Bolles 1981, scored as by MSAC), and it is fitted to those three times.
    """
    count, k = weights.shape
    flat, all_of = v.reshape(-1, 3), np.arange(count * k).reshape(count, k)
    x, w = np.ascontiguousarray(v.transpose(2, 1, 0), np.float32), np.ascontiguousarray(weights.T, np.float32)
    w /= w.sum(0)

    def off(n: np.ndarray) -> np.ndarray:
        return n[0] * x[0] + n[1] * x[1] + n[2] * x[2]

    normal = surface_normals(flat, all_of, weights)[0].T.astype(np.float32)
    away = off(normal)
    height = (w * away).sum(0)
    noise = np.quantile(np.sqrt((w * (away - height) ** 2).sum(0)), 0.25)
    sigma = max(2 * float(noise), FLAT * float(np.median(np.linalg.norm(x, axis=0))))
    scale = np.float32(1 / sigma)

    def support(n: np.ndarray, height: np.ndarray) -> np.ndarray:
        return (w * np.exp(-(((off(n) - height) * scale) ** 2))).sum(0) * np.exp(-((height * scale) ** 2))

    best, rng = support(normal, height), np.random.default_rng(0)
    for _ in range(TRIES):
        i, a, b = rng.permutation(k)[:3]
        n = _cross(tuple(x[:, a] - x[:, i]), tuple(x[:, b] - x[:, i]))
        n /= np.maximum(np.sqrt((n * n).sum(0)), np.float32(1e-12))
        at = (n * x[:, i]).sum(0)
        score = support(n, at)
        better = score > best
        best, height, normal = np.where(better, score, best), np.where(better, at, height), np.where(better, n, normal)
    for _ in range(3):
        close = w * np.exp(-(((off(normal) - height) * scale) ** 2))
        n = surface_normals(flat, all_of, close.T)[0].T.astype(np.float32)
        normal = n * np.where((n * normal).sum(0) < 0, np.float32(-1), np.float32(1))
        height = (close * off(normal)).sum(0) / close.sum(0)
    return normal.T.astype(np.float64), sigma


def least_axis(
    xx: np.ndarray, yy: np.ndarray, zz: np.ndarray, xy: np.ndarray, xz: np.ndarray, yz: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least eigenvalue ``[N]`` of symmetric matrices given by their entries ``[N]``, and its unit vector ``[N, 3]``, sign arbitrary.

    In closed form (Smith 1961); where the least two eigenvalues nearly agree, by LAPACK.
    """
    middle = (xx + yy + zz) / 3
    a, b, c = xx - middle, yy - middle, zz - middle
    size = np.sqrt((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
        turn = np.arccos(np.clip(determinant / (2 * size**3), -1, 1)) / 3
        value = middle + 2 * size * np.cos(turn + 2 * np.pi / 3)
        # Two rows of (matrix - value) span what is at right angles to the vector: the pair that does so best.
        rows = [(xx - value, xy, xz), (xy, yy - value, yz), (xz, yz, zz - value)]
        across = np.stack([_cross(rows[p], rows[q]) for p, q in ((0, 1), (0, 2), (1, 2))])
        length = np.einsum("pcn,pcn->pn", across, across)
        best = length.argmax(0)
        at = np.arange(len(best))
        vector = across[best, :, at] / np.sqrt(length[best, at])[:, None]
        unsure = np.flatnonzero(~(np.sqrt(length[best, at]) > ROUND * (3 * middle) ** 2))
    if len(unsure):
        entries = np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1)[unsure].reshape(-1, 3, 3)
        values, vectors = np.linalg.eigh(entries)
        value[unsure], vector[unsure] = values[:, 0], vectors[:, :, 0]
    return value, vector


def _cross(p: tuple[np.ndarray, ...], q: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.stack([p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]])
