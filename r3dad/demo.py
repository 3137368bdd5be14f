"""``r3dad demo``: parts that the package makes itself, from good scans to the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from r3dad import __version__
from r3dad.detector import Detector
from r3dad.outcome import Outcome, figures, predict_file, tabulated
from r3dad.report import write_report
from r3dad.scans import list_classes
from r3dad.simulate.scan import write_demo

FAMILIES = ("bracket", "gear", "sheet")
DEFECTS = ("bump", "dent", "scratch", "hole", "chip", "burr")
SEVERITY = 0.7
"""Depth of the defects: about 1.8 % of the part's diagonal, against noise of 0.05 to 0.15 %."""


def run(
    out: Path,
    *,
    recipe: str,
    settings: dict[str, Any],
    device: str | None = None,
    progress: Callable[[float, str], None],
    families: tuple[str, ...] = FAMILIES,
) -> tuple[dict[str, Any], Path]:
    """Make scans, fit each part on its good ones, score the rest, write the report.

    Args:
        out: folder; gets ``scans/`` (in the Anomaly-ShapeNet layout), ``models/`` and ``report/``.
        progress: called with the share done and a few words.

    Returns:
        Figures per class and their mean, as ``evaluate`` gives them, and the path of the report's page.
    """
    progress(0.0, "making scans")
    write_demo(out / "scans", families, good=3, test=DEFECTS, severity=SEVERITY)
    classes = list_classes(out / "scans")
    done: dict[str, dict[str, Any]] = {}
    kept: list[tuple[Outcome, float]] = []
    for i, item in enumerate(classes):

        def step(share: float, words: str, i: int = i, name: str = item.name) -> None:
            progress((i + share) / len(classes), f"{name} {words}")

        detector = Detector(recipe, device=device, **settings)
        detector.fit(item.train, progress=lambda share, words: step(0.6 * share, f"fit {words}"))
        detector.save(out / "models" / f"{item.name}.safetensors")
        outcomes = []
        for j, test in enumerate(item.test):
            step(0.6 + 0.4 * j / len(item.test), f"score {test.path.stem}")
            outcomes.append(predict_file(detector, test.path, test))
        done[item.name] = figures(outcomes)
        kept += [(outcome, detector.threshold) for outcome in outcomes]  # every part has its own
    page = write_report(
        out / "report",
        (replace(outcome.report_item(), threshold=own) for outcome, own in kept),
        title="r3dad demo",
        settings={"recipe": recipe, "parts": ", ".join(families), "good scans per part": "4", "r3dad": __version__},
        threshold=None,
    )
    progress(1.0, "done")
    return {**tabulated(done), "skipped": {}}, page
