"""Every GPU benchmark: roofline first, then speed with the error beside it, against eager, torch.compile and the public code's path.

    python benchmarks/gpu.py [--out DIR] [--minutes 9] [--stages a,b]

Writes ``gpu-<machine>-<date>.json`` and ``.md``, anew after each stage, so a run that is cut short leaves what it has. A stage that
fails says so in both files. Errors are the largest difference from float64 over the largest value.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import promised  # noqa: E402
import workloads  # noqa: E402

from r3dad import backends, doctor, ops  # noqa: E402
from r3dad.ops.cluster_distance import cluster_distance_definition  # noqa: E402
from r3dad.ops.concat_squash import concat_squash_backward_definition  # noqa: E402
from r3dad.ops.knn import knn_definition  # noqa: E402
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition  # noqa: E402
from r3dad.synth.patch_gen import displace_patch_definition  # noqa: E402

DEVICE = "cuda"
Rows = dict[str, dict[str, Any]]


def timed(call: Callable[[], object]) -> dict[str, float]:
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
        a = torch.randn(8192, 8192, device=DEVICE, dtype=dtype)
        row = timed(lambda a=a: a @ a)
        rows[f"product, {name}"] = row | {"tflops": 2 * 8192**3 / row["ms"] / 1e9}
    a = torch.empty(1 << 28, device=DEVICE)
    row = timed(lambda: a.clone())
    rows["copy"] = row | {"gb_a_second": 2 * 4 * len(a) / row["ms"] / 1e6}


def public_path(net, start, betas, coefficients, latent) -> torch.Tensor:
    """The reverse process as the public code runs it: layer by layer, gates from the whole context anew each step, eager."""
    x = start
    for beta, (a, b, sigma) in zip(betas, coefficients.tolist()):
        noise = torch.randn_like(x)
        x = a * x + b * net(x, beta.expand(len(x)), latent) + sigma * noise
    return x


def reverse(rows: Rows) -> None:
    """The reverse process: 4096 points, 200 steps."""
    work = workloads.operations() * workloads.POINTS * workloads.STEPS
    for batch in (1, 8, 32):
        clouds = f"{batch} cloud" + "s" * (batch > 1)
        for precision in ("bfloat16", "float32"):
            args = workloads.reverse_diffusion(batch, precision, DEVICE)
            few = workloads.reverse_diffusion(1, precision, DEVICE, points=256)
            exact = reverse_diffusion_definition(*doubled(few)[:-1], "float32")
            for name in able("reverse_diffusion", *args):
                with backends.use_backend(name):
                    row = timed(lambda args=args: ops.reverse_diffusion(*args))
                    row["error"] = error(ops.reverse_diffusion(*few), exact)
                row |= {"ms_a_cloud": row["ms"] / batch, "tflops": work * batch / row["ms"] / 1e9}
                rows[f"{name}, {precision}, {clouds}"] = row
        own = [
            row for name, row in rows.items() if name.endswith(f"bfloat16, {clouds}") and not name.startswith("torch")
        ]
        if own:
            rows[f"best, {clouds}"] = min(own, key=lambda row: row["ms"])


def tiles(rows: Rows) -> None:
    """The reverse process in CUDA C++ by the points of a block."""
    from r3dad.kernels.reverse_diffusion_cuda import reverse_diffusion

    for batch in (1, 8):
        args = workloads.reverse_diffusion(batch, "bfloat16", DEVICE)
        for tile in (32, 64, 128):
            row = timed(lambda args=args, tile=tile: reverse_diffusion(*args, tile))
            rows[f"{batch} cloud{'s' * (batch > 1)}, {tile} points a block"] = row | {"ms_a_cloud": row["ms"] / batch}


def baselines(rows: Rows) -> None:
    """The reverse process as the public code runs it, and compiled by PyTorch."""
    net = workloads.decoder(DEVICE)
    *_, coefficients, start, _, _, _, _ = workloads.reverse_diffusion(8, "float32", DEVICE)
    latent, betas = torch.randn(8, 256, device=DEVICE), torch.full((workloads.STEPS,), 0.01, device=DEVICE)
    with torch.no_grad(), backends.use_backend("torch"):
        row = timed(lambda: public_path(net, start, betas, coefficients, latent))
        rows["public code's path, float32, 8 clouds"] = row | {"ms_a_cloud": row["ms"] / 8}
        step = torch.compile(lambda x, beta: net(x, beta, latent))
        beta = betas[:1].expand(8)
        row = timed(lambda: [step(start, beta) for _ in range(workloads.STEPS)])
        rows["torch.compile of one step x 200, float32, 8 clouds"] = row | {"ms_a_cloud": row["ms"] / 8}


def layers(rows: Rows) -> None:
    """concat_squash forward and backward at the training's widest layer, 128 x 2048 points."""
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        x, weight, bias, gate, shift, slope = args = workloads.layer(DEVICE, dtype)
        output = ops.concat_squash(*args)
        backward = (output, x, weight, bias, gate, output, slope)
        small = (output[:2], x[:2], weight, bias, gate[:2], output[:2], slope)
        exact = concat_squash_backward_definition(*doubled(small))
        for name in able("concat_squash", *args):
            with backends.use_backend(name):
                rows[f"forward, {name}, {precision}"] = timed(lambda args=args: ops.concat_squash(*args))
                row = timed(lambda backward=backward: backends.run("concat_squash_backward", *backward))
                got = backends.run("concat_squash_backward", *small)
                row["error"] = max(error(a, b) for a, b in zip(got, exact))
                rows[f"backward, {name}, {precision}"] = row


