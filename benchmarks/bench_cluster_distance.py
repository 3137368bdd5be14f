"""Nearest cluster: rows of 192 coordinates against rows, and the whole operation with its neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks import baselines, measure
from benchmarks.workloads import NEIGHBOURS, POINTS, surface
from r3dad.kernels import compiled


def clusters(cloud: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """[N, 3] -> [N, 3k]."""
    return cloud[compiled.knn(cloud[None], cloud[None], k)[1][0]].flatten(1)


def rows_workload(name: str, query: Tensor, reference: Tensor) -> measure.Workload:
    some = torch.arange(0, len(query), max(1, len(query) // 256))
    exact = torch.cdist(
        query[some].double(), reference.double(), compute_mode="donot_use_mm_for_euclid_dist"
    ).square().amin(1)  # fmt: skip

    def error(result) -> float:
        distances = torch.as_tensor(result[0]).flatten()[some]
        return float((distances.double() - exact).abs().max() / exact.max())

    libraries, missing = baselines.available({"faiss-cpu": baselines.faiss_nearest(query, reference)})
    runs = {
        "cpu": lambda: compiled.nearest_row(query[None], reference[None]),
        "torch cdist + min": lambda: (torch.cdist(query, reference).square().amin(1),),
        **libraries,
    }
    contenders = {n: measure.Contender(run) for n, run in runs.items()}
    return measure.Workload(name, len(query), contenders, ("cpu",), error=error, absent=missing)


def op_workload(count: int = POINTS) -> measure.Workload:
    points = surface(1, count, "cpu")
    rebuilt = points + 0.01 * torch.randn(points.shape, generator=torch.Generator().manual_seed(1))
    mine, absent = baselines.op_backends("cluster_distance", points, rebuilt, NEIGHBOURS)

    def public_path():
        import faiss  # noqa: F401  (what the path needs, so that its absence is known here)

        return lambda: torch.from_numpy(baselines.public_score(points[0], rebuilt[0], NEIGHBOURS))

    libraries, missing = baselines.available({"public path": public_path})
    rows = [clusters(c[0]).double() for c in (points, rebuilt)]
    exact = torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist").square().amin(1)
    contenders = {n: measure.Contender(run, slow=n == "keops") for n, run in (mine | libraries).items()}
    return measure.Workload(
        f"cluster_distance {count}",
        count,
        contenders,
        ("cpu",),
        error=lambda d: float((d.flatten().double() - exact).abs().max() / exact.max()),
        absent=absent | missing,
    )


def workloads() -> list[measure.Workload]:
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(POINTS, 192, generator=g), torch.randn(POINTS, 192, generator=g)
    own, other = (clusters(surface(1, POINTS, "cpu", seed)[0]) for seed in (0, 1))
    return [
        rows_workload("nearest row, surfaces", own, other),
        rows_workload("nearest row, random", *noise),
        op_workload(),
    ]


@pytest.mark.parametrize("workload, name", measure.cases(workloads()))
def test_cluster_distance(benchmark, workload, name):
    measure.run(benchmark, workload, name)
