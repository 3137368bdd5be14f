"""Counters of the server in the text format of Prometheus (version 0.0.4), written by hand: a dozen series need no library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

BUCKETS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
"""Upper ends in seconds."""


class Metrics:
    """What was asked and answered since the start. Used from the event loop alone."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Note an answer. seconds: from the request's head to the end of the answer."""
        self._answers[endpoint, status] += 1
        if endpoint == "inspect" and status == 200:
            self._seconds += seconds
            for bucket in BUCKETS:
                self._buckets[bucket] += seconds <= bucket

    def inspected(self, model: str, verdict: str) -> None:
        """Note a verdict."""
        self._verdicts[model, verdict] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]], memory: Mapping[str, int]) -> str:
        """The page. gauges: name -> (help, value); memory: process -> resident bytes."""
        lines: list[str] = []

        def series(name: str, kind: str, words: str, values: Iterable[tuple[str, float]]) -> None:
            lines.extend([f"# HELP {name} {words}", f"# TYPE {name} {kind}"])
            lines.extend(f"{name}{labels} {value:g}" for labels, value in values)

        answers = sorted(self._answers.items())
        series(
            "r3dad_answers_total", "counter", "Answers by endpoint and status.",
            [(f'{{endpoint="{e}",status="{s}"}}', n) for (e, s), n in answers],
        )  # fmt: skip
        series(
            "r3dad_inspections_total", "counter", "Inspections by model and verdict.",
            [(f'{{model="{_label(m)}",verdict="{v}"}}', n) for (m, v), n in sorted(self._verdicts.items())],
        )  # fmt: skip
        done = self._answers["inspect", 200]
        name = "r3dad_inspect_seconds"
        lines.extend([f"# HELP {name} Seconds from request to answer.", f"# TYPE {name} histogram"])
        lines.extend(f'{name}_bucket{{le="{b:g}"}} {self._buckets[b]}' for b in BUCKETS)
        lines.extend([f'{name}_bucket{{le="+Inf"}} {done}', f"{name}_sum {self._seconds:.6f}", f"{name}_count {done}"])
        for gauge, (words, value) in gauges.items():
            series(gauge, "counter" if gauge.endswith("_total") else "gauge", words, [("", value)])
        series(
            "r3dad_resident_bytes", "gauge", "Resident memory by process.",
            [(f'{{process="{p}"}}', n) for p, n in memory.items()],
        )  # fmt: skip
        return "\n".join(lines) + "\n"


def resident(pid: int | str) -> int:
    """Resident bytes of a process, 0 where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")), 0)


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
