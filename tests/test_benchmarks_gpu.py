"""The tuner and the GPU benchmarks, as far as they can be told without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


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

    nothing = gpu.promises({})
    assert len(nothing) == len(gpu.PROMISES) and all(p["kept"] is None for p in nothing)
    slow = gpu.promises({"scans": {"1 cloud": {"ms": 6.0}, "32 clouds": {"scans_a_second": 900.0}}})
    assert {p["promise"]: p["kept"] for p in slow if p["measured"]} == {
        "scan to score in batches: scans a second": True,
        "scan to score alone: ms": False,
    }
    report = {"gpu": "G", "date": "D", "promises": slow, "results": {"scans": {}}, "failures": {"scans": "a\nError: b"}}
    assert "not measured" in gpu.markdown(report) and "failed: Error: b" in gpu.markdown(report)


def test_the_script_is_sound_shell():
    assert subprocess.run(["bash", "-n", str(BENCHMARKS / "gpu.sh")]).returncode == 0
    assert subprocess.run([sys.executable, "-m", "compileall", "-q", str(BENCHMARKS)]).returncode == 0
