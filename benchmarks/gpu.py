"""Every GPU benchmark: roofline first, then speed with the error beside it, against eager, torch.compile and the public code's path.

    python benchmarks/gpu.py [--out DIR] [--minutes 9] [--stages a,b] [--rehearse]

Writes ``gpu-<machine>-<date>.json`` and ``.md``, anew after each stage, so a run that is cut short leaves what it has. Each stage is a
process of its own (``gpu_stages.py``) with its own time; one that fails or is cut off says so in both files and keeps the rows that it has.
``--rehearse``: everything at tiny sizes without a GPU, its files named ``rehearsal``; the figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import promised  # noqa: E402

from r3dad import doctor  # noqa: E402

# Seconds that a stage may take, in this order; the last gets what is left.
LIMITS = {
    "roofline": 30, "reverse": 90, "clusters": 60, "neighbours": 45, "scans": 45, "tiles": 40, "patches": 30, "layers": 45,
    "baselines": 60, "training": 300,
}  # fmt: skip


def measure(stage: str, seconds: float, log: Path, rehearse: list[str]) -> tuple[dict[str, Any], str | None]:
    """A stage's rows, and why it failed, if it did."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.json")
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu_stages.py"), stage, str(rows)]
        command += ["--seconds", f"{seconds:.0f}", *rehearse]
        with log.open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started
            process.wait()
        found = json.loads(rows.read_text()) if rows.exists() else {}
    if status == 0:
        return found, None
    if status is None:
        return found, f"cut off after {seconds:.0f} s"
    failed = [name for name, row in found.items() if "failed" in row]
    last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
    return found, f"did not run: {'; '.join(failed)}" if failed else f"exit status {status}: {last}"


def markdown(report: dict[str, Any]) -> str:
    """The table."""
    lines = [f"# {report['gpu']}, {report['date']}", "", promised.table(report["promises"])]
    for stage, rows in report["results"].items():
        lines += ["", f"## {stage}", ""]
        if stage in report["failures"]:
            lines += [f"failed: {report['failures'][stage]}", ""]
        for name, row in rows.items():
            fields = (f"{f} {v}" if isinstance(v, str) else f"{f} {v:.4g}" for f, v in row.items())
            lines.append(f"* {name}: " + ", ".join(fields))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything; the whole training only if it fits")
    parser.add_argument("--stages", default=",".join(LIMITS))
    parser.add_argument("--rehearse", action="store_true", help="tiny, without a GPU")
    options = parser.parse_args()
    stages = options.stages.split(",")
    if unknown := set(stages) - set(LIMITS):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(LIMITS)}")
    if not options.rehearse and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: PyTorch finds no GPU here")
    end = time.monotonic() + 60 * options.minutes
    date = datetime.datetime.now().strftime("%Y-%m-%d-%H%M")
    gpu = "rehearsal" if options.rehearse else torch.cuda.get_device_name()
    machine = re.sub(r"\W+", "-", f"{gpu} {platform.node()}").lower()
    report: dict[str, Any] = {
        "gpu": gpu, "date": date, "environment": doctor.environment(), "promises": [], "results": {}, "failures": {},
        "seconds": {},
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"gpu-{machine}-{date}.json"
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages:
            begin = time.monotonic()
            log, rehearse = options.out / f"{stage}.log", ["--rehearse", folder] * options.rehearse
            seconds = min(LIMITS[stage] * (3 if options.rehearse else 1), end - begin)
            rows, failure = measure(stage, seconds, log, rehearse) if seconds > 5 else ({}, "no time left")
            report["results"][stage] = rows
            report["failures"] |= {stage: failure} if failure else {}
            report["seconds"][stage] = time.monotonic() - begin
            report["promises"] = promised.gpu(report["results"])
            path.write_text(json.dumps(report, indent=1))
            path.with_suffix(".md").write_text(markdown(report))
            print(f"{stage}: {time.monotonic() - begin:.0f} s {'FAILED: ' + failure if failure else ''}", flush=True)
    print(path.with_suffix(".md").read_text())
    sys.exit(bool(report["failures"]))


if __name__ == "__main__":
    main()
