"""How things are timed: every contender once per round, in one process, and the median of the rounds' ratios.

On one thread the clock is the thread's own processor time: a shared machine takes a core away for milliseconds at a time, which wall
time counts and processor time does not. With several threads it is wall time, to be measured in quiet moments only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from r3dad import _cpu


@dataclass
class Contender:
    """One way to do a workload's work.

    Attributes:
        run: does it and returns the result. slow: compiles for a while at first use. ceiling: which probe bounds it
        (an instruction set), None when no probe does.
    """

    run: Callable[[], Any]
    ceiling: str | None = None
    slow: bool = False


@dataclass
class Workload:
    """What is measured.

    Attributes:
        items: points (times steps) that the rate counts. flop: floating-point operations, None where that says little.
        error: largest difference from float64 over the largest value, of a result; None where a result does not compare.
        ours: names of our contenders; the others are baselines. absent: baselines that cannot run here, and why.
    """

    name: str
    items: int
    contenders: dict[str, Contender]
    ours: tuple[str, ...]
    flop: float | None = None
    error: Callable[[Any], float | None] = lambda result: None
    absent: dict[str, str] = field(default_factory=dict)


# What an instruction set was written for, where that is not float32.
PRECISIONS = {"avx512vnni": "int8", "avx512bf16": "bfloat16", "amxbf16": "bfloat16"}


def with_isa(isa: str, run: Callable[[], Any]) -> Callable[[], Any]:
    """``run`` on an instruction set."""

    def call() -> Any:
        before = _cpu.isa()
        _cpu.use_isa(isa)
        try:
            return run()
        finally:
            _cpu.use_isa(before)

    return call


def ceiling(isa: str, seconds: float = 0.004) -> float:
    """FLOP/s of products on registers alone, right now, on this thread."""
    loops = int(seconds * 2e8)
    before = _cpu.isa()
    _cpu.use_isa(isa)
    try:
        begin = time.thread_time()
        flop = _cpu.probe(("float32", "bfloat16", "int8").index(PRECISIONS.get(isa, "float32")), loops)
        return flop / (time.thread_time() - begin)
    finally:
        _cpu.use_isa(before)


def interleaved(
    contenders: dict[str, Contender], rounds: int, threads: int = 1
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every contender in every round, and the share of its ceiling (probed right before and after each run)."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    shares: dict[str, list[float]] = {name: [] for name in contenders}
    for c in contenders.values():
        c.run()
    for _ in range(rounds):
        for name, c in contenders.items():
            before = ceiling(c.ceiling) if c.ceiling else 0.0
            begin = clock()
            c.run()
            seconds[name].append(clock() - begin)
            if c.ceiling:
                shares[name].append(seconds[name][-1] * (before + ceiling(c.ceiling)) / 2)
    return seconds, shares


def ratio(seconds: dict[str, list[float]], slower: str, faster: str) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(seconds[slower], seconds[faster]))


def rows(workload: Workload, rounds: int = 7, slow: bool = False) -> Iterator[dict[str, Any]]:
    """A table row per contender: median, rates, share of the ceiling, error, and ours over it."""
    chosen = {n: c for n, c in workload.contenders.items() if slow or not c.slow}
    seconds, shares = interleaved(chosen, rounds)
    for name, contender in chosen.items():
        median = statistics.median(seconds[name])
        row: dict[str, Any] = {
            "workload": workload.name,
            "contender": name,
            "ms": median * 1e3,
            "items_per_s": workload.items / median,
        }
        if workload.flop:
            row["gflops"] = workload.flop / median * 1e-9
        if workload.flop and shares[name]:
            row["of_ceiling"] = workload.flop / statistics.median(shares[name])
        row["error"] = workload.error(contender.run())
        row["over"] = {own: ratio(seconds, name, own) for own in workload.ours if own in chosen and own != name}
        yield row


def table(rows_of: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| workload | contender | median ms | M/s | GFLOP/s | of ceiling | error | time over ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows_of:
        over = ", ".join(f"{ratio:.2f}x {own}" for own, ratio in r["over"].items())
        cells = (
            *(r["workload"], r["contender"], f"{r['ms']:.2f}", f"{r['items_per_s'] * 1e-6:.3g}"),
            *(f"{r['gflops']:.0f}" if "gflops" in r else "", f"{r['of_ceiling']:.1%}" if "of_ceiling" in r else ""),
            *(f"{r['error']:.1e}" if r["error"] is not None else "", over),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cases(workloads: list[Workload]) -> list[Any]:
    """pytest parameters: every contender, slow ones marked, absent ones skipped with their reason."""
    found = []
    for w in workloads:
        for name, c in w.contenders.items():
            marks = [pytest.mark.slow] if c.slow else []
            found.append(pytest.param(w, name, id=f"{w.name}-{name}".replace(" ", "_"), marks=marks))
        for name, reason in w.absent.items():
            found.append(
                pytest.param(w, name, id=f"{w.name}-{name}".replace(" ", "_"), marks=pytest.mark.skip(reason=reason))
            )
    return found


def run(benchmark, workload: Workload, name: str) -> None:
    """One pytest-benchmark entry; the result is checked before it is timed."""
    contender = workload.contenders[name]
    benchmark.group = workload.name
    benchmark.extra_info["isa"] = _cpu.isa()
    benchmark.extra_info["error"] = error = workload.error(contender.run())
    assert error is None or error < 0.1
    benchmark.pedantic(contender.run, rounds=5, warmup_rounds=1)
    if benchmark.stats:
        median = benchmark.stats.stats.median
        benchmark.extra_info["items_per_s"] = workload.items / median
        if workload.flop:
            benchmark.extra_info["gflops"] = workload.flop / median * 1e-9
