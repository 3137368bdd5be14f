"""Marks of the inspection on a data set with known defects: `python benchmarks/inspection.py SET --out rows.json`.

SET is a folder of classes with a `manifest.json` (file, kind, severity, depth_mm per scan), as the simulated sets are written. Every class
is fitted on its good scans at the defaults, every test scan inspected; tables go to stdout. docs/inspect.md has the figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r3dad.detector import Detector
from r3dad.inspection import Inspection
from r3dad.inspection.regions import area_of
from r3dad.neighbours import Neighbours
from r3dad.scans import list_classes, read_scan, read_truth

KINDS = ("bulge", "sink", "scratch", "crack", "hole", "broken", "burr", "bent")
MARKED = ("bulge", "sink", "scratch")


def truth_of(detector: Detector, made: Inspection, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (scan's frame) and area (mm^2) of the labelled points, even where the scan is dense in places."""
    surface, frame = detector.recipe.surface, detector.recipe.frame
    assert made.alignment is not None
    inside = (
        made.points @ made.alignment.matrix[:3, :3].T + made.alignment.matrix[:3, 3] - frame.centre.numpy()
    ) / frame.scale
    far, owner = Neighbours(inside)(surface.points)
    weight = np.bincount(owner, area_of(surface) * labels[owner] * (far < 0.03), len(labels))
    if not weight.sum():
        return made.points[labels].mean(0), 0.0
    return weight @ made.points / weight.sum(), float(weight.sum()) * frame.scale**2


def row_of(detector: Detector, made: Inspection, fact: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
    """What the tables need of one scan. Found: a region whose marker lies within 2 % of the diagonal of a labelled point, or its centre
    within 5 % of theirs; of several the largest."""
    row = {
        "kind": fact["kind"],
        "severity": fact["severity"],
        "verdict": made.verdict,
        "alarm": bool(made.score > made.threshold),
        "regions": len(made.defects),
        "seconds": made.seconds,
    }
    if fact["kind"] == "good" or not made.defects or not labels.any():
        return row
    centre, area = truth_of(detector, made, labels)
    diagonal, near = detector.recipe.frame.scale, Neighbours(made.points[labels])
    hits = [
        d
        for d in made.defects
        if near(d.marker[None])[0][0] < 0.02 * diagonal or np.linalg.norm(d.centre_scan - centre) < 0.05 * diagonal
    ]
    if hits:
        d = max(hits, key=lambda d: d.area_mm2)
        row |= {
            "guess": d.kind,
            "off": float(np.linalg.norm(d.centre_scan - centre)) / diagonal,
            "depth": None if d.depth_mm is None else abs(d.depth_mm) / fact["depth_mm"],
            "area": d.area_mm2 / area if area else None,
        }
    return row


def tables(rows: list[dict[str, Any]]) -> str:
    """Markdown: good scans, then a row per kind and severity, then the marks."""
    good = [r for r in rows if r["kind"] == "good"]

    def share(what: str, of: list[dict[str, Any]]) -> str:
        return f"{sum(r['verdict'] == what for r in of)}"

    lines = [
        f"good scans: {len(good)}; score above the threshold {sum(r['alarm'] for r in good)}; NG {share('NG', good)}, "
        f"REVIEW {share('REVIEW', good)}, NOT THIS PART {share('NOT THIS PART', good)}; "
        f"{np.mean([r['regions'] for r in good]):.2f} false regions per scan",
        "",
        "| kind | severity | scans | OK (missed) | REVIEW | region found | depth error | area error | centre within 2 % | guesses |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for severity in (0, 1, 2):
            these = [r for r in rows if r["kind"] == kind and r["severity"] == severity]
            if these:
                lines.append(_line(kind, severity, these))
    marked = [r for r in rows if r["kind"] in MARKED and r["severity"] and "off" in r]
    depth = [abs(r["depth"] - 1) for r in marked if r["depth"] is not None]
    lines += [
        "",
        f"marks (bulge, sink, scratch, severities 1 and 2, {len(marked)} found): median depth error {np.median(depth):.1%}, "
        f"centre within 2 % of the diagonal {np.mean([r['off'] < 0.02 for r in marked]):.0%}; "
        f"median {np.median([r['seconds'] for r in rows]):.2f} s a scan",
    ]
    return "\n".join(lines)


def _line(kind: str, severity: int, these: list[dict[str, Any]]) -> str:
    found = [r for r in these if "off" in r]
    depth = [abs(r["depth"] - 1) for r in found if r["depth"] is not None]
    area = [abs(r["area"] - 1) for r in found if r["area"] is not None]
    guesses = sorted({r["guess"] for r in found}, key=lambda g: -sum(r["guess"] == g for r in found))
    said = ", ".join(f"{sum(r['guess'] == g for r in found)} {g}" for g in guesses)
    cells = [kind, str(severity), str(len(these)), str(sum(r["verdict"] == "OK" for r in these))]
    cells += [str(sum(r["verdict"] == "REVIEW" for r in these)), str(len(found))]
    cells += [f"{np.median(depth):.0%}" if depth else "-", f"{np.median(area):.0%}" if area else "-"]
    cells += [f"{np.mean([r['off'] < 0.02 for r in found]):.0%}" if found else "-", said]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Fit, inspect, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument(
        "--out", type=Path, required=True, help="rows as JSON; classes that are there are not run again"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    facts = {r["file"]: r for r in json.loads((args.set / "manifest.json").read_text())["scans"]}
    done = json.loads(args.out.read_text()) if args.out.exists() else {}
    for item in list_classes(args.set):
        if item.name in done:
            continue
        detector = Detector().fit(item.train)
        rows = []
        for test in item.test:
            scan = read_scan(test.path)
            labels = read_truth(test, scan.points)
            fact = facts[str(test.path.relative_to(args.set))]
            rows.append(row_of(detector, detector.inspect(test.path), fact, np.asarray(labels, bool)))
        done[item.name] = rows
        args.out.write_text(json.dumps(done))
        print(item.name, flush=True)
    print(tables([row for rows in done.values() for row in rows]))


if __name__ == "__main__":
    main()
