"""From which depth on a defect is found: bumps, dents, grooves and missing patches of known size put on good test scans of a data set.

    python benchmarks/detection_limit.py WHOLE [--sided SET] --out FOLDER [--classes a,b] [--sided-classes c] [--scans 4] [--picture P]

A round patch of 0.5, 1, 2 or 4 % of the part's area, its centre a random point of the scan, is raised or sunk along the surface's normals
(cos^2 over the radius) by so many times the scan's noise (median distance to the surface), or left out; a groove (V, 30 % of the diagonal
long and 2.5 % wide, in a random direction along the surface at a random point, as far as that face goes) is sunk. Found: the scan's score
is above the model's threshold, which is taken from its good training scans for 5 % false alarms. The oracle is the plain score
(`benchmarks.oracle`) of the same scans and defects, given the distances to the true mesh (``truth/<scan>.npz``); its threshold is the 95 %
quantile of all good test scans, each in units of the median of its class's. In the one-sided scans of ``--sided`` patches are left out, the
centre drawn among all points, and among those whose surroundings (1.3 radii) the scan covers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.oracle import FLOOR, SHARE, from_mesh, plain  # noqa: E402
from r3dad.detector import Detector  # noqa: E402
from r3dad.inspection.regions import area_of  # noqa: E402
from r3dad.neighbours import Neighbours  # noqa: E402
from r3dad.scans import DatasetClass, list_classes, read_scan, write_atomic  # noqa: E402
from r3dad.scorer import top  # noqa: E402
from r3dad.views import plane_axes  # noqa: E402

SHARES, DEPTHS = (0.005, 0.01, 0.02, 0.04), (2.0, 4.0, 8.0, 12.0, 16.0)
LENGTH, WIDTH = 0.3, 0.025
SURROUNDINGS, COVERED, TRIES = 1.3, 0.98, 300


def shapes(
    points: np.ndarray, normals: np.ndarray, centre: int, radii: np.ndarray, diagonal: float, turn: float
) -> dict[str, np.ndarray]:
    """By name: how far a defect of depth 1 moves each point along its normal ``[N]``."""
    off = points - points[centre]
    away, facing = np.linalg.norm(off, axis=1), normals @ normals[centre]
    found = {}
    for share, r in zip(SHARES, radii, strict=True):
        bump = np.where((away < r) & (facing > 0), np.cos(np.pi / 2 * np.minimum(away / r, 1)) ** 2, 0.0)
        found |= {f"bump {share}": bump, f"dent {share}": -bump}
    a, b = plane_axes(normals[centre])
    along, across = (off @ (np.cos(turn) * u + np.sin(turn) * v) for u, v in ((a, b), (b, -a)))
    inside = (np.abs(along) < LENGTH * diagonal / 2) & (facing > 0.5)
    found["groove"] = -np.where(inside, np.maximum(1 - np.abs(across) / (WIDTH * diagonal / 2), 0), 0.0)
    return found


def radii_of(recipe) -> np.ndarray:
    """Radii of the patches (mm)."""
    return np.sqrt(np.array(SHARES) * area_of(recipe.surface).sum() / np.pi) * recipe.frame.scale


def placed(recipe, points: np.ndarray):
    """The result of the scan as it is, and the surface's normals at its points, in the scan's frame."""
    result = recipe.predict(points)
    return result, recipe.surface.normals[result.near] @ result.pose.matrix[:3, :3]


class Oracle:
    """Plain scores of a class's good test scans, their distances to the true mesh known."""

    def __init__(self, item: DatasetClass) -> None:
        self._folder = item.train[0].parent.parent / "truth"
        self._known = {test.path.stem: self._read(test.path) for test in item.test if test.good}
        self._usual = 1.0
        scores = [self.score(stem, 0) for stem in self._known]
        self._usual = float(np.median(scores))
        self.good = [score / self._usual for score in scores]

    def _read(self, path: Path) -> tuple[np.ndarray, np.ndarray, float]:
        points = read_scan(path).points
        with np.load(self._folder / f"{path.stem}.npz") as truth:
            vertices = truth["vertices"]
            scale = float(truth["noise_mm"]) + FLOOR * float(np.linalg.norm(np.ptp(vertices, axis=0)))
            return points, from_mesh(points, vertices, truth["faces"]), scale

    def score(self, stem: str, moved: np.ndarray | int) -> float:
        """Of the scan whose points are moved by ``moved [N, 3]``, in units of the class's good scans."""
        points, vector, scale = self._known[stem]
        return top(plain(points, vector + moved, scale), SHARE) / self._usual


