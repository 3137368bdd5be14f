"""How time grows: points 1 k to 1 M, steps 1 to 200, batch 1 to 64; one thread, processor time, best of three.

python -m benchmarks.growth [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402

from benchmarks import bench_knn, measure  # noqa: E402
from benchmarks.workloads import NEIGHBOURS, surface  # noqa: E402
from benchmarks.workloads import reverse_diffusion as arguments  # noqa: E402
from r3dad.doctor import environment  # noqa: E402
from r3dad.kernels import compiled  # noqa: E402

Table = list[tuple[int, float]]


def best(run) -> float:
    return min(measure.interleaved({"cpu": measure.Contender(run)}, 3)[0]["cpu"])


def reverse(points: int, steps: int, batch: int) -> float:
    args = arguments(batch, "bfloat16", "cpu", steps, points)
    return best(lambda: compiled.reverse_diffusion(*args))


def clusters(points: int, batch: int = 1) -> float:
    cloud = surface(batch, points, "cpu")
    rebuilt = cloud + 0.01 * torch.randn(cloud.shape, generator=torch.Generator().manual_seed(1))
    return best(lambda: compiled.cluster_distance(cloud, rebuilt, NEIGHBOURS))


def tables() -> dict[str, Table]:
    """Per table: size and seconds."""
    return {
        "knn, k = 16, by points": bench_knn.growth(),
        "cluster_distance, k = 64, by points": [(n, clusters(n)) for n in (1_000, 4_000, 16_000, 64_000)],
        "cluster_distance, 1024 points, by batch": [(b, clusters(1024, b)) for b in (1, 4, 16, 64)],
        "reverse_diffusion, 1 step, by points": [(n, reverse(n, 1, 1)) for n in (1_000, 10_000, 100_000, 1_000_000)],
        "reverse_diffusion, 1024 points, by steps": [(s, reverse(1024, s, 1)) for s in (1, 4, 20, 100, 200)],
        "reverse_diffusion, 1024 points, 4 steps, by batch": [(b, reverse(1024, 4, b)) for b in (1, 4, 16, 64)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = tables()
    print(environment()["processor"])
    for name, table in found.items():
        print(f"\n| {name} | ms | us each |\n|---|---|---|")
        for size, seconds in table:
            print(f"| {size} | {seconds * 1e3:.3g} | {seconds / size * 1e6:.3g} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": environment(), "tables": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
