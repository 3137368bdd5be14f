"""The tuner and the GPU benchmarks, as far as they can be told without a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    found = promised.gpu({"scans": {"alone": {"ms": 6.0}, "in large batches": {"scans_a_second": 900.0}}})
    assert {p["name"]: p["holds"] for p in found if p["value"]} == {
        "scan to score in batches": True,
        "scan to score alone": False,
    }
    results = {"scans": {"alone": {"failed": "RuntimeError: c"}}}
    report = {"gpu": "G", "date": "D", "promises": found, "results": results, "failures": {"scans": "a"}}
    text = gpu.markdown(report)
    assert "not measured" in text and "failed: a\n" in text and "* alone: failed RuntimeError: c" in text


def rehearse(folder: Path, *options: str) -> tuple[dict, str]:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--rehearse", "--out", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    logs = "".join(f"{log}\n{log.read_text()[-1500:]}" for log in folder.glob("*.log"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:] + logs
    (path,) = folder.glob("gpu-rehearsal-*.json")
    return json.loads(path.read_text()), path.with_suffix(".md").read_text()


def test_two_stages_rehearsed(tmp_path):
    report, text = rehearse(tmp_path, "--stages", "roofline,patches")
    assert set(report["results"]) == {"roofline", "patches"} and "## patches" in text
    assert all(row["error"] == 0 for row in report["results"]["patches"].values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_stages_rehearsed(tmp_path):
    # As on a GPU but for the kernels themselves: what the script calls, the names of the figures, the files.
    report, text = rehearse(tmp_path, "--minutes", "14")
    import_of = (BENCHMARKS / "gpu_stages.py").read_text()
    assert not report["failures"] and all(f"def {stage}(" in import_of for stage in report["results"])
    assert all(promise["value"] is not None for promise in report["promises"])
    rows = [(f"{stage}: {name}", row) for stage, of in report["results"].items() for name, row in of.items()]
    assert all(row["error"] < 2e-2 for _, row in rows if "error" in row)
    assert all(f"* {name.split(': ')[1]}: " in text for name, _ in rows)
    kernels = {name.split(": ")[1].split(",")[0] for name, _ in rows if name.startswith("reverse")}
    assert kernels >= ({"cuda", "triton", "torch"} if shutil.which("g++") else {"triton", "torch"})
    assert shutil.which("g++") is None or len(report["results"]["clusters"]) == 12


def test_a_stage_that_fails_or_takes_too_long_costs_no_other(benchmarks, tmp_path):
    import gpu

    rows, failure = gpu.measure("no such stage", 60, tmp_path / "a.log", [])
    assert rows == {} and failure.startswith("exit status 2: ") and "invalid choice" in failure
    assert gpu.measure("roofline", 0.2, tmp_path / "b.log", []) == ({}, "cut off after 0 s")


def test_what_a_stage_has_measured_is_on_disk_at_once(benchmarks, tmp_path):
    import gpu_stages

    rows = gpu_stages.Rows(tmp_path / "rows.json")
    rows.measure("a", lambda: {"ms": 2.0})
    rows.measure("b", lambda: {}["x"])
    rows.measure("c", lambda: {"ms": 1.0})
    rows.best("best", ["a", "b", "c"], "ms")
    want = {"a": {"ms": 2.0}, "b": {"failed": "KeyError: 'x'"}, "c": {"ms": 1.0}, "best": {"ms": 1.0}}
    assert json.loads((tmp_path / "rows.json").read_text()) == want


def test_the_stages_have_limits_that_fit_into_the_time(benchmarks):
    import gpu
    import gpu_stages
    import promised

    assert list(gpu.LIMITS) == list(gpu_stages.STAGES)
    assert {stage for *_, (stage, _, _) in promised.GPU} <= set(gpu.LIMITS)
    assert sum(gpu.LIMITS.values()) - gpu.LIMITS["training"] <= 9 * 60 - 60  # what is left of nine minutes trains


def test_the_script_is_sound_shell():
    assert subprocess.run(["bash", "-n", str(BENCHMARKS / "gpu.sh")]).returncode == 0
    assert subprocess.run([sys.executable, "-m", "compileall", "-q", str(BENCHMARKS)]).returncode == 0
