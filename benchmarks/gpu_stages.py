"""One stage of the GPU benchmarks in a process of its own: ``benchmarks/gpu.py`` starts it, since after a fault of a kernel no process can
use the GPU any more.

    python benchmarks/gpu_stages.py STAGE ROWS.json [--seconds LEFT] [--rehearse FOLDER]

Rows are written as they are measured. A contender that fails says so in its row, and the stage ends with status 1. Errors are the largest
difference from float64 over the largest value.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import workloads  # noqa: E402

from r3dad import backends, ops  # noqa: E402
from r3dad.ops.cluster_distance import cluster_distance_definition  # noqa: E402
from r3dad.ops.concat_squash import concat_squash_backward_definition  # noqa: E402
from r3dad.ops.knn import knn_definition  # noqa: E402
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition  # noqa: E402
from r3dad.synth.patch_gen import displace_patch_definition  # noqa: E402

Row = dict[str, Any]
SMALL = 256  # points of the cloud whose error is measured


class Rows(dict[str, Row]):
    """Rows by name, on disk as soon as they are there."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def __setitem__(self, name: str, row: Row) -> None:
        super().__setitem__(name, row)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self))
        os.replace(partial, self.path)

    def measure(self, name: str, call: Callable[[], Row]) -> None:
        """A row of what ``call`` measures, or of why it failed; the other contenders are measured all the same."""
        try:
            self[name] = call()
        except Exception as failure:
            traceback.print_exc()
            self[name] = {"failed": f"{type(failure).__name__}: {failure}".splitlines()[0]}

    def best(self, name: str, among: list[str], field: str) -> None:
        """A row of the quickest of those that ran."""
        ran = [self[other] for other in among if field in self.get(other, {})]
        if ran:
            self[name] = min(ran, key=lambda row: row[field])


def timed(call: Callable[[], object]) -> Row:
    """Median and the 20 % and 80 % quantiles in ms, and peak memory over what was held before, in MB."""
    from triton.testing import do_bench

    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    median, low, high = do_bench(call, warmup=20, rep=100, quantiles=[0.5, 0.2, 0.8])
    return {"ms": median, "ms_20": low, "ms_80": high, "peak_mb": peak}


def error(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value.double() - exact).abs().max() / exact.abs().max().clamp(min=1e-30))


