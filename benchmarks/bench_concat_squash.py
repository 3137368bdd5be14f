"""One decoder layer forward and backward at a quarter of the training batch, a whole training step, and Patch-Gen beside it."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from benchmarks import baselines, measure
from benchmarks.workloads import layer
from r3dad import use_backend
from r3dad.config import PaperConfig
from r3dad.diffusion import Schedule
from r3dad.model import Autoencoder
from r3dad.ops.concat_squash import concat_squash_backward_definition, concat_squash_definition
from r3dad.synth.patch_gen import patch_gen
from r3dad.train import Batches, _step

CLOUDS, POINTS = 8, 2048  # rates are per point: the training batch of 128 clouds takes 16 times as long


def forward() -> measure.Workload:
    args = layer(torch.float32, "cpu", CLOUDS, POINTS)
    exact = concat_squash_definition(*[t.double() for t in args[:5]], args[5])
    runs, absent = baselines.op_backends("concat_squash", *args)
    return measure.Workload(
        f"concat_squash 256-512, {CLOUDS} x {POINTS}",
        CLOUDS * POINTS,
        {n: measure.Contender(run, "avx512" if n == "cpu" else None) for n, run in runs.items()},
        ("cpu",),
        flop=2 * CLOUDS * POINTS * args[1].numel(),
        error=lambda y: float((y.double() - exact).abs().max() / exact.abs().max()),
        absent=absent,
    )


def backward() -> measure.Workload:
    x, weight, bias, gate, shift, slope = layer(torch.float32, "cpu", CLOUDS, POINTS)
    y = concat_squash_definition(x, weight, bias, gate, shift, slope)
    args = (torch.randn(y.shape, generator=torch.Generator().manual_seed(3)), x, weight, bias, gate, y, slope)
    exact = concat_squash_backward_definition(*[t.double() for t in args[:6]], slope)
    runs, absent = baselines.op_backends("concat_squash_backward", *args)
    return measure.Workload(
        f"concat_squash_backward 256-512, {CLOUDS} x {POINTS}",
        CLOUDS * POINTS,
        {n: measure.Contender(run, "avx512" if n == "cpu" else None) for n, run in runs.items()},
        ("cpu",),
        flop=4 * CLOUDS * POINTS * weight.numel(),
        error=lambda got: max(float((g.double() - e).abs().max() / e.abs().max()) for g, e in zip(got, exact)),
        absent=absent,
    )


@cache
def training(clouds: int = CLOUDS) -> measure.Workload:
    """The step that ``r3dad fit`` runs, batch drawn and augmented inside, on our kernels and with the model written in PyTorch eager."""
    config = PaperConfig(batch=clouds)
    scans = [torch.randn(6000, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(4)]
    schedule = Schedule()

    def stepper(backend: str):
        torch.manual_seed(0)
        model = Autoencoder().train() if backend == "cpu" else baselines.PlainAutoencoder(Autoencoder()).train()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        batches = Batches(scans, config, torch.device("cpu"))

        def run():
            with use_backend(backend):
                _step(model, optimiser, schedule, batches, config, 0)

        return run

    contenders = {"cpu": measure.Contender(stepper("cpu")), "torch eager": measure.Contender(stepper("torch"))}
    return measure.Workload(f"training step, {clouds} x {POINTS}", clouds * POINTS, contenders, ("cpu",))


def augmentation(clouds: int = CLOUDS) -> measure.Workload:
    """Patch-Gen of a batch."""
    good = torch.randn(clouds, POINTS, 3, generator=torch.Generator().manual_seed(0)) / 3
    seeds = torch.arange(clouds)

    def on(backend: str):
        def run():
            with use_backend(backend):
                return patch_gen(good, seeds, 1 / 32, 0.1, "gaussian")

        return run

    contenders = {name: measure.Contender(on(name)) for name in ("cpu", "torch")}
    return measure.Workload(f"Patch-Gen, {clouds} x {POINTS}", clouds * POINTS, contenders, ("cpu",))


def workloads() -> list[measure.Workload]:
    return [forward(), backward(), training(), augmentation()]


@pytest.mark.parametrize("workload, name", measure.cases(workloads()))
def test_training(benchmark, workload, name):
    measure.run(benchmark, workload, name)