def on_whole(recipe, oracle: Oracle, path: Path, rng: np.random.Generator) -> dict[str, bool | float]:
    """Whether the recipe finds each defect on a good scan, and the oracle's score, by ``method kind [share] [depth]``."""
    points = read_scan(path).points
    result, normals = placed(recipe, points)
    noise = np.median(np.abs(result.deviation))
    centre, turn = int(rng.integers(len(points))), float(rng.uniform(0, np.pi))
    radii = radii_of(recipe)
    said = {
        "recipe good": bool(result.score > recipe.threshold),
        "oracle good": oracle.score(path.stem, 0),
    }
    away = np.linalg.norm(points - points[centre], axis=1)
    for share, r in zip(SHARES, radii, strict=True):
        patch = (away < r) & (normals @ normals[centre] > 0)  # not the other side of a thin wall
        said[f"recipe missing {share}"] = bool(recipe.predict(points[~patch]).score > recipe.threshold)
    for name, shape in shapes(points, normals, centre, radii, recipe.frame.scale, turn).items():
        for depth in DEPTHS:
            moved = (depth * noise * shape)[:, None] * normals
            said[f"recipe {name} {depth}"] = bool(recipe.predict(points + moved).score > recipe.threshold)
            said[f"oracle {name} {depth}"] = oracle.score(path.stem, moved)
    return said


def on_sided(recipe, path: Path, rng: np.random.Generator) -> dict[str, bool]:
    """Whether missing patches on a good one-sided scan are found, by ``place missing share``."""
    points = read_scan(path).points
    result, normals = placed(recipe, points)
    said = {"all good": bool(result.score > recipe.threshold)}
    surface, scale = recipe.surface, recipe.frame.scale
    spacing = np.median(Neighbours(result.fitted)(result.fitted, 9)[0][:, 8])
    covered = Neighbours(result.fitted)(surface.points)[0] < 1.5 * spacing
    order = rng.permutation(len(points))
    for share, r in zip(SHARES, radii_of(recipe), strict=True):
        inside = [i for i in order[:TRIES] if _surrounded(surface, covered, result, int(i), SURROUNDINGS * r / scale)]
        for place, centres in (("all", order[:1]), ("inside", inside[:1])):
            for centre in centres:
                patch = (np.linalg.norm(points - points[centre], axis=1) < r) & (normals @ normals[centre] > 0)
                said[f"{place} missing {share}"] = bool(recipe.predict(points[~patch]).score > recipe.threshold)
    return said


def _surrounded(surface, covered: np.ndarray, result, centre: int, reach: float) -> bool:
    """Whether the scan covers the surface around one of its points."""
    around = np.linalg.norm(surface.points - result.fitted[centre], axis=1) < reach
    around &= surface.normals @ surface.normals[result.near[centre]] > 0
    return bool(around.any() and covered[around].mean() > COVERED)


def run(root: Path, out: Path, names: list[str] | None, scans: int, sided: bool) -> list[dict[str, bool]]:
    """What was found on ``scans`` good test scans of each class; kept in ``out``, class by class."""
    rows, usual = [], []
    for item in list_classes(root, classes=names):
        kept = out / f"{'sided' if sided else 'whole'}.{item.name}.json"
        if not kept.exists():
            recipe = Detector(device="cpu").fit(item.train).recipe
            oracle = None if sided else Oracle(item)
            mine = []
            for i, path in enumerate([test.path for test in item.test if test.good][:scans]):
                rng = np.random.default_rng([i, *item.name.encode()])
                mine.append(on_whole(recipe, oracle, path, rng) if oracle else on_sided(recipe, path, rng))
                print(f"{item.name}: {path.name}", file=sys.stderr, flush=True)
            out.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, json.dumps({"scans": mine, "good": oracle.good if oracle else []}))
        said = json.loads(kept.read_text())
        rows += said["scans"]
        usual += said["good"]
    threshold = float(np.quantile(usual, 0.95)) if usual else 0.0
    return [{k: v > threshold if k.startswith("oracle") else v for k, v in row.items()} for row in rows]