def doubled(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [doubled(v) for v in value]
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def able(op: str, *args: Any) -> list[str]:
    """The backends that can run ``op`` on these arguments, KeOps among them."""
    names = []
    for name in backends.TABLE[op]:
        with backends.use_backend(**{op: name}):
            if backends.why_not(op, name, *args) is None:
                names.append(name)
    return names


def roofline(rows: Rows) -> None:
    """What this GPU gives the library's matrix products and copies."""
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a = torch.randn(workloads.SQUARE, workloads.SQUARE, device=workloads.DEVICE, dtype=dtype)
        row = timed(lambda a=a: a @ a)
        rows[f"product, {name}"] = row | {"tflops": 2 * workloads.SQUARE**3 / row["ms"] / 1e9}
    a = torch.empty(workloads.COPIED, device=workloads.DEVICE)
    row = timed(lambda: a.clone())
    rows["copy"] = row | {"gb_a_second": 2 * 4 * len(a) / row["ms"] / 1e6}


def reverse_row(run: Callable[..., torch.Tensor], precision: str, batch: int) -> Row:
    """The reverse process by ``run``, its error on a small cloud beside it."""
    args, few = (
        workloads.reverse_diffusion(batch, precision),
        workloads.reverse_diffusion(1, precision, points=min(SMALL, workloads.POINTS)),
    )
    row = timed(lambda: run(*args))
    work = workloads.operations() * workloads.POINTS * workloads.STEPS * batch
    exact = reverse_diffusion_definition(*doubled(few)[:-1], "float32")
    return row | {
        "clouds": batch,
        "ms_a_cloud": row["ms"] / batch,
        "tflops": work / row["ms"] / 1e9,
        "error": error(run(*few), exact),
    }


def reverse(rows: Rows) -> None:
    """The reverse process: 4096 points, 200 steps."""
    for how, batch in workloads.BATCHES.items():
        own = []
        for precision in ("bfloat16", "float32"):
            for name in able("reverse_diffusion", *workloads.reverse_diffusion(batch, precision)):

                def measured(name=name, precision=precision, batch=batch) -> Row:
                    with backends.use_backend(name):
                        return reverse_row(ops.reverse_diffusion, precision, batch)

                row = f"{name}, {precision}, {how}"
                rows.measure(row, measured)
                own += [row] if precision == "bfloat16" and name != "torch" else []
        rows.best(f"best, {how}", own, "ms")


def variants(rows: Rows, choices: list[tuple[int, int]]) -> None:
    """The reverse process in CUDA C++ by the points of a block and the blocks of a cluster, 0 for the kernel without clusters."""
    from r3dad.kernels.reverse_diffusion_cuda import reverse_diffusion

    for how in ("in batches", "alone"):
        batch = workloads.BATCHES[how]
        for tile, cluster in choices:
            name = f"{how}, {tile} points a block" + (f", {cluster} blocks a cluster" if cluster else "")

            def run(*args: Any, tile=tile, cluster=cluster) -> torch.Tensor:
                return reverse_diffusion(*args, tile, cluster)

            rows.measure(name, lambda run=run, batch=batch: reverse_row(run, "bfloat16", batch))


def tiles(rows: Rows) -> None:
    """mma.sync: csrc/cuda/reverse.cuh."""
    variants(rows, [(tile, 0) for tile in (128, 64, 32)])


def clusters(rows: Rows) -> None:
    """wgmma: csrc/cuda/reverse_sm90.cuh."""
    variants(rows, [(tile, cluster) for tile in (128, 64) for cluster in (2, 1, 4)])


def public_path(net, start, betas, coefficients, latent) -> torch.Tensor:
    """The reverse process as the public code runs it: layer by layer, gates from the whole context anew each step, eager."""
    x = start
    for beta, (a, b, sigma) in zip(betas, coefficients.tolist()):
        noise = torch.randn_like(x)
        x = a * x + b * net(x, beta.expand(len(x)), latent) + sigma * noise
    return x


def baselines(rows: Rows) -> None:
    """The reverse process as the public code runs it, and compiled by PyTorch."""
    net, device = workloads.decoder(), workloads.DEVICE
    batch = workloads.BATCHES["in batches"]
    *_, coefficients, start, _, _, _, _ = workloads.reverse_diffusion(batch, "float32")
    latent, betas = torch.randn(batch, 256, device=device), torch.full((workloads.STEPS,), 0.01, device=device)
    with torch.no_grad(), backends.use_backend("torch"):
        row = timed(lambda: public_path(net, start, betas, coefficients, latent))
        rows["public code's path, float32, in batches"] = row | {"clouds": batch, "ms_a_cloud": row["ms"] / batch}
        step = torch.compile(lambda x, beta: net(x, beta, latent))
        beta = betas[:1].expand(batch)
        row = timed(lambda: [step(start, beta) for _ in range(workloads.STEPS)])
        rows["torch.compile of one step, all steps, float32, in batches"] = row | {
            "clouds": batch,
            "ms_a_cloud": row["ms"] / batch,
        }


def layers(rows: Rows) -> None:
    """concat_squash forward and backward at the training's widest layer, 128 x 2048 points."""
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        x, weight, bias, gate, shift, slope = args = workloads.layer(dtype)
        output = ops.concat_squash(*args)
        backward = (output, x, weight, bias, gate, output, slope)
        small = (output[:2], x[:2], weight, bias, gate[:2], output[:2], slope)
        exact = concat_squash_backward_definition(*doubled(small))

        def both(name: str, args=args, backward=backward, small=small, exact=exact, precision=precision) -> Row:
            with backends.use_backend(name):
                rows[f"forward, {name}, {precision}"] = timed(lambda: ops.concat_squash(*args))
                row = timed(lambda: backends.run("concat_squash_backward", *backward))
                got = backends.run("concat_squash_backward", *small)
            return row | {"error": max(error(a, b) for a, b in zip(got, exact))}

        for name in able("concat_squash", *args):
            rows.measure(f"backward, {name}, {precision}", lambda name=name, both=both: both(name))


def neighbours(rows: Rows) -> None:
    """knn 64 of 4096, and the cluster distance."""
    for how in ("in batches", "alone"):
        batch = workloads.BATCHES[how]
        points = workloads.surface(batch, workloads.POINTS)
        noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(3))
        moved = points + 0.01 * noise.to(workloads.DEVICE)
        first, other = points[:1].double(), moved[:1].double()
        k = workloads.NEIGHBOURS
        calls = {
            "knn": ((points, points, k), knn_definition(first, first, k)[0]),
            "cluster_distance": ((points, moved, k), cluster_distance_definition(first, other, k)),
        }
        for op, (args, exact) in calls.items():

            def measured(name: str, op=op, args=args, exact=exact, batch=batch) -> Row:
                with backends.use_backend(name):
                    row = timed(lambda: getattr(ops, op)(*args))
                    got = getattr(ops, op)(*args)
                found = error((got[0] if op == "knn" else got)[:1], exact)
                return row | {"error": found, "clouds": batch, "us_a_cloud": 1000 * row["ms"] / batch}

            names = able(op, *args)
            for name in names:
                rows.measure(f"{op}, {name}, {how}", lambda name=name, measured=measured: measured(name))
            own = [f"{op}, {name}, {how}" for name in names if name != "torch"]
            rows.best(f"{op}, best, {how}", own, "ms")


