"""The Triton kernels compiled ahead of time for GPUs that are not here: registers, spills, shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "resources.py"
SHARED_LIMIT = {80: 166_912, 90: 232_448}
SPILLS = {("reverse_steps", "float32"): 64}  # bytes a thread allowed, where not zero; the wide first product in float32


def resources(only: str, arch: str) -> list[dict]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), "--json", "--only", only, "--arch", arch]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    assert rows, f"no case named {only}"
    return rows


def check(rows: list[dict]) -> None:
    for row in rows:
        assert row["shared"] <= SHARED_LIMIT[row["arch"]], row
        precision = "float32" if "float32" in row["case"] else "bfloat16"
        allowed = SPILLS.get((row["kernel"], precision), 0)
        assert max(row["spill_stores"], row["spill_loads"]) <= allowed, row
        assert 0 < row["registers"] <= 255, row


def test_kernels_in_bfloat16_for_hopper():
    rows = resources("bfloat16", "90")
    check(rows)
    assert {row["kernel"] for row in rows if "wgmma" in row["products"]} >= {
        "reverse_steps",
        "layer_forward",
        "layer_backward_weight",
    }
    assert len([row for row in rows if row["kernel"] == "reverse_steps"]) == 2  # with and without a condition


@pytest.mark.slow
def test_every_kernel_on_every_architecture():
    rows = resources("", "80,90")
    check(rows)
    kernels = {row["kernel"] for row in rows}
    source = "".join(p.read_text() for p in (SCRIPT.parent.parent / "kernels").glob("*_triton.py"))
    launched = {name for name in kernels if f"def {name}(" in source}
    assert launched == kernels and len(kernels) >= 10
    assert len(rows) % 2 == 0  # both architectures have the same launches
