"""The reverse process: some steps of the paper's decoder on 4096 points; time is linear in steps."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

from benchmarks import baselines, measure
from benchmarks.workloads import POINTS, decoder, operations
from benchmarks.workloads import reverse_diffusion as arguments
from r3dad import _cpu
from r3dad.diffusion import Schedule
from r3dad.kernels import compiled
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition

STEPS = 20


@cache
def exact(steps: int, points: int) -> torch.Tensor:
    args = arguments(1, "float32", "cpu", steps, points)
    return reverse_diffusion_definition(
        *([t.double() for t in a] if isinstance(a, list) else a.double() if is_float(a) else a for a in args)
    )


def is_float(x) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def mine(steps: int = STEPS, points: int = POINTS) -> dict[str, measure.Contender]:
    """Our kernel per instruction set that is here."""
    found = {}
    for isa in _cpu.available_isas():
        precision = measure.PRECISIONS.get(isa, "float32")
        name = f"cpu {precision}{' amx' if isa.startswith('amx') else f' {isa}' if precision == 'float32' else ''}"
        args = arguments(1, precision, "cpu", steps, points)
        run = measure.with_isa(isa, lambda args=args: compiled.reverse_diffusion(*args))
        found[name] = measure.Contender(run, ceiling=isa)
    return found


def eager(steps: int, points: int) -> dict[str, measure.Contender]:
    """The loop over steps that the public code runs, in float32, bfloat16 and compiled. Its noise is torch's: no error is given."""
    times, coefficients = Schedule().ancestral()
    betas, coefficients = Schedule().betas[times][:steps].float(), coefficients[:steps]
    g = torch.Generator().manual_seed(1)
    start, latent = torch.randn(1, points, 3, generator=g), torch.randn(1, 256, generator=g)
    net = baselines.PlainDecoder(decoder("cpu"))
    low = copy.deepcopy(net).bfloat16()

    def loop(model, dtype):
        @torch.no_grad()
        def run():
            baselines.plain_loop(model, start.to(dtype), betas, coefficients, latent.to(dtype))

        return run

    return {
        "torch eager float32": measure.Contender(loop(net, torch.float32)),
        "torch eager bfloat16": measure.Contender(loop(low, torch.bfloat16)),
        "torch.compile float32": measure.Contender(loop(torch.compile(net), torch.float32), slow=True),
        "torch.compile bfloat16": measure.Contender(loop(torch.compile(low), torch.bfloat16), slow=True),
    }


def workload(steps: int = STEPS, points: int = POINTS) -> measure.Workload:
    own = mine(steps, points)

    def error(result) -> float | None:
        if result is None:  # the loop draws its own noise
            return None
        truth = exact(steps, points)
        return float((result.double() - truth).abs().max() / truth.abs().max())

    return measure.Workload(
        f"reverse_diffusion {points} points, {steps} steps",
        steps * points,
        own | eager(steps, points),
        tuple(own),
        flop=steps * points * operations(),
        error=error,
    )


@pytest.mark.parametrize("workload, name", measure.cases([workload()]))
def test_reverse_diffusion(benchmark, workload, name):
    measure.run(benchmark, workload, name)