def share_of(rows: list[dict[str, bool]], name: str) -> tuple[float, int]:
    """Share of the scans in which it was found, and their number."""
    said = [row[name] for row in rows if name in row]
    return (float(np.mean(said)) if said else float("nan")), len(said)


def draw(whole: list[dict[str, bool]], sided: list[dict[str, bool]], file: Path) -> None:
    """The curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.8), sharey=True)
    kinds = {"bump": SHARES, "dent": SHARES, "groove": (None,)}
    for axis, (kind, shares) in zip(axes, kinds.items()):
        for i, share in enumerate(shares):
            for method, line in (("recipe", "-"), ("oracle", "--")):
                name = kind if share is None else f"{kind} {share}"
                found = [100 * share_of(whole, f"{method} {name} {d}")[0] for d in DEPTHS]
                label = f"{share:.1%}, {method}" if share else method
                axis.plot(DEPTHS, found, line, color=f"C{i}", marker="o", markersize=3, label=label)
        axis.set(title=kind, xlabel="depth / noise of the scan", xscale="log", xticks=DEPTHS)
        axis.set_xticks(DEPTHS, [f"{d:g}" for d in DEPTHS])
        axis.set_xticks([], minor=True)
        axis.legend(fontsize=7)
    for rows, name, label in (
        (whole, "recipe", "whole scan"),
        (sided, "inside", "one-sided, inside the view"),
        (sided, "all", "one-sided, anywhere"),
    ):
        if rows:
            found = [100 * share_of(rows, f"{name} missing {s}")[0] for s in SHARES]
            axes[3].plot([100 * s for s in SHARES], found, marker="o", markersize=3, label=label)
    axes[3].set(title="missing patch, recipe", xlabel="share of the surface (%)", ylim=(-3, 103))
    axes[0].set_ylabel("found (% of scans)")
    axes[3].legend(fontsize=7)
    for axis in axes:
        axis.axhline(95, color="0.7", linewidth=0.8, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--sided", type=Path)
    parser.add_argument("--classes")
    parser.add_argument("--sided-classes")
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    names, beside = (c.split(",") if c else None for c in (options.classes, options.sided_classes))
    whole = run(options.root, options.out, names, options.scans, False)
    sided = run(options.sided, options.out, beside, options.scans, True) if options.sided else []
    flagged = {m: share_of(whole, f"{m} good")[0] for m in ("recipe", "oracle")}
    print(
        f"{len(whole)} whole scans; flagged without a defect: recipe {flagged['recipe']:.0%}, oracle {flagged['oracle']:.0%}\n"
    )
    print(
        "| share found, recipe / oracle | "
        + " | ".join(f"{d:g}x noise" for d in DEPTHS)
        + " |\n|---"
        + "|---" * len(DEPTHS)
        + "|"
    )
    for name in [*(f"{k} {s}" for k in ("bump", "dent") for s in SHARES), "groove"]:
        cells = [
            " / ".join(f"{share_of(whole, f'{m} {name} {d}')[0]:.0%}" for m in ("recipe", "oracle")) for d in DEPTHS
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| missing patch | whole | one-sided, inside the view | one-sided, anywhere |\n|---|---|---|---|")
    for share in SHARES:
        cells = [share_of(r, f"{k} missing {share}") for r, k in ((whole, "recipe"), (sided, "inside"), (sided, "all"))]
        print(f"| {share:.1%} | " + " | ".join(f"{v:.0%} (of {n})" for v, n in cells) + " |")
    if sided:
        print(f"\n{len(sided)} one-sided scans; flagged without a defect: {share_of(sided, 'all good')[0]:.0%}")
    if options.picture:
        draw(whole, sided, options.picture)


if __name__ == "__main__":
    main()
