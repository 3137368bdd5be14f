"""The tuner and the GPU benchmarks, as far as they can be told without a GPU."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(request):
    sys.path.insert(
        0, str(BENCHMARKS)
    )  # not by monkeypatch: it would take away the folder that KeOps adds at its import, too
    request.addfinalizer(lambda: sys.path.remove(str(BENCHMARKS)))


def test_the_tuner_writes_the_table_that_it_reads(benchmarks):
    import tune

    from r3dad.kernels import configurations

    source = Path(configurations.__file__).read_text()
    assert tune.rewrite(source) == source
    present = tune.TABLE["encode", "float32"][80]
    try:
        tune.TABLE["encode", "float32"][80] = configurations.Configuration({"POINTS": 99}, 2, 5)
        assert '80: Configuration({"POINTS": 99}, 2, 5)' in tune.rewrite(source)
    finally:
        tune.TABLE["encode", "float32"][80] = present


def test_the_tuner_knows_every_kernel_and_its_sizes(benchmarks):
    import tune

    assert {kernel for kernel, _ in tune.TABLE} == set(tune.CHOICES)
    for (kernel, _), rows in tune.TABLE.items():
        assert all(set(row.sizes) == set(tune.CHOICES[kernel]) for row in rows.values())


def test_promises_are_judged_by_what_was_measured(benchmarks):
    import gpu
    import promised

    nothing = promised.gpu({})
    assert len(nothing) == len(promised.GPU) and all(p["holds"] is None for p in nothing)
    found = promised.gpu({"scans": {"1 cloud": {"ms": 6.0}, "32 clouds": {"scans_a_second": 900.0}}})
    assert {p["name"]: p["holds"] for p in found if p["value"]} == {
        "scan to score in batches": True,
        "scan to score alone": False,
    }
    report = {
        "gpu": "G",
        "date": "D",
        "promises": found,
        "results": {"scans": {}},
        "failures": {"scans": "a\nError: b"},
    }
    assert "not measured" in gpu.markdown(report) and "failed: Error: b" in gpu.markdown(report)


@pytest.mark.parametrize("stage", ["reverse", "neighbours", "patches", "scans", "baselines", "layers"])
def test_stages_run_at_a_small_size_on_the_cpu(benchmarks, monkeypatch, stage):
    import gpu

    few = functools.partial
    for name, small in {
        "reverse_diffusion": few(gpu.workloads.reverse_diffusion, steps=2, points=70),
        "layer": few(gpu.workloads.layer, batch=3, points=40),
        "POINTS": 70,
        "STEPS": 2,
    }.items():
        monkeypatch.setattr(gpu.workloads, name, small)
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "timed", lambda call: (call(), {"ms": 1.0, "peak_mb": 0.0})[1])
    monkeypatch.setattr(torch, "compile", lambda function: function)
    rows = {}
    getattr(gpu, stage)(rows)
    assert rows and all(row["error"] < 2e-2 for row in rows.values() if "error" in row)
    for *_, (where, row, field) in gpu.promised.GPU:
        assert where != stage or row.startswith("triton") or field in rows[row]


def test_every_promise_names_a_stage_that_runs(benchmarks):
    source = (BENCHMARKS / "gpu.py").read_text()
    import promised

    assert all(f'"{stage}": ' in source for *_, (stage, _, _) in promised.GPU)


def test_the_script_is_sound_shell():
    assert subprocess.run(["bash", "-n", str(BENCHMARKS / "gpu.sh")]).returncode == 0
    assert subprocess.run([sys.executable, "-m", "compileall", "-q", str(BENCHMARKS)]).returncode == 0
