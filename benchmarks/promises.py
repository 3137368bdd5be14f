"""Measures every promise that this machine can measure.

    python -m benchmarks.promises [cpu|gpu|all] [--json FILE] [--rounds N]

Writes a list of {name, value, promise, unit, holds}. On one thread: processor time, contenders interleaved, medians of ratios; the two
rows on two threads are wall time and want a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("PYKEOPS_VERBOSE", "0")

import torch  # noqa: E402

from benchmarks import bench_cluster_distance as cluster  # noqa: E402
from benchmarks import bench_concat_squash as squash  # noqa: E402
from benchmarks import bench_end_to_end as whole  # noqa: E402
from benchmarks import bench_knn as neighbours  # noqa: E402
from benchmarks import bench_reverse_diffusion as reverse  # noqa: E402
from benchmarks import measure, promised  # noqa: E402
from benchmarks.promised import Rows, at_least, at_most  # noqa: E402
from r3dad import _cpu  # noqa: E402
from r3dad.doctor import environment  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
# In a process of its own: the kernel's high-water mark is reset after loading, and read after one scan.
_PEAK = """
import re, torch
torch.set_num_threads(2)
from benchmarks.bench_end_to_end import workload

def kilobytes(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\\s+(\\d+)", file.read()).group(1))

workload(128, 2).contenders["r3dad bfloat16"].run()
run = workload().contenders["r3dad bfloat16"].run
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = kilobytes("VmRSS")
run()
print((kilobytes("VmHWM") - before) / 1e3)
"""


def timings(
    workload: measure.Workload, rounds: int, *names: str
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """One thread. Without names: every contender that does not compile first."""
    chosen = {n: c for n, c in workload.contenders.items() if (n in names if names else not c.slow)}
    return measure.interleaved(chosen, rounds)


def reverse_promises(rounds: int) -> Rows:
    workload = reverse.workload()
    dots, tiles, single, eager = "cpu bfloat16", "cpu bfloat16 amx", "cpu float32 avx512", "torch eager float32"
    low = tiles if tiles in workload.contenders else dots  # what is taken unasked where both are
    wanted = [*(n for n in (dots, tiles, single, "cpu float32 avx2") if n in workload.contenders)]
    baselines = [eager, "torch eager bfloat16", "torch.compile float32"]
    seconds, shares = timings(workload, rounds, *wanted, *baselines)
    found = []
    for name, promise in ((dots, 0.90), (tiles, 0.40), (single, 0.85), ("cpu float32 avx2", 0.80)):
        if name in wanted:
            share = workload.flop / statistics.median(shares[name])
            found.append(at_least(f"reverse_diffusion {name}: share of the ceiling", share, promise, "of the probe"))
    for name, slower, promise in (
        (low, eager, 8.0),
        (low, "torch eager bfloat16", 1.8),
        (single, eager, 4.0),
        (single, "torch.compile float32", 2.5),
    ):
        if name in wanted:
            value = measure.ratio(seconds, slower, name)
            found.append(at_least(f"reverse_diffusion {name} over {slower}", value, promise, "x"))
    for name in (low, single):
        if name in wanted:
            found.append(
                at_least(
                    f"reverse_diffusion {name}: two threads over one", two_threads(workload, name, rounds), 1.9, "x"
                )
            )
    return found + reverse_errors()


def two_threads(workload: measure.Workload, name: str, rounds: int) -> float:
    """Wall time of one thread over that of two, alternating; of rounds in which one thread had a core to itself, if there are any."""
    found = []
    run = workload.contenders[name].run
    for _ in range(2 * rounds):
        seconds = {}
        for threads in (2, 1):
            torch.set_num_threads(threads)
            begin, own = time.perf_counter(), time.process_time()
            run()
            seconds[threads], own = time.perf_counter() - begin, time.process_time() - own
        found.append((seconds[1] > 1.03 * own, seconds[1] / seconds[2]))
    torch.set_num_threads(1)
    quiet = [value for disturbed, value in found if not disturbed] or [value for _, value in found]
    return statistics.median(quiet)


def reverse_errors(points: int = 512, steps: int = 200) -> Rows:
    """Root mean square error after all steps against float64, over that of the definition in the same precision."""
    truth = reverse.exact(steps, points)
    found = []
    for precision, contender in (
        ("float32", f"cpu float32 {_float32_isa()}"),
        ("bfloat16", "cpu bfloat16"),
        ("bfloat16", "cpu bfloat16 amx"),
    ):
        own = reverse.mine(steps, points)
        if contender in own:
            plain = reverse.reverse_diffusion_definition(*reverse.arguments(1, precision, "cpu", steps, points))
            mine, theirs = ((r.double() - truth).square().mean().sqrt() for r in (own[contender].run(), plain))
            name = f"reverse_diffusion {contender.removeprefix('cpu ').removesuffix(f' {_float32_isa()}')}"
            found.append(at_most(f"{name}: error over plain PyTorch's", float(mine / theirs), 2.0, "x"))
    return found


def _float32_isa() -> str:
    return [isa for isa in _cpu.available_isas() if isa in ("base", "avx2", "avx512")][-1]


def knn_promises(rounds: int) -> Rows:
    found = []
    for workload in neighbours.workloads():
        seconds, _ = timings(workload, rounds, "cpu", "pynanoflann", "scipy cKDTree")
        for slower, promise in (("pynanoflann", 5.0), ("scipy cKDTree", 7.5)):
            if slower in seconds:
                found.append(
                    at_least(f"{workload.name}: over {slower}", measure.ratio(seconds, slower, "cpu"), promise, "x")
                )
    growth = dict(neighbours.growth())
    per_point = growth[1_000_000] / growth[16_000] / (1_000_000 / 16_000)
    found.append(at_most("knn k = 16: time per point at 1 M over that at 16 k", per_point, 2.0, "x"))
    return found


def cluster_promises(rounds: int) -> Rows:
    surfaces, noise, _ = cluster.workloads()
    found = []
    for workload, promise in ((surfaces, 10.0), (noise, 1 / 1.5)):
        seconds, _ = timings(workload, rounds, "cpu", "faiss-cpu")
        if "faiss-cpu" in seconds:
            found.append(
                at_least(
                    f"{workload.name}: over faiss-cpu flat", measure.ratio(seconds, "faiss-cpu", "cpu"), promise, "x"
                )
            )
        error = workload.error(workload.contenders["cpu"].run())
        found.append(at_most(f"{workload.name}: error of the distance", error, 1e-6, "of the largest"))
    return found


def training_promises(rounds: int) -> Rows:
    steps, _ = timings(squash.training(), rounds)
    patches, _ = timings(squash.augmentation(), rounds)
    share = statistics.median(patches["cpu"]) / statistics.median(steps["cpu"])
    return [
        at_least("training step over plain PyTorch float32", measure.ratio(steps, "torch eager", "cpu"), 2.0, "x"),
        at_most("Patch-Gen of a batch over its training step", share, 1.0, "x"),
    ]


def end_to_end_promises(rounds: int) -> Rows:
    found = []
    torch.set_num_threads(2)
    workload = whole.workload()
    if "public path" in workload.contenders:
        seconds, _ = measure.interleaved(workload.contenders, max(3, rounds // 2), threads=2)
        for precision in ("bfloat16", "float32"):
            value = measure.ratio(seconds, "public path", f"r3dad {precision}")
            found.append(at_least(f"scan to score in {precision}, two threads, over the public path", value, 8.0, "x"))
    torch.set_num_threads(1)
    if Path("/proc/self/clear_refs").exists():
        megabytes = float(
            subprocess.run([sys.executable, "-c", _PEAK], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        )
        found.append(at_most("scan to score: peak memory over the loaded model's", megabytes, 64, "MB"))
    return found


def cpu(rounds: int) -> Rows:
    torch.set_num_threads(1)
    found: Rows = []
    for part in (reverse_promises, knn_promises, cluster_promises, training_promises, end_to_end_promises):
        found += part(rounds)
    return found


def gpu(rounds: int) -> Rows:
    """Those of ``benchmarks/gpu.py``; none without a GPU."""
    if not torch.cuda.is_available():
        print("gpu: no GPU on this machine", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, str(Path(__file__).with_name("gpu.py")), "--out", folder])
        if done.returncode:
            print("gpu: a stage failed; its promises count as not measured", file=sys.stderr)
        (report,) = Path(folder).glob("gpu-*.json")
        return json.loads(report.read_text())["promises"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="?", choices=("cpu", "gpu", "all"), default="all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    found: Rows = []
    for name, measured in (("cpu", cpu), ("gpu", gpu)):
        if options.which in (name, "all"):
            found += measured(options.rounds)
    print(environment()["processor"] + "\n")
    print(promised.table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
