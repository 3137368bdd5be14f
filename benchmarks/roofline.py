"""This machine's ceilings and every kernel under them, interleaved in one run.

    python -m benchmarks.roofline [--ops knn,encode] [--rounds N] [--slow] [--json FILE]

``--slow`` adds the baselines that compile at first use (torch.compile, KeOps).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYKEOPS_VERBOSE", "0")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks import measure  # noqa: E402
from r3dad import _cpu  # noqa: E402
from r3dad.doctor import environment  # noqa: E402

OPS = ("reverse_diffusion", "knn", "cluster_distance", "encode", "concat_squash", "end_to_end")


def copy_bandwidth(megabytes: int = 256) -> float:
    """Bytes read and written per second by a copy that no cache holds."""
    source = np.zeros(megabytes << 17)
    target = np.ones_like(source)
    begin = time.thread_time()
    np.copyto(target, source)
    return 2 * source.nbytes / (time.thread_time() - begin)


def ceilings(rounds: int = 15) -> dict[str, float]:
    """GFLOP/s per instruction set and GB/s of a copy, one thread, medians."""
    found: dict[str, list[float]] = {isa: [] for isa in _cpu.available_isas()} | {"copy": []}
    for _ in range(rounds):
        for isa in _cpu.available_isas():
            found[isa].append(measure.ceiling(isa) * 1e-9)
        found["copy"].append(copy_bandwidth() * 1e-9)
    return {name: float(np.median(values)) for name, values in found.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", default=",".join(OPS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    unknown = set(options.ops.split(",")) - set(OPS)
    if unknown:
        sys.exit(f"--ops: {', '.join(sorted(unknown))} unknown; there are {', '.join(OPS)}")
    torch.set_num_threads(1)
    machine, limits = environment(), ceilings()
    print(f"{machine['processor']}, torch {torch.__version__}, one thread, processor time\n")
    print(
        "\n".join(
            f"ceiling {name}: {value:.0f} {'GB/s' if name == 'copy' else 'GFLOP/s'}" for name, value in limits.items()
        )
    )
    found, absent = [], {}
    for op in options.ops.split(","):
        module = importlib.import_module(f"benchmarks.bench_{op}")
        for workload in module.workloads() if hasattr(module, "workloads") else [module.workload()]:
            found += measure.rows(workload, options.rounds, options.slow)
            absent.update(workload.absent)
    print("\n" + measure.table(found))
    print("\n".join(f"not run: {reason}" for reason in sorted(set(absent.values()))))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "ceilings": limits, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
