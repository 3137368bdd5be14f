"""Parts made of sheet or extrusion against solid ones: normals that point the wrong way, and how well defects are found.

    python benchmarks/thin_walls.py --out FOLDER [--designs 1] [--thin a,b] [--solid c,d] [--points 8000] [--set most=36000] [--json F]

One design per family, with seeds from 100 on, which the shipped scorer never saw: 4 good scans to fit, 6 good and 12
defective ones (a kind each) to test, all whole scans at any pose. A normal is flipped where it points into the material of the
nominal part. depth: how far a defect moves the surface (mean of its 20 deepest points) over the scan's noise, median of the
defects; the second table compares defects of like depth. ``--exact`` puts the points and normals of the nominal part in place
of the fused surface's: what is left is not lost to them (verdicts stay calibrated to the fused one).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r3dad import metrics  # noqa: E402
from r3dad.detector import Detector  # noqa: E402
from r3dad.recipes.ground import Ground  # noqa: E402
from r3dad.scans import write_atomic  # noqa: E402
from r3dad.simulate.parts import Part, part  # noqa: E402
from r3dad.simulate.scan import SimulatedScan, scan  # noqa: E402
from r3dad.surface import Surface  # noqa: E402

THIN = "profile,cup,tray,heatsink,sheet"
SOLID = "bracket,flange,shaft,manifold,clevis"
KINDS = "bump,dent,scratch,crack,hole,chip,break,burr,bend,pits,wear,blob".split(",")
FIRST, TRAIN, GOOD, STEP, DEEPEST = 100, 4, 6, 0.002, 20
FIGURES = ("o_auroc", "p_auroc", "p_ap")
BINS = (0.0, 3.0, 6.0, 12.0, 24.0, np.inf)
"""Of depths, in multiples of the noise."""


def simulated(design: Part, file: Path, points: int) -> list[SimulatedScan]:
    """The good scans to fit (the first in the part's own frame), then the test scans; kept in ``file``."""
    if file.exists():
        with np.load(file) as kept:
            count = len(kept["kinds"])
            return [
                SimulatedScan(
                    **{k: kept[f"{k}{i}"] for k in ("points", "labels", "normals", "depth_mm", "pose", "missing")},
                    noise_mm=float(kept["noise_mm"][i]),
                    kind=str(kept["kinds"][i]),
                )
                for i in range(count)
            ]
    kinds = [None] * (TRAIN + GOOD) + list(KINDS)
    scans = [
        scan(design, seed=i, points=points, defect=kind, pose="random" if i else "fixed")
        for i, kind in enumerate(kinds)
    ]
    arrays = {f"{k}{i}": v for i, s in enumerate(scans) for k, v in vars(s).items() if isinstance(v, np.ndarray)}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, kinds=[s.kind for s in scans], noise_mm=[s.noise_mm for s in scans], **arrays)
    return scans


def flipped(design: Part, recipe) -> float:
    """Share of the surface's normals that point into the material of the nominal part (in whose frame the recipe's is)."""
    points = recipe.surface.points * recipe.frame.scale + recipe.frame.centre.numpy()
    step = STEP * design.diagonal * recipe.surface.normals
    return float((design.sdf(points + step) < design.sdf(points - step)).mean())


def make_exact(design: Part, recipe) -> None:
    """The surface's points moved onto the nominal part, with its normals (whose frame the recipe's is)."""
    s, centre, scale = recipe.surface, recipe.frame.centre.numpy(), recipe.frame.scale
    q = s.points * scale + centre
    q = q - design.sdf(q)[:, None] * design.shape.normals(q)
    recipe.surface = Surface((q - centre) / scale, design.shape.normals(q), s.curvature, s.sees, s.spacing)
    recipe._ground = Ground(recipe.surface)


def depth_of(s: SimulatedScan) -> float:
    """How far a scan's defect moves the surface, in multiples of the noise."""
    return float(np.sort(np.abs(s.depth_mm))[-DEEPEST:].mean() / s.noise_mm)


