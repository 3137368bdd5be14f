"""What several test files need: a small part as scans, and a recipe short enough for tests."""

from __future__ import annotations

import os

# On a machine with other work to do, two threads that wait for each other take many times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

#: The paper recipe at a size that trains in about a second.
TINY = {"iterations": 3, "batch": 2, "points": 128, "steps": 10, "neighbours": 16, "widths": (16, 32, 16), "latent": 32}


@pytest.fixture
def tiny() -> dict:
    return dict(TINY)


def block_scan(seed: int, count: int = 600, dent: float = 0.0) -> np.ndarray:
    """[count, 3] mm: the surface of a 40 x 25 x 10 block; ``dent`` mm deep on its top where given."""
    rng = np.random.default_rng(seed)
    size = np.array([40.0, 25.0, 10.0])
    area = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    axis = rng.choice(3, count, p=area / area.sum())
    points = rng.random((count, 3)) * size
    points[np.arange(count), axis] = rng.integers(0, 2, count) * size[axis]
    near = np.linalg.norm(points[:, :2] - [12, 12], axis=1) < 6
    points[near & (points[:, 2] == size[2]), 2] -= dent
    return points + rng.normal(0, 0.02, points.shape)


@pytest.fixture
def good_scans() -> list[np.ndarray]:
    return [block_scan(i) for i in range(3)]
