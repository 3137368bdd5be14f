"""Distance of every point's cluster to the nearest cluster of a reconstruction (the paper's score, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from r3dad import backends
from r3dad.ops import check
from r3dad.ops.knn import knn_definition

_CHUNK = 1 << 22  # distances held at a time


def clusters(points: Tensor, k: int) -> Tensor:
    """[B, N, 3k]: the coordinates of each point's ``k`` nearest neighbours in its own cloud, itself first, sorted by distance."""
    index = knn_definition(points, points, k)[1]
    return torch.stack([cloud[i].flatten(1) for cloud, i in zip(points, index)])


def cluster_distance_definition(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    """Plain PyTorch: rows of clusters, the squared distance to the nearest row by direct difference."""
    if points.shape[0] == 0 or points.shape[1] == 0:
        return points.new_empty(points.shape[:2])
    rows = max(1, _CHUNK // reconstruction.shape[1])
    result = []
    for query, reference in zip(clusters(points, k), clusters(reconstruction, k)):
        nearest = [
            torch.cdist(part, reference, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
            for part in query.split(rows)
        ]
        result.append(torch.cat(nearest))
    return torch.stack(result)


@torch.library.custom_op("r3dad::cluster_distance", mutates_args=())
def _cluster_distance(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    return backends.run("cluster_distance", points, reconstruction, k)


@_cluster_distance.register_fake
def _(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    return points.new_empty(points.shape[:2])


def cluster_distance(points: Tensor, reconstruction: Tensor, k: int = 64) -> Tensor:
    """For each point: its ``k`` nearest neighbours in its own cloud (itself first, by distance) as one row of 3k coordinates;
    the squared distance of that row to the nearest such row of the reconstruction.

    Args:
        points: [B, N, 3] float32 or float64.
        reconstruction: [B, R, 3], same dtype and device.
        k: 1 <= k <= min(N, R).

    Returns:
        [B, N] squared distances. Not differentiable.

    Raises:
        ValueError: a shape, dtype or ``k`` is not as above.
    """
    check.clouds("cluster_distance", "points", points)
    check.shape(
        "cluster_distance", "reconstruction", reconstruction, "[B, R, 3] with the points' B", points.shape[0], None, 3
    )
    check.floating("cluster_distance", points, reconstruction, only=("torch.float32", "torch.float64"))
    check.neighbours("cluster_distance", k, min(points.shape[1], reconstruction.shape[1]))
    return _cluster_distance(points.detach(), reconstruction.detach(), k)
