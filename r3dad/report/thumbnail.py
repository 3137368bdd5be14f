"""Pictures of a cloud without a plotting library: a z-buffer of discs, lit by the slope of the smoothed depth."""

from __future__ import annotations

import numpy as np
from PIL import Image

DEFAULT_VIEW = (0.58, -0.66, 0.48)  # from the scan towards the eye; z is up
_CORNERS = np.array([(x, y, z) for z in (0.48, -0.48) for x in (0.58, -0.58) for y in (-0.66, 0.66)])
_LIGHT = np.array([-0.45, 0.55, 0.70], np.float32)
_SUPERSAMPLING = 2


def spacing_of(points: np.ndarray) -> float:
    """Typical distance between neighbouring points [M, 3]: the surface is measured by the occupied cells of a grid,
    no neighbour search."""
    extent = float(np.ptp(points, axis=0).max())
    if extent == 0:
        return 0.0
    unit = (points - points.min(axis=0)) / extent
    for grid in (64, 32, 16, 8, 4):
        cell = np.minimum(unit * grid, grid - 1).astype(np.int64)
        occupied = np.unique((cell[:, 0] * grid + cell[:, 1]) * grid + cell[:, 2]).size
        if occupied * 6 <= len(points):  # else most cells hold one point and would count points, not surface
            break
    return float(extent / grid * np.sqrt(0.7 * occupied / len(points)))


def _frame(view: np.ndarray) -> np.ndarray:
    forward = view / np.linalg.norm(view)
    right = np.cross([0.0, 0.0, 1.0], forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def best_view(points: np.ndarray, hot: np.ndarray) -> tuple[float, float, float]:
    """The cube corner from which most `hot` points (bool [M]) of `points` [M, 3] are seen; the default corner where
    none is hot."""
    if not hot.any():
        return DEFAULT_VIEW
    centred = points - points.mean(axis=0)
    size = 4 * float(np.abs(centred).max()) / 96 or 1.0
    seen = []
    for corner in _CORNERS:
        x, y, z = (centred @ _frame(corner).T).T
        pixel = (np.round(x / size).astype(int) + 96) * 192 + np.round(y / size).astype(int) + 96
        depth = np.full(192 * 192, -np.inf)
        np.maximum.at(depth, pixel, z)
        seen.append(int((hot & (z >= depth[pixel] - 2 * size)).sum()))
    x, y, z = _CORNERS[int(np.argmax(seen))]
    return float(x), float(y), float(z)


def render(
    points: np.ndarray, colours: np.ndarray, view: tuple[float, float, float], width: int = 360, height: int = 270
) -> Image.Image:
    """Picture of `points` [M, 3] in `colours` uint8 [M, 3], seen from `view` in parallel projection, fitted into the
    frame.

    An RGBA image on a transparent ground.
    """
    from scipy.ndimage import uniform_filter

    w, h = width * _SUPERSAMPLING, height * _SUPERSAMPLING
    spacing = spacing_of(points)
    x, y, z = ((points - points.mean(axis=0)) @ _frame(np.asarray(view, float)).T).T
    scale = 0.9 * min(w / max(np.ptp(x), spacing), h / max(np.ptp(y), spacing)) if spacing > 0 else 1.0
    column = np.round((x - (x.max() + x.min()) / 2) * scale + w / 2).astype(np.int64)
    row = np.round(h / 2 - (y - (y.max() + y.min()) / 2) * scale).astype(np.int64)
    order = np.argsort(z, kind="stable")
    owner = _splat(row[order], column[order], h, w, radius=float(np.clip(1.45 * spacing * scale, 1.5, 20)))
    covered = owner >= 0
    depth = np.where(covered, z[order][owner] * scale, 0.0).astype(np.float32)

    def blurred(image: np.ndarray, size: int) -> np.ndarray:  # two boxes: nearly round
        return np.asarray(uniform_filter(uniform_filter(image, size), size))

    blur = int(np.clip(1.6 * spacing * scale, 3, 24))
    mask = covered.astype(np.float32)
    smooth = blurred(depth, blur) / np.maximum(blurred(mask, blur), 1e-6)
    slope = np.stack([-np.gradient(smooth, axis=1), np.gradient(smooth, axis=0), np.ones_like(smooth)], axis=-1)
    lit = np.clip((slope @ _LIGHT) / np.linalg.norm(slope, axis=-1), 0, 1)
    nearer = blurred(depth, 3 * blur) / np.maximum(blurred(mask, 3 * blur), 1e-6) - depth
    shade = (0.5 + 0.58 * lit) * np.exp(-np.clip(nearer / (0.25 * h), 0, 0.5))

    image = np.zeros((h, w, 4), np.uint8)
    image[covered, :3] = np.clip(colours[order][owner[covered]] * shade[covered, None], 0, 255)
    image[covered, 3] = 255
    return Image.fromarray(image).resize((width, height), Image.Resampling.BOX)


def _splat(row: np.ndarray, column: np.ndarray, h: int, w: int, radius: float) -> np.ndarray:
    """Index of the nearest point in every pixel, -1 for none: int [h, w]. Points come sorted from far to near and are
    discs of `radius`."""
    owner = np.full(h * w, -1, dtype=np.int64)
    rank = np.arange(len(row))
    reach = int(radius)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy > radius * radius:
                continue
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
            pixel, who = (y * w + x)[inside], rank[inside]
            closer = who > owner[pixel]
            owner[pixel[closer]] = who[closer]  # of equal pixels the last, hence nearest, stays
    return owner.reshape(h, w)
