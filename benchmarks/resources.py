"""Registers, spills and shared memory of every Triton kernel as it is really launched, compiled ahead of time; needs no GPU.

    python benchmarks/resources.py             print the table
    python benchmarks/resources.py --json      one JSON list
    python benchmarks/resources.py --docs      write the table into docs/kernels-gpu.md

The launches of the operations' wrappers are caught before they reach a driver; their arguments give the signature, their constants
and options the configuration. ``TRITON_INTERPRET`` must be unset.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import __file__ as nvidia
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r3dad.kernels import configurations  # noqa: E402

SHARED_LIMIT = {80: 166_912, 90: 232_448}  # bytes a block may ask for
PTXAS = Path(nvidia).parent / "bin" / "ptxas"
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
}


@dataclass
class Resources:
    """Of one kernel in one configuration on one architecture; bytes are per thread for stack and spills, per block for shared."""

    case: str
    kernel: str
    arch: int
    warps: int
    stages: int
    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int
    products: str


def launches(call: Callable[[], object], arch: int) -> list[tuple[JITFunction, dict, dict]]:
    """The kernel launches of a call on CPU tensors, as (kernel, arguments by name, options), without running them."""
    caught: list[tuple[JITFunction, dict, dict]] = []

    def catch(self, *args, grid=None, warmup=False, **kwargs):
        options = {name: kwargs.pop(name) for name in list(kwargs) if name not in self.arg_names}
        caught.append((self, dict(zip(self.arg_names, args)) | kwargs, options))

    with mock.patch.object(JITFunction, "run", catch), mock.patch.object(configurations, "_capability", lambda _: arch):
        call()
    return caught


def compiled(case: str, kernel: JITFunction, arguments: dict, options: dict, arch: int) -> Resources:
    """Compile one launch and read the assembler's report."""
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32" if isinstance(value, int) else "fp32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {name: value for name, value in options.items() if value is not None}
    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx = built.asm["ptx"]
    target = re.search(r"\.target\s+(sm_\w+)", ptx)
    assert target is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        command = [PTXAS, "-v", f"-arch={target.group(1)}", path, "-o", f"{folder}/kernel.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", report)
    frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert registers is not None and frame is not None, report
    stack, stores, loads = map(int, frame.groups())
    counts = {name: len(re.findall(pattern, ptx)) for name, pattern in PRODUCTS.items()}
    products = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "-"
    return Resources(
        case, kernel.__name__, arch, built.metadata.num_warps, built.metadata.num_stages, int(registers.group(1)),
        stores, loads, stack, built.metadata.shared, products,
    )  # fmt: skip


PRODUCTS = {"wgmma": r"wgmma\.mma_async", "mma": r"mma\.sync"}


def _reverse_diffusion(precision: str, features: int) -> Callable[[], object]:
    from r3dad.kernels.reverse_diffusion_triton import reverse_diffusion

    sizes = (3 + features, 128, 256, 512, 256, 128, 3)
    weights = [torch.zeros(m, k) for k, m in zip(sizes, sizes[1:])]
    biases = [torch.zeros(m) for m in sizes[1:]]
    total = sum(sizes[1:])
    tables = [torch.zeros(rows, total) for rows in (2, 3, 2, 3)]
    condition = torch.zeros(3, 100, features) if features else None
    args = (*tables, torch.zeros(2, 3), torch.zeros(3, 100, 3), torch.zeros(3, dtype=torch.int64), condition)
    return lambda: reverse_diffusion(weights, biases, *args, 0.01, precision)


def _concat_squash(dtype: torch.dtype) -> Callable[[], object]:
    from r3dad.kernels.pointwise_triton import concat_squash

    weight, bias, gate = (
        torch.zeros(512, 256, dtype=dtype),
        torch.zeros(512, dtype=dtype),
        torch.zeros(3, 512, dtype=dtype),
    )
    return lambda: concat_squash(torch.zeros(3, 100, 256, dtype=dtype), weight, bias, gate, gate, 0.01)


