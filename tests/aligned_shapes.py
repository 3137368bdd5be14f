"""Self-made scans of a stepped block, for the tests of the aligned recipe."""

from __future__ import annotations

import numpy as np

SIZE = np.array([60.0, 40.0, 15.0])


def stepped_block(
    seed: int, count: int = 5000, noise: float = 0.05, dent: float = 0.0, hole: float = 0.0
) -> np.ndarray:
    """``[~count, 3]`` mm: a 60 x 40 x 15 block, 30 high for x < 20, with a dent or a hole around (42, 20) on its low top."""
    rng = np.random.default_rng(seed)
    tall = np.array([20.0, 40.0, 30.0])
    low = _box(rng, count, SIZE)
    high = _box(rng, int(0.6 * count), tall)
    low = low[
        ~((low[:, 0] < 20) & (low[:, 2] > 0) & (low[:, 1] > 0) & (low[:, 1] < 40) & (low[:, 0] > 0)) | (low[:, 2] == 0)
    ]
    low = low[~((low[:, 0] < 20) & (low[:, 2] > 0))]
    high = high[(high[:, 2] > 0) & ~((high[:, 0] == 20) & (high[:, 2] < 15))]
    p = np.concatenate([low, high])
    far = np.linalg.norm(p[:, :2] - [42, 20], axis=1)
    top = p[:, 2] == 15
    p[top, 2] -= dent * np.cos(np.pi / 2 * np.minimum(far[top] / 8, 1)) ** 2
    p = p[~(top & (far < hole))]
    return p + noise * rng.normal(size=p.shape)


def _box(rng: np.random.Generator, count: int, size: np.ndarray) -> np.ndarray:
    area = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    axis = rng.choice(3, count, p=area / area.sum())
    p = rng.random((count, 3)) * size
    p[np.arange(count), axis] = rng.integers(0, 2, count) * size[axis]
    return p