def neighbours(rows: Rows) -> None:
    """knn 64 of 4096, and the cluster distance."""
    for batch in (1, 8):
        clouds = f"{batch} cloud" + "s" * (batch > 1)
        points = workloads.surface(batch, workloads.POINTS, DEVICE)
        moved = points + 0.01 * torch.randn(points.shape, generator=torch.Generator().manual_seed(3)).to(DEVICE)
        calls = {
            "knn": ((points, points, 64), knn_definition(points[:1].double(), points[:1].double(), 64)[0]),
            "cluster_distance": (
                (points, moved, 64),
                cluster_distance_definition(points[:1].double(), moved[:1].double(), 64),
            ),
        }
        for op, (args, exact) in calls.items():
            own = []
            for name in able(op, *args):
                with backends.use_backend(name):
                    call = getattr(ops, op)
                    row = timed(lambda call=call, args=args: call(*args))
                    got = call(*args)
                row["error"] = error((got[0] if op == "knn" else got)[:1], exact)
                row["us_a_cloud"] = 1000 * row["ms"] / batch
                rows[f"{op}, {name}, {clouds}"] = row
                own += [row] if name != "torch" else []
            if own:
                rows[f"{op}, best, {clouds}"] = min(own, key=lambda row: row["ms"])


def patches(rows: Rows) -> None:
    """Patch-Gen's patches of a training batch: 64 of 2048 points of 128 clouds."""
    good, seeds = workloads.surface(128, 2048, DEVICE), torch.arange(128, device=DEVICE)
    args = good, seeds, 64, 0.1, "gaussian", None
    exact = displace_patch_definition(*args)[0].double()  # in float32: which points move must not differ
    for name in able("displace_patch", *args):
        with backends.use_backend(displace_patch=name):
            row = timed(lambda: backends.run("displace_patch", *args))
            rows[name] = row | {"error": error(backends.run("displace_patch", *args)[0], exact)}


