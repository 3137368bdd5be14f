"""The CUDA sources compiled by nvcc for every architecture: no spills, shared memory within limits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STATIC_SHARED = 49_152  # bytes a block may have without asking
# What the tiles of the reverse process may ask for; 128 points are for Hopper, 32 for the smallest GPUs from compute capability 8.0 on.
ASKED = {
    "reverse_tile<2>": 101_376, "reverse_tile<4>": 166_912, "reverse_tile<8>": 232_448,
    "reverse_cluster<1>": 232_448, "reverse_cluster<2>": 232_448,
}  # fmt: skip


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_kernels_fit():
    script = ROOT / "benchmarks" / "resources_cuda.py"
    done = subprocess.run([sys.executable, str(script), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    sources = {source.name for source in (ROOT / "csrc" / "cuda").glob("*.cu")}
    everywhere = {(s, a) for s in sources for a in ("sm_80", "sm_90a")}
    assert {(r["source"], r["arch"]) for r in rows} == everywhere - {("reverse_sm90.cu", "sm_80")}
    for row in rows:
        assert row["spill_stores"] == row["spill_loads"] == 0, row
        assert row["shared"] <= ASKED.get(row["kernel"], STATIC_SHARED) and row["registers"] <= 255, row
    assert {row["kernel"] for row in rows} >= set(ASKED)