def patches(rows: Rows) -> None:
    """Patch-Gen's patches of a training batch: 64 of 2048 points of 128 clouds."""
    good = workloads.surface(workloads.CLOUDS, workloads.CLOUD_POINTS)
    seeds = torch.arange(workloads.CLOUDS, device=workloads.DEVICE)
    args = good, seeds, max(1, workloads.CLOUD_POINTS // 32), 0.1, "gaussian", None
    exact = displace_patch_definition(*args)[0].double()  # in float32: which points move must not differ

    def measured(name: str) -> Row:
        with backends.use_backend(displace_patch=name):
            row = timed(lambda: backends.run("displace_patch", *args))
            return row | {"error": error(backends.run("displace_patch", *args)[0], exact)}

    for name in able("displace_patch", *args):
        rows.measure(name, lambda name=name: measured(name))


def scorer(batch: int) -> Callable[[], torch.Tensor]:
    """Normalised clouds to scores [B], as ``r3dad.recipes.paper`` has it: encoder, 200 steps in bfloat16, cluster distance, maximum."""
    net = workloads.decoder()
    folded = [[t.detach() for t in part] for part in workloads.encoder().folded()]
    gate = torch.cat([layer.hyper_gate.weight for layer in net.layers])[:, 3:].T.detach()
    shift = torch.cat([layer.hyper_bias.weight for layer in net.layers])[:, 3:].T.detach()
    args = workloads.reverse_diffusion(batch, "bfloat16")
    weights, biases, gate_time, _, shift_time, _, *rest = args
    points = workloads.surface(batch, workloads.POINTS)

    def score() -> torch.Tensor:
        latent = ops.encode(points, *folded)
        tables = (gate_time, latent @ gate, shift_time, latent @ shift)
        moved = ops.reverse_diffusion(weights, biases, *tables, *rest)
        return ops.cluster_distance(points, points + moved, workloads.NEIGHBOURS).amax(1)

    return score


def scans(rows: Rows) -> None:
    """Scan to score, by the backends that are chosen unasked."""
    for how, batch in workloads.BATCHES.items():
        row = timed(scorer(batch))
        rows[how] = row | {"clouds": batch, "scans_a_second": 1000 * batch / row["ms"]}


def training(rows: Rows, seconds: float) -> None:
    """The paper's training of one class, whole when it fits into the time left, else its rate over 300 iterations alone."""
    from r3dad.config import PaperConfig
    from r3dad.train import train

    begin = time.monotonic()
    scans = [workloads.surface(1, 20_000, "cpu", seed)[0].double() for seed in range(4)]

    def run(iterations: int) -> float:
        torch.cuda.synchronize()
        begin = time.monotonic()
        config = PaperConfig(iterations=iterations, precision="bfloat16", **workloads.TRAINING)
        train(scans, config, device=workloads.DEVICE)
        torch.cuda.synchronize()
        return time.monotonic() - begin

    run(max(1, workloads.SHORT // 15))
    rate = run(workloads.SHORT) / workloads.SHORT
    rows["rate"] = {"ms_an_iteration": 1000 * rate, "iterations": workloads.SHORT}
    if workloads.WHOLE * rate < seconds - 5 - (time.monotonic() - begin):
        rows["one class"] = {"seconds": run(workloads.WHOLE), "iterations": workloads.WHOLE}


STAGES: dict[str, Callable[..., None]] = {
    stage.__name__: stage
    for stage in (roofline, reverse, clusters, neighbours, scans, tiles, patches, layers, baselines, training)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--seconds", type=float, default=600, help="what training may take")
    parser.add_argument("--rehearse", type=Path, help="without a GPU, tiny; the folder that keeps the emulated kernels")
    options = parser.parse_args()
    if options.rehearse:
        import rehearsal

        rehearsal.install(options.rehearse)
    rows = Rows(options.rows)
    STAGES[options.stage](rows, *[options.seconds] * (options.stage == "training"))
    sys.exit(any("failed" in row for row in rows.values()))


if __name__ == "__main__":
    main()
