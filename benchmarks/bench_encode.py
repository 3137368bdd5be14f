"""The encoder at inference, batch norms folded."""

from __future__ import annotations

import pytest
import torch

from benchmarks import baselines, measure
from benchmarks.workloads import POINTS, encoder, surface
from r3dad.ops.encode import encode_definition


def workload(batch: int = 1, points: int = POINTS) -> measure.Workload:
    net = encoder("cpu")
    weights, biases = ([t.detach() for t in ts] for ts in net.folded())
    cloud = surface(batch, points, "cpu")
    exact = encode_definition(cloud.double(), [w.double() for w in weights], [b.double() for b in biases])
    runs, absent = baselines.op_backends("encode", cloud, weights, biases)
    runs["torch eager, batch norms apart"] = torch.no_grad()(lambda: baselines.plain_encoder(net, cloud))
    contenders = {n: measure.Contender(run, "avx512" if n == "cpu" else None) for n, run in runs.items()}
    return measure.Workload(
        f"encode {batch} x {points}",
        batch * points,
        contenders,
        ("cpu",),
        flop=2 * batch * points * sum(w.numel() for w in weights[:4]),
        error=lambda latent: float((latent.double() - exact).abs().max() / exact.abs().max()),
        absent=absent,
    )


def workloads() -> list[measure.Workload]:
    return [workload(), workload(16, 2048)]


@pytest.mark.parametrize("workload, name", measure.cases(workloads()))
def test_encode(benchmark, workload, name):
    measure.run(benchmark, workload, name)