def scorer(batch: int) -> Callable[[], torch.Tensor]:
    """Normalised clouds to scores [B], as ``r3dad.recipes.paper`` has it: encoder, 200 steps in bfloat16, cluster distance, maximum."""
    net = workloads.decoder(DEVICE)
    folded = [[t.detach() for t in part] for part in workloads.encoder(DEVICE).folded()]
    gate = torch.cat([layer.hyper_gate.weight for layer in net.layers])[:, 3:].T.detach()
    shift = torch.cat([layer.hyper_bias.weight for layer in net.layers])[:, 3:].T.detach()
    args = workloads.reverse_diffusion(batch, "bfloat16", DEVICE)
    weights, biases, gate_time, _, shift_time, _, *rest = args
    points = workloads.surface(batch, workloads.POINTS, DEVICE)

    def score() -> torch.Tensor:
        latent = ops.encode(points, *folded)
        tables = (gate_time, latent @ gate, shift_time, latent @ shift)
        moved = ops.reverse_diffusion(weights, biases, *tables, *rest)
        return ops.cluster_distance(points, points + moved, workloads.NEIGHBOURS).amax(1)

    return score


def scans(rows: Rows) -> None:
    """Scan to score, by the backends that are chosen unasked."""
    for batch in (1, 32):
        row = timed(scorer(batch))
        rows[f"{batch} cloud" + "s" * (batch > 1)] = row | {"scans_a_second": 1000 * batch / row["ms"]}


def training(rows: Rows, seconds: float) -> None:
    """The paper's training of one class, whole when it fits into the time left, else its rate over 300 iterations alone."""
    from r3dad.config import PaperConfig
    from r3dad.train import train

    scans = [workloads.surface(1, 20_000, "cpu", seed)[0].double() for seed in range(4)]

    def run(iterations: int) -> float:
        torch.cuda.synchronize()
        begin = time.monotonic()
        train(scans, PaperConfig(iterations=iterations, precision="bfloat16"), device=DEVICE)
        torch.cuda.synchronize()
        return time.monotonic() - begin

    run(20)
    rate = run(300) / 300
    rows["300 iterations"] = {"ms_an_iteration": 1000 * rate}
    if 40_000 * rate < seconds:
        rows["40000 iterations"] = {"seconds": run(40_000)}


def markdown(report: dict[str, Any]) -> str:
    """The table."""
    lines = [f"# {report['gpu']}, {report['date']}", "", promised.table(report["promises"])]
    for stage, rows in report["results"].items():
        lines += ["", f"## {stage}", ""]
        if stage in report["failures"]:
            lines += [f"failed: {report['failures'][stage].splitlines()[-1]}", ""]
        for name, row in rows.items():
            lines.append(f"* {name}: " + ", ".join(f"{field} {value:.4g}" for field, value in row.items()))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything; the whole training only if it fits")
    parser.add_argument("--stages", default="roofline,reverse,neighbours,scans,tiles,patches,layers,training,baselines")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: PyTorch finds no GPU here")
    end = time.monotonic() + 60 * options.minutes
    date = datetime.datetime.now().strftime("%Y-%m-%d-%H%M")
    machine = re.sub(r"\W+", "-", torch.cuda.get_device_name() + " " + platform.node()).lower()
    stages: dict[str, Callable[[Rows], None]] = {
        "roofline": roofline, "reverse": reverse, "neighbours": neighbours, "scans": scans, "tiles": tiles, "patches": patches,
        "layers": layers, "training": lambda rows: training(rows, end - time.monotonic() - 80), "baselines": baselines,
    }  # fmt: skip
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(), "date": date, "environment": doctor.environment(),
        "promises": [], "results": {}, "failures": {},
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"gpu-{machine}-{date}.json"
    for name in options.stages.split(","):
        begin = time.monotonic()
        rows = report["results"].setdefault(name, {})
        try:
            stages[name](rows)
        except Exception:  # a failure must cost no other figures
            report["failures"][name] = traceback.format_exc()
        report["promises"] = promised.gpu(report["results"])
        path.write_text(json.dumps(report, indent=1))
        path.with_suffix(".md").write_text(markdown(report))
        print(f"{name}: {time.monotonic() - begin:.0f} s {'FAILED' if name in report['failures'] else ''}", flush=True)
    print(path.with_suffix(".md").read_text())
    sys.exit(bool(report["failures"]))


if __name__ == "__main__":
    main()
