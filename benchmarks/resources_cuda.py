"""Registers, spills and shared memory of every CUDA kernel, as nvcc compiles it; needs no GPU.

python benchmarks/resources_cuda.py [--json | --docs]      --docs: into docs/kernels-gpu.md
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHS = ("80", "90a")
ONLY = {"reverse_sm90.cu": ("90a",)}  # elsewhere its kernels are empty
WIDTHS = (128, 256, 512, 256, 128)  # of the paper's decoder
COLUMNS = ("source", "kernel", "arch", "registers", "spill_stores", "spill_loads", "stack", "shared")


def reverse_bytes(tile: int) -> int:
    """Shared memory that ``reverse_tile`` asks for at launch, for the paper's widths: the weights' ring, two buffers, the points."""
    buffers = 2 * tile * (max(WIDTHS[0:-1:2]) + max(WIDTHS[1:-1:2]))
    return 32_768 + buffers + 12 * tile


def cluster_bytes(tile: int) -> int:
    """The same of ``reverse_cluster``: four pieces of weights, the widest layer, two rows of gates, the points, twelve barriers."""
    return 4 * 16_384 + 2 * tile * max(WIDTHS) + 2 * 8 * (sum(WIDTHS) + 4) + 12 * tile + 12 * 8


def resources(source: Path, arch: str) -> list[dict]:
    """One row per kernel of a source on one architecture; spills and stack in bytes a thread, shared memory a block."""
    flags = ["-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", f"-gencode=arch=compute_{arch},code=sm_{arch}", "-Xptxas=-v"]
    command = ["nvcc", *flags, "-cubin", "-o", "/dev/null", str(source)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "serialized" not in report, report  # products that wait for one another (ptxas C7510 and the like)
    rows = []
    for block in report.split("Compiling entry function")[1:]:
        name = re.search(r"'(\w+)'", block)
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", block)
        used = re.search(r"Used (\d+) registers", block)
        shared = re.search(r"(\d+) bytes smem", block)
        assert name is not None and frame is not None and used is not None, report
        stack, stores, loads = map(int, frame.groups())
        demangled = subprocess.run(["c++filt", name[1]], capture_output=True, text=True).stdout
        kernel = re.search(r"(\w+(?:<[^()]*>)?)\(", demangled)
        assert kernel is not None, demangled
        bytes_shared = int(shared[1]) if shared else 0
        if tiles := re.fullmatch(r"reverse_tile<(\d+)>", kernel[1]):
            bytes_shared += reverse_bytes(16 * int(tiles[1]))
        if groups := re.fullmatch(r"reverse_cluster<(\d+)>", kernel[1]):
            bytes_shared += cluster_bytes(64 * int(groups[1]))
        values = (source.name, kernel[1], f"sm_{arch}", int(used[1]), stores, loads, stack, bytes_shared)
        rows.append(dict(zip(COLUMNS, values)))
    return rows


def table(rows: list[dict]) -> str:
    """Markdown."""
    head = "| source | kernel | arch | registers | spills st/ld B | stack B | shared B |\n" + "| --- " * 7 + "|"
    lines = [
        f"| `{r['source']}` | `{r['kernel']}` | {r['arch']} | {r['registers']} | {r['spill_stores']}/{r['spill_loads']} | {r['stack']} |"
        f" {r['shared']} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    if shutil.which("nvcc") is None:
        parser.error("nvcc is not on PATH")
    rows = [
        row
        for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
        for arch in ONLY.get(source.name, ARCHS)
        for row in resources(source, arch)
    ]
    print(json.dumps(rows) if options.json else table(rows))
    if options.docs:
        page = ROOT / "docs" / "kernels-gpu.md"
        begin, end = "<!-- resources of CUDA: begin -->", "<!-- resources of CUDA: end -->"
        head, rest = page.read_text().split(begin)
        page.write_text(f"{head}{begin}\n{table(rows)}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
