"""Times tile sizes of every Triton kernel on the GPU at hand and writes the best into kernels/configurations.py.

    python benchmarks/tune.py [--only KERNEL] [--dry]

Run once per architecture; at run time nothing is tuned. A configuration that does not fit the GPU, or whose result differs from that of the
present one by more than rounding, is passed over.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import triton
from triton.testing import do_bench

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import workloads  # noqa: E402

from r3dad.kernels import configurations, nearest_triton, pointwise_triton, reverse_diffusion_triton  # noqa: E402
from r3dad.kernels.configurations import TABLE, Configuration  # noqa: E402

CHOICES: dict[str, dict[str, tuple[int, ...]]] = {
    "reverse_diffusion": {"POINTS": (32, 64, 128), "CHUNK": (32, 64), "SLICE_IN": (32, 64), "SLICE_OUT": (32, 64)},
    "layer_forward": {"POINTS": (64, 128), "OUT": (64, 128, 256), "IN": (32, 64)},
    "layer_backward_input": {"POINTS": (64, 128), "OUT": (64, 128, 256), "IN": (32, 64)},
    "layer_backward_weight": {"POINTS": (32, 64), "OUT": (64, 128), "IN": (32, 64, 128), "SPLITS": (8, 16, 32)},
    "encode": {"POINTS": (16, 32, 64), "SLICE": (32,), "CHUNK": (16, 32)},
    "knn_candidates": {"QUERIES": (2, 4, 8, 16)},
    "knn_select": {"QUERIES": (1, 2, 4, 8)},
    "cluster_shortlist": {"QUERIES": (64, 128), "REFERENCES": (64, 128), "IN": (32, 64)},
}


def candidates(kernel: str) -> Iterator[Configuration]:
    """Every combination of tile sizes, warps and stages."""
    names = CHOICES[kernel]
    for sizes in itertools.product(*names.values()):
        for warps, stages in itertools.product((4, 8), (1, 2, 3)):
            yield Configuration(dict(zip(names, sizes)), warps, stages)


def call(kernel: str, precision: str) -> Callable[[], object]:
    """What to time for a row of the table."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    if kernel == "reverse_diffusion":
        args = workloads.reverse_diffusion(8, precision, steps=20)
        return lambda: reverse_diffusion_triton.reverse_diffusion(*args)
    if kernel.startswith("layer"):
        args = workloads.layer(dtype)
        if kernel == "layer_forward":
            return lambda: pointwise_triton.concat_squash(*args)
        x, weight, bias, gate, _, slope = args
        output = pointwise_triton.concat_squash(*args)
        return lambda: pointwise_triton.concat_squash_backward(output, x, weight, bias, gate, output, slope)
    points = workloads.surface(8, workloads.POINTS)
    if kernel == "encode":
        folded = workloads.encoder().folded()
        return lambda: pointwise_triton.encode(points, *folded)
    if kernel.startswith("knn"):
        return lambda: nearest_triton.knn(points, points, workloads.NEIGHBOURS)
    return lambda: nearest_triton.cluster_distance(points, points + 0.01, workloads.NEIGHBOURS)


def compared(kernel: str, result: object) -> torch.Tensor:
    """The tensor of a result that the kernel makes."""
    at = 1 if kernel == "layer_backward_weight" else 0
    return (result[at] if isinstance(result, tuple) else result).float()  # type: ignore[union-attr,index]


def best(kernel: str, precision: str, arch: int) -> Configuration:
    """The fastest of the candidates that run and agree."""
    rows = TABLE[kernel, precision]
    present = configurations.of(kernel, precision, arch)
    run = call(kernel, precision)
    want = compared(kernel, run())
    tolerance = (2e-2 if precision == "bfloat16" else 1e-4) * float(want.abs().max())
    quickest, found = do_bench(run), present
    for candidate in candidates(kernel):
        rows[arch] = candidate
        try:
            if float((compared(kernel, run()) - want).abs().max()) > tolerance:
                continue
            time = do_bench(run, warmup=5, rep=20)
        except (triton.runtime.errors.OutOfResources, triton.CompilationError, RuntimeError, AssertionError) as error:
            print(f"  {candidate}: {type(error).__name__}", flush=True)
            continue
        if time < 0.98 * quickest:
            quickest, found = time, candidate
    rows[arch] = found
    print(f"{kernel}, {precision}, sm_{arch}: {quickest:.3f} ms with {found}", flush=True)
    return found


def written(table: dict[tuple[str, str], dict[int, Configuration]]) -> str:
    """The table as it stands in the source."""
    lines = []
    for (kernel, precision), rows in table.items():
        lines.append(f'    ("{kernel}", "{precision}"): {{')
        for arch, c in sorted(rows.items()):
            sizes = ", ".join(f'"{name}": {size}' for name, size in c.sizes.items())
            lines.append(f"        {arch}: Configuration({{{sizes}}}, {c.warps}, {c.stages}),")
        lines.append("    },")
    return "\n".join(lines)


def rewrite(source: str) -> str:
    """The source of kernels/configurations.py with the present table."""
    return re.sub(r"(\nTABLE: [^\n]+ = \{\n).*?(\n\}\n)", lambda m: m[1] + written(TABLE) + m[2], source, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--dry", action="store_true", help="print, do not write")
    options = parser.parse_args()
    major, minor = torch.cuda.get_device_capability()
    for kernel, precision in TABLE:
        if options.only in kernel:
            best(kernel, precision, 10 * major + minor)
    path = ROOT / "kernels" / "configurations.py"
    text = rewrite(path.read_text())
    print(text) if options.dry else path.write_text(text)


if __name__ == "__main__":
    main()
