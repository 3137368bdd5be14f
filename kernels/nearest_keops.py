"""k nearest neighbours and the distance of clusters as KeOps reductions: no table of distances, any number of points.

KeOps writes, compiles and caches one kernel per formula and k, which takes seconds and a C++ compiler at run time: for clouds too large
for the other backends, and as an independent check of them. Ties go to the smaller index: a later point enters the list of the k best
only when it is nearer.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import Tensor


def _library():
    for name in ("PYKEOPS_VERBOSE", "KEOPS_VERBOSE"):  # it prints at its import and while it compiles
        os.environ.setdefault(name, "0")
    import pykeops.torch

    return pykeops.torch


def _lazy(tensor: Tensor):
    return _library().LazyTensor(tensor.contiguous())


def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``knn_definition``, for finite coordinates."""
    distances = query.new_empty((*query.shape[:2], k))
    indices = torch.empty((*query.shape[:2], k), dtype=torch.int64, device=query.device)
    for cloud in range(query.shape[0] if query.shape[1] else 0):
        squared = (_lazy(query[cloud, :, None]) - _lazy(reference[cloud, None])).square().sum(-1)
        distances[cloud], indices[cloud] = squared.Kmin_argKmin(k, dim=1)
    return distances, indices


def cluster_distance(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    """As ``cluster_distance_definition``, for finite coordinates."""
    result = points.new_empty(points.shape[:2])
    for cloud in range(points.shape[0] if points.shape[1] else 0):
        query, reference = (
            part[cloud][knn(part[cloud : cloud + 1], part[cloud : cloud + 1], k)[1][0]].flatten(1)
            for part in (points, reconstruction)
        )
        squared = (_lazy(query[:, None]) - _lazy(reference[None])).square().sum(-1)
        result[cloud] = squared.min(dim=1)[:, 0]
    return result


def why_not(op: str, *args: object) -> str | None:
    """Why KeOps cannot take the arguments of ``knn`` or ``cluster_distance``, or None."""
    if importlib.util.find_spec("pykeops") is None:
        return "pykeops is not installed: pip install r3dad[keops]"
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return "compiles at run time and finds no C++ compiler (g++, or what CXX names)"
    return None
