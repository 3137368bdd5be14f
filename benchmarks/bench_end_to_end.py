"""The paper's recipe on one normalised cloud: encode, 200 steps, cluster score; against the public code's path in plain PyTorch."""

from __future__ import annotations

import pytest
import torch

from benchmarks import baselines, measure
from benchmarks.workloads import NEIGHBOURS, decoder, encoder, surface
from r3dad import ops, philox
from r3dad.diffusion import Schedule

POINTS = 2048


def workload(points: int = POINTS, steps: int = 200) -> measure.Workload:
    """``steps`` of the 200 are run; fewer make the score's share larger than it is."""
    head, net = encoder("cpu"), decoder("cpu")
    plain = baselines.PlainDecoder(net)
    cloud = surface(1, points, "cpu")
    schedule = Schedule()
    times, coefficients = schedule.ancestral()
    betas, coefficients = schedule.betas[times][:steps], coefficients[:steps]
    seeds = torch.zeros(1, dtype=torch.int64)

    def ours(precision: str):
        @torch.no_grad()
        def run():
            start = philox.normal(seeds, points, 0)
            moved = net.sample(start, betas, coefficients, seeds, head(cloud), precision=precision)
            ops.cluster_distance(cloud, cloud + moved, NEIGHBOURS)

        return run

    def public():
        @torch.no_grad()
        def run():
            moved = baselines.plain_loop(
                plain, torch.randn(1, points, 3), betas, coefficients, baselines.plain_encoder(head, cloud)
            )
            baselines.public_score(cloud[0], (cloud + moved)[0], NEIGHBOURS)

        import faiss  # noqa: F401  (what the path needs, so that its absence is known here)

        return run

    found, absent = baselines.available({"public path": public})
    contenders = {f"r3dad {p}": measure.Contender(ours(p)) for p in ("bfloat16", "float32")}
    contenders |= {n: measure.Contender(run) for n, run in found.items()}
    return measure.Workload(
        f"scan to score, {points} points, {steps} steps",
        points,
        contenders,
        ("r3dad bfloat16", "r3dad float32"),
        absent=absent,
    )


@pytest.mark.parametrize("workload, name", measure.cases([workload(steps=20)]))
def test_end_to_end(benchmark, workload, name):
    measure.run(benchmark, workload, name)
