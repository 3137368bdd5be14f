"""From which depth on a defect is found: bumps, dents and missing patches of known size put on good test scans of a data set.

    python benchmarks/detection_limit.py SET [--classes a,b] [--scans 6] [--out limit.json]

A round patch of 0.5, 1, 2 or 4 % of the part's area, its centre a random point of the scan, is raised or sunk along the surface's normals
(cos^2 over the radius) by so many times the scan's noise (median distance to the surface), or left out. Found: the scan's score is above
the model's threshold, which is taken from its good training scans for 5 % false alarms.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r3dad.detector import Detector  # noqa: E402
from r3dad.inspection.regions import area_of  # noqa: E402
from r3dad.scans import list_classes, read_scan  # noqa: E402

SHARES, DEPTHS = (0.005, 0.01, 0.02, 0.04), (1.0, 2.0, 4.0, 8.0, 16.0)


def found(recipe, points: np.ndarray, rng: np.random.Generator) -> dict[str, bool]:
    """Whether each defect on a good scan [M, 3] (mm) is found, by ``kind share depth``."""
    result = recipe.predict(points)
    radius = np.sqrt(np.array(SHARES) * area_of(recipe.surface).sum() / np.pi) * recipe.frame.scale
    normals = recipe.surface.normals[result.near] @ result.pose.matrix[:3, :3]  # in the scan's frame
    noise = np.median(np.abs(result.deviation))
    centre = int(rng.integers(len(points)))
    away = np.linalg.norm(points - points[centre], axis=1)
    facing = normals @ normals[centre] > 0  # not the other side of a thin wall
    said = {"good": bool(result.score > recipe.threshold)}
    for share, r in zip(SHARES, radius, strict=True):
        patch = (away < r) & facing
        said[f"missing {share}"] = bool(recipe.predict(points[~patch]).score > recipe.threshold)
        shape = np.where(patch, np.cos(np.pi / 2 * np.minimum(away / r, 1)) ** 2, 0.0)
        for kind, sign in (("bump", 1), ("dent", -1)):
            for depth in DEPTHS:
                moved = points + (sign * depth * noise * shape)[:, None] * normals
                said[f"{kind} {share} {depth}"] = bool(recipe.predict(moved).score > recipe.threshold)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--classes")
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, bool]] = []
    for item in list_classes(options.root, classes=options.classes.split(",") if options.classes else None):
        recipe = Detector().fit(item.train).recipe
        good = [test.path for test in item.test if test.good][: options.scans]
        for i, path in enumerate(good):
            rows.append(found(recipe, read_scan(path).points, np.random.default_rng([i, *item.name.encode()])))
            print(f"{item.name}: {path.name}", file=sys.stderr, flush=True)
    shares = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    print(f"{len(rows)} scans; flagged without a defect: {shares['good']:.0%}\n")
    print(
        "| share of the surface | missing | "
        + " | ".join(f"{k} {d:g}x noise" for k in ("bump", "dent") for d in DEPTHS)
        + " |"
    )
    print("|" + "---|" * (2 + 2 * len(DEPTHS)))
    for share in SHARES:
        cells = [shares[f"{k} {share} {d}"] for k in ("bump", "dent") for d in DEPTHS]
        print(f"| {share:.1%} | " + " | ".join(f"{v:.0%}" for v in (shares[f"missing {share}"], *cells)) + " |")
    if options.out:
        options.out.write_text(json.dumps({"scans": len(rows), "found": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()