def _concat_squash_backward(dtype: torch.dtype) -> Callable[[], object]:
    from r3dad.kernels.pointwise_triton import concat_squash_backward

    weight, bias, gate = (
        torch.zeros(512, 256, dtype=dtype),
        torch.zeros(512, dtype=dtype),
        torch.zeros(3, 512, dtype=dtype),
    )
    x, y = torch.zeros(3, 100, 256, dtype=dtype), torch.zeros(3, 100, 512, dtype=dtype)
    return lambda: concat_squash_backward(y, x, weight, bias, gate, y, 0.01)


def _encode() -> object:
    from r3dad.kernels.pointwise_triton import encode

    sizes = (3, 128, 128, 256, 512, 256, 128, 256)
    weights = [torch.zeros(m, k) for k, m in zip(sizes, sizes[1:])]
    return encode(torch.zeros(3, 100, 3), weights, [torch.zeros(m) for m in sizes[1:]])


def _knn() -> object:
    from r3dad.kernels.nearest_triton import knn

    return knn(torch.zeros(3, 100, 3), torch.zeros(3, 100, 3), 64)


def _cluster_distance() -> object:
    from r3dad.kernels import nearest_triton

    found = torch.zeros(3, 100, 64), torch.zeros(3, 100, 64, dtype=torch.int64)
    with mock.patch.object(
        nearest_triton, "knn", lambda *_: found
    ):  # caught under its own name; its indices are not written here
        return nearest_triton.cluster_distance(torch.zeros(3, 100, 3), torch.zeros(3, 100, 3), 64)


CASES: dict[str, Callable[[], object]] = {
    "reverse_diffusion, bfloat16": _reverse_diffusion("bfloat16", 0),
    "reverse_diffusion, bfloat16, condition": _reverse_diffusion("bfloat16", 7),
    "reverse_diffusion, float32": _reverse_diffusion("float32", 0),
    "reverse_diffusion, float32, condition": _reverse_diffusion("float32", 7),
    "concat_squash, bfloat16": _concat_squash(torch.bfloat16),
    "concat_squash, float32": _concat_squash(torch.float32),
    "concat_squash backward, bfloat16": _concat_squash_backward(torch.bfloat16),
    "concat_squash backward, float32": _concat_squash_backward(torch.float32),
    "encode, float32": _encode,
    "knn, k = 64": _knn,
    "cluster_distance, k = 64": _cluster_distance,
}


def all_resources(archs: list[int], only: str = "") -> Iterator[Resources]:
    """Every distinct kernel launch of the cases whose name contains ``only``."""
    for arch in archs:
        for case, call in CASES.items():
            seen = set()
            for kernel, arguments, options in launches(call, arch) if only in case else ():
                if kernel.__name__ not in seen:
                    seen.add(kernel.__name__)
                    yield compiled(case, kernel, arguments, options, arch)


def table(rows: list[Resources]) -> str:
    """Markdown."""
    lines = [
        "| operation | kernel | arch | warps | stages | registers | spills st/ld B | stack B | shared B | products in the code |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        lines.append(
            f"| {r.case} | `{r.kernel}` | sm_{r.arch} | {r.warps} | {r.stages} | {r.registers} |"
            f" {r.spill_stores}/{r.spill_loads} | {r.stack} | {r.shared} | {r.products} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--arch", default="80,90")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    rows = list(all_resources([int(a) for a in options.arch.split(",")], options.only))
    if options.json:
        print(json.dumps([asdict(r) for r in rows]))
        return
    print(table(rows))
    if options.docs:
        page = Path(__file__).resolve().parent.parent / "docs" / "kernels-gpu.md"
        begin, end = "<!-- resources: begin -->", "<!-- resources: end -->"
        head, rest = page.read_text().split(begin)
        written = f"Triton {triton.__version__}, its own ptxas.\n\n{table(rows)}"
        page.write_text(f"{head}{begin}\n{written}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
