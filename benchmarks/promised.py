"""The form of a promise and its figure, {name, value, promise, unit, holds}, and what is promised on a GPU; light to import."""

from __future__ import annotations

from typing import Any

Rows = list[dict[str, Any]]


def at_least(name: str, value: float | None, promise: float, unit: str) -> dict[str, Any]:
    """``value`` None: not measured, and then it neither holds nor fails."""
    holds = None if value is None else value >= promise
    return {"name": name, "value": value, "promise": f">= {promise:g}", "unit": unit, "holds": holds}


def at_most(name: str, value: float | None, promise: float, unit: str) -> dict[str, Any]:
    """See :func:`at_least`."""
    holds = None if value is None else value <= promise
    return {"name": name, "value": value, "promise": f"<= {promise:g}", "unit": unit, "holds": holds}


# On an H200: what is promised, how, how much, its unit, and where benchmarks/gpu.py has the figure: stage, row, field.
GPU = (
    ("reverse diffusion, bfloat16, batch of 8", at_most, 1.0, "ms a cloud", ("reverse", "best, in batches", "ms_a_cloud")),
    ("reverse diffusion, the same, Triton", at_most, 1.7, "ms a cloud", ("reverse", "triton, bfloat16, in batches", "ms_a_cloud")),
    ("reverse diffusion, bfloat16, alone", at_most, 2.0, "ms", ("reverse", "best, alone", "ms_a_cloud")),
    ("reverse diffusion, batch of 8: peak memory over weights", at_most, 64, "MB", ("reverse", "best, in batches", "peak_mb")),
    ("knn, 64 of 4096", at_most, 40, "us a cloud", ("neighbours", "knn, best, in batches", "us_a_cloud")),
    ("cluster distance", at_most, 60, "us a cloud", ("neighbours", "cluster_distance, best, in batches", "us_a_cloud")),
    ("scan to score in batches", at_least, 800, "scans a second", ("scans", "in large batches", "scans_a_second")),
    ("scan to score alone", at_most, 5, "ms", ("scans", "alone", "ms")),
    ("training of one class", at_most, 180, "s", ("training", "one class", "seconds")),
)  # fmt: skip


def gpu(results: dict[str, dict[str, dict[str, Any]]]) -> Rows:
    """Each GPU promise with what was measured: results by stage, row and field."""
    return [
        judge(name, results.get(stage, {}).get(row, {}).get(field), promise, unit)
        for name, judge, promise, unit, (stage, row, field) in GPU
    ]


def table(rows: Rows) -> str:
    """Markdown."""
    lines = ["| promise | value | promised | unit | holds |", "|---|---|---|---|---|"]
    for row in rows:
        value = "not measured" if row["value"] is None else f"{row['value']:.3g}"
        holds = {True: "yes", False: "no", None: "-"}[row["holds"]]
        lines.append(f"| {row['name']} | {value} | {row['promise']} | {row['unit']} | {holds} |")
    return "\n".join(lines)
