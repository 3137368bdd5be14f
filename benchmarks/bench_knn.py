"""knn: k = 64 neighbours of every point of one cloud, tree building included."""

from __future__ import annotations

import pytest
import torch

from benchmarks import baselines, measure
from benchmarks.workloads import NEIGHBOURS, POINTS, surface


def workload(name: str, cloud: torch.Tensor, k: int = NEIGHBOURS) -> measure.Workload:
    """cloud [N, 3]."""
    mine, absent = baselines.op_backends("knn", cloud[None], cloud[None], k)
    libraries, missing = baselines.available(baselines.neighbour_libraries(cloud, k))
    some = torch.arange(0, len(cloud), max(1, len(cloud) // 512))
    exact = (cloud[some, None].double() - cloud[None].double()).square().sum(-1).topk(k, largest=False).values

    def error(result) -> float:
        distances = torch.as_tensor(result[0]).reshape(len(cloud), k)[some]
        return float((distances.double() - exact).abs().max() / exact.max())

    contenders = {n: measure.Contender(run, slow=n == "keops") for n, run in (mine | libraries).items()}
    return measure.Workload(name, len(cloud), contenders, ("cpu",), error=error, absent=absent | missing)


def workloads() -> list[measure.Workload]:
    gauss = torch.randn(POINTS, 3, generator=torch.Generator().manual_seed(0))
    return [workload(f"knn surface {POINTS}", surface(1, POINTS, "cpu")[0]), workload(f"knn gauss {POINTS}", gauss)]


def growth() -> list[tuple[int, float]]:
    """Points and seconds, k = 16, 1 k to 1 M points."""
    found = []
    for count in (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000):
        cloud = surface(1, count, "cpu")
        mine = {"cpu": measure.Contender(baselines.op_backends("knn", cloud, cloud, 16)[0]["cpu"])}
        found.append((count, min(measure.interleaved(mine, 3)[0]["cpu"])))
    return found


@pytest.mark.parametrize("workload, name", measure.cases(workloads()))
def test_knn(benchmark, workload, name):
    measure.run(benchmark, workload, name)