def measured(family: str, seed: int, options: argparse.Namespace) -> dict:
    """Figures of one design."""
    kept = options.out / f"{family}{seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    design = part(family, seed)
    scans = simulated(design, options.out / "scans" / f"{family}{seed}.npz", options.points)
    settings = {k: json.loads(v) for k, v in (s.split("=", 1) for s in options.set)}
    recipe = Detector(device="cpu", **settings).fit([s.points for s in scans[:TRAIN]]).recipe
    test = scans[TRAIN:]
    if options.exact:
        make_exact(design, recipe)
    results = [recipe.predict(s.points) for s in test]
    bad = [s.kind != "good" for s in test]
    found = metrics.summary(
        bad,
        [r.score for r in results],
        [s.points for s in test],
        [s.labels for s in test],
        [r.point_scores for r in results],
    )
    alarms = [bool(r.score > recipe.threshold) for r in results]
    figures = {
        **found,
        "flipped": flipped(design, recipe),
        "depth": float(np.median([depth_of(s) for s in test if s.kind not in ("good", "hole")])),
        "note": recipe.note,
        "refused": sum(not r.is_this_part for r in results),
        "scans": [
            {
                "kind": s.kind,
                "depth": depth_of(s),
                "score": r.score,
                "flagged": a,
                "p_auroc": metrics.auroc(s.labels, r.point_scores),
                "p_ap": metrics.average_precision(s.labels, r.point_scores),
            }
            for s, r, a in zip(test, results, alarms, strict=True)
        ],
    }
    write_atomic(kept, json.dumps(figures, indent=1))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--thin", default=THIN)
    parser.add_argument("--solid", default=SOLID)
    parser.add_argument("--designs", type=int, default=1)
    parser.add_argument("--points", type=int, default=8000, help="of a scan")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for the fit")
    parser.add_argument("--exact", action="store_true", help="points and normals of the nominal part")
    parser.add_argument("--simulate", action="store_true", help="write the scans and stop")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seeds = range(FIRST, FIRST + options.designs)
    groups = {"thin": options.thin.split(","), "solid": options.solid.split(",")}
    if options.simulate:
        for family in sum(groups.values(), []):
            for seed in seeds:
                simulated(part(family, seed), options.out / "scans" / f"{family}{seed}.npz", options.points)
                print(family, seed, file=sys.stderr, flush=True)
        return
    print("| | design | flipped normals | depth | O | P | P-AP | found | false alarms |\n" + "|---" * 9 + "|")
    tables = {}
    for group, families in groups.items():
        rows = {f"{f}{s}": measured(f, s, options) for f in families for s in seeds}
        for name, r in rows.items():
            flags = {
                good: [s["flagged"] for s in r["scans"] if (s["kind"] == "good") == good] for good in (True, False)
            }
            cells = [
                f"{r[k]:.3f} ({r['intervals'][k][0]:.3f}-{r['intervals'][k][1]:.3f})" for k in FIGURES
            ]  # 95 %, over scans
            print(
                f"| {group} | {name} | {r['flipped']:.1%} | {r['depth']:.1f} | {' | '.join(cells)}"
                f" | {sum(flags[False])} of {len(flags[False])}"
                f" | {sum(flags[True])} of {len(flags[True])} |"
            )
        mean = {k: float(np.mean([r[k] for r in rows.values()])) for k in (*FIGURES, "flipped", "depth")}
        spread = {
            k: float(np.std([r[k] for r in rows.values()], ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else 0
            for k in FIGURES
        }
        print(
            f"| {group} | mean of {len(rows)} | {mean['flipped']:.1%} | {mean['depth']:.1f} | "
            + " | ".join(f"{mean[k]:.3f} ± {spread[k]:.3f}" for k in FIGURES)
            + " | | |"
        )
        tables[group] = {"designs": rows, "mean": mean, "standard_error": spread}
    print("\n| depth / noise |" + "".join(f" {g}: found | P | P-AP |" for g in tables) + "\n" + "|---" * 7 + "|")
    for low, high in zip(BINS, BINS[1:]):
        cells = []
        for table in tables.values():
            scans = [s for r in table["designs"].values() for s in r["scans"]]
            these = [s for s in scans if s["kind"] not in ("good", "hole") and low <= s["depth"] < high]
            mean = [np.mean([s[k] for s in these if s[k] is not None] or np.nan) for k in ("p_auroc", "p_ap")]
            cells += [f"{sum(s['flagged'] for s in these)} of {len(these)}", *(f"{x:.3f}" for x in mean)]
        print(f"| {low:g} to {high:g} | {' | '.join(cells)} |")
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
