"""Normals of neighbourhoods: closed form against LAPACK, faces beside edges and on both sides of thin walls."""

from __future__ import annotations

import numpy as np
import pytest

from r3dad.neighbours import Neighbours
from r3dad.planes import face_normals, least_axis, surface_normals

K = 40


def around(points: np.ndarray, k: int = K) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours less the point, their weights, and their indices."""
    distance, j = Neighbours(points)(points, k)
    return points[j] - points[:, None], np.exp(-((distance / (0.6 * distance[:, -1:])) ** 2)), j


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between lines along a and b."""
    return np.degrees(np.arccos(np.clip(np.abs((a * b).sum(1)), 0, 1)))


@pytest.mark.parametrize("flat", [1.0, 0.1, 0.0])
def test_least_axis_is_lapacks(flat):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(500, 3, 3)) * [1, 1, flat]
    m = a.transpose(0, 2, 1) @ a
    value, vector = least_axis(m[:, 0, 0], m[:, 1, 1], m[:, 2, 2], m[:, 0, 1], m[:, 0, 2], m[:, 1, 2])
    values, vectors = np.linalg.eigh(m)
    assert np.allclose(value, values[:, 0], atol=1e-9 * values[:, 2].max())
    apart = values[:, 1] - values[:, 0] > 1e-3 * values[:, 2]
    assert np.allclose(np.abs((vector * vectors[:, :, 0]).sum(1))[apart], 1, atol=1e-6)


def test_weighted_normals_are_those_of_the_weighted_covariance():
    rng = np.random.default_rng(1)
    points, j = rng.normal(size=(60, 3)) * [1, 1, 0.3], rng.integers(0, 60, (25, 12))
    weights = rng.random((25, 12))
    kept = weights.copy()
    normal, curvature = surface_normals(points, j, weights)
    assert np.array_equal(weights, kept)  # not written to
    for i in range(25):
        x, w = points[j[i]], weights[i] / weights[i].sum()
        x = x - w @ x
        values, vectors = np.linalg.eigh((w[:, None] * x).T @ x)
        assert np.isclose(abs(normal[i] @ vectors[:, 0]), 1)
        assert np.isclose(curvature[i], np.sqrt(values[0] / (values[1] + values[2])))


def test_faces_beside_an_edge_are_not_mixed():
    rng = np.random.default_rng(2)
    flat = rng.random((8000, 2)) * [40, 40]
    roof = np.where(rng.random(8000) < 0.5, 0, 1)
    points = np.where(roof[:, None] == 0, np.c_[flat, 0 * roof], np.c_[flat[:, 0], 0 * roof, -flat[:, 1]])
    points = points + rng.normal(0, 0.05, points.shape)
    inner = (points[:, 0] > 3) & (points[:, 0] < 37) & (np.abs(points[:, 1:]).max(1) < 37)
    near = inner & (np.abs(points[:, 1:]).max(1) < 1.5) & (np.abs(points[:, 1:]).max(1) > 0.4)  # points are 0.6 apart
    assert near.sum() > 100
    truth = np.where(roof[:, None] == 0, [[0.0, 0, 1]], [[0.0, 1, 0]])
    v, w, j = around(points)
    found, sigma = face_normals(v, w)
    assert 0.05 < sigma < 0.3
    assert (angle(found, truth)[near] < 15).mean() > 0.9
    assert (angle(surface_normals(points, j, w)[0], truth)[near] < 15).mean() < 0.6
    assert (angle(found, truth)[inner] < 15).mean() > 0.97


@pytest.mark.parametrize("thick, share, plain", [(0.8, 0.85, 0.65), (1.2, 0.97, 0.85), (2.0, 0.97, 1.0)])
def test_sides_of_a_thin_wall_are_not_mixed(thick, share, plain):
    """A plane through the points of both sides may stand at any angle; points are 0.5 apart, neighbours reach 1.2 far."""
    rng = np.random.default_rng(3)
    points = np.c_[rng.random((8000, 2)) * [30, 30], thick * rng.integers(0, 2, 8000)]
    points = points + rng.normal(0, 0.05, points.shape)
    inner = (np.abs(points[:, :2] - 15) < 12).all(1)
    v, w, j = around(points)
    up = np.array([[0.0, 0, 1]])
    assert (angle(face_normals(v, w)[0], up)[inner] < 15).mean() > share
    assert (angle(surface_normals(points, j, w)[0], up)[inner] < 15).mean() <= plain


def test_points_without_noise_and_the_same_twice():
    points = np.c_[np.random.default_rng(4).random((500, 2)), np.zeros(500)]
    v, w, _ = around(points)
    found, sigma = face_normals(v, w)
    assert np.allclose(np.abs(found[:, 2]), 1, atol=1e-5) and sigma > 0
    again, _ = face_normals(v, w)
    assert np.array_equal(found, again)
