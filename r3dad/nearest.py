"""Exact nearest neighbours in one cloud that is searched more than once: its tree is made at the first search and kept."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from r3dad import backends


class ScipyTree:
    """The tree of a cloud ``[R, 3]``, where the compiled kernels are absent or not asked for. ``like`` is of use to those only."""

    def __init__(self, points: Tensor, like: ScipyTree | None = None) -> None:
        self._points = points

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self._points.numpy(), balanced_tree=False, compact_nodes=False)

    def knn(self, query: Tensor | ScipyTree, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices ``[Q, k]`` of the nearest points, ascending, for ``[Q, 3]`` or another tree's points."""
        query = query._points if isinstance(query, ScipyTree) else query
        workers = torch.get_num_threads() if len(query) > 4000 else 1
        distance, index = self._tree.query(query.numpy(), k=range(1, k + 1), workers=workers)
        return torch.from_numpy(distance).square().to(query.dtype), torch.from_numpy(index)


class Nearest:
    """Exact nearest neighbours in a cloud of reference points ``[R, 3]``, in float32 (the one place that knows how they are found)."""

    def __init__(self, points: Tensor, like: Nearest | None = None) -> None:
        """like: of the same points in other places, not far: sparing the ordering of them, and nothing else, is taken from it."""
        self.points, self._like = points, like if like and like.points.shape == points.shape else None

    @cached_property
    def _tree(self) -> Any:
        points = self.points.detach().reshape(-1, 3).float().contiguous()
        like, self._like = self._like, None
        return backends.run("knn_tree", points, *([like._tree] if like else []))

    @cached_property
    def spacing(self) -> float:
        """Median distance of about 2000 points, by an even stride, to the nearest other one."""
        count = min(2000, len(self.points))
        sample = self.points[(torch.arange(count, device=self.points.device) * len(self.points)) // count]
        return float(self(sample, 2)[0][:, 1].median())

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in self.__dict__.items() if k != "_tree"}, "_like": None}

    def __call__(self, query: Tensor | Nearest, k: int = 1) -> tuple[Tensor, Tensor]:
        """Distances (not squared) and indices, both [..., k] (without the last axis for k = 1), of the points nearest to query [..., 3].

        A query that is a `Nearest` itself, this one or another, spares the ordering of its points. Beyond the R-th neighbour, distances
        are infinite and indices R.
        """
        other = query if isinstance(query, Nearest) else None
        where = query.points if isinstance(query, Nearest) else query
        found = min(k, len(self.points))
        if self.points.device.type == "cpu":
            flat = where.detach().reshape(-1, 3).float().contiguous()
            if other and type(other._tree) is type(self._tree):
                flat = other._tree
            squared, index = self._tree.knn(flat, found)
        else:
            from r3dad import ops

            squared, index = (x[0] for x in ops.knn(where.reshape(1, -1, 3).float(), self.points[None].float(), found))
        if found < k:
            squared = torch.nn.functional.pad(squared, (0, k - found), value=math.inf)
            index = torch.nn.functional.pad(index, (0, k - found), value=len(self.points))
        shape = where.shape[:-1] if k == 1 else (*where.shape[:-1], k)
        return squared.to(where.dtype).sqrt().reshape(shape), index.reshape(shape)


class Order:
    """The order of points that are searched for again and again and move little in between."""

    def __init__(self) -> None:
        self._last: Nearest | None = None

    def of(self, points: Tensor) -> Nearest:
        """The points ``[..., 3]`` as a query."""
        self._last = Nearest(points, self._last)
        return self._last
