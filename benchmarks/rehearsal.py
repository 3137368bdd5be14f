"""What stands in for a GPU in a rehearsal of ``benchmarks/gpu.py``: CUDA kernels emulated (tests/cuda), Triton interpreted, tiny sizes."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import workloads

ROOT = Path(__file__).resolve().parent.parent
SIZES = {
    "DEVICE": "cpu", "POINTS": 20, "STEPS": 2, "NEIGHBOURS": 8, "WIDTHS": (16, 32, 32, 16, 16), "CLOUDS": 2, "CLOUD_POINTS": 32,
    "BATCHES": {"in batches": 2, "alone": 1, "in large batches": 3}, "SQUARE": 32, "COPIED": 1 << 10, "SHORT": 2, "WHOLE": 3,
    "TRAINING": {"batch": 2, "points": 32, "neighbours": 8, "steps": 5, "widths": (16, 32, 32, 16, 16), "latent": 16},
}  # fmt: skip


def install(folder: Path) -> None:
    """Before Triton is imported. ``folder`` keeps the emulated kernels between the stages."""
    os.environ["TRITON_INTERPRET"] = "1"  # Triton decides at its first import
    for name, value in SIZES.items():
        assert hasattr(workloads, name)
        setattr(workloads, name, value)
    for name, value in {
        "synchronize": None, "reset_peak_memory_stats": None, "memory_allocated": 0, "max_memory_allocated": 0,
        "get_device_capability": (9, 0), "current_stream": SimpleNamespace(cuda_stream=0),
    }.items():  # fmt: skip
        setattr(torch.cuda, name, lambda *_, value=value: value)
    torch.compile = functools.partial(torch.compile, backend="eager")
    torch.set_num_threads(1)

    import triton.testing

    triton.testing.do_bench = lambda call, warmup, rep, quantiles: [1.0] * len(quantiles)
    sys.path.append(str(ROOT / "tests" / "interpreter"))
    import support

    support.install_bfloat16()
    support.install_fast_sort()

    from r3dad import backends

    backends._on_gpu = lambda args: True
    for rows in backends.TABLE.values():
        rows.pop("keops", None)  # compiles for seconds; tests/test_keops.py
    if shutil.which("g++"):
        from tests.cuda import module

        sys.modules["r3dad._cuda"] = module.build(folder)
