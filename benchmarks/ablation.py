"""Each part of the aligned recipe left out once, on the same scans.

    python benchmarks/ablation.py SET --out FOLDER [--classes a,b] [--calibration 2] [--variants a,b] [--json ablation.json]

A variant is the recipe with one function replaced while it is fitted and predicts; the scorer is the shipped one, not trained again for
what it then gets to see. Figures per class, mean over classes; intervals are 95 % bootstraps over scans, of the difference to the full
recipe on the same resamples. Kept in FOLDER, class by class, and not computed again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.oracle import FLOOR, SHARE, plain  # noqa: E402
from r3dad import features, metrics  # noqa: E402
from r3dad.align import Frame, fit_rigid  # noqa: E402
from r3dad.align.search import Search  # noqa: E402
from r3dad.coverage import Gaps, gaps  # noqa: E402
from r3dad.detector import Detector  # noqa: E402
from r3dad.neighbours import Neighbours, thin  # noqa: E402
from r3dad.place import PlaceField  # noqa: E402
from r3dad.recipes import aligned  # noqa: E402
from r3dad.recipes.ground import as_tensor  # noqa: E402
from r3dad.scans import DatasetClass, list_classes, read_scan, read_truth  # noqa: E402
from r3dad.scorer import Scorer, top  # noqa: E402
from r3dad.surface import Surface  # noqa: E402

FIGURES = ("o_auroc", "p_auroc", "p_ap")


class Tape:
    """What functions returned, in order, played back to variants that call them with the same arguments in the same order."""

    def __init__(self) -> None:
        self._kept: dict[str, list] = {}
        self._at: dict[str, int] = {}

    def rewind(self) -> None:
        self._at = {}

    def of(self, name: str, function: Callable) -> Callable:
        """``function``, called only where nothing is on the tape yet."""

        def played(*args, **kwargs):
            kept, i = self._kept.setdefault(name, []), self._at.get(name, 0)
            self._at[name] = i + 1
            if i == len(kept):
                kept.append(function(*args, **kwargs))
            return kept[i]

        return played


def patches(*pairs: tuple[object, str, object]) -> Callable[[], ExitStack]:
    """A context in which attributes of modules or classes are others."""

    def entered() -> ExitStack:
        stack = ExitStack()
        for owner, name, value in pairs:
            stack.enter_context(mock.patch.object(owner, name, value))
        return stack

    return entered


def no_turns(self: Search, middle, axes) -> torch.Tensor:
    """Of the motions that put the part nearly onto itself, and of the nudges, only the one that does nothing."""
    self.nudges = torch.eye(4, dtype=torch.float64)[None]
    return self.nudges


def rigid(self: aligned.Ground, points: np.ndarray, rigid: bool = True) -> list[np.ndarray]:
    """In place of the three fits, three times the rigid one."""
    moved = fit_rigid(as_tensor(points), self.points, self.normals, nearest=self.nearest)[0].double().numpy()
    return [moved] * 3


BUILD = Surface.build


def raw(clouds: list[np.ndarray], most: int = 40_000) -> Surface:
    """The good scans' points as they are, those nearest to the fused surface's, with the normals that it has there."""
    built, every = BUILD(clouds, most), np.concatenate(clouds).astype(np.float64)
    return Surface(every[Neighbours(every)(built.points)[1]], built.normals, built.curvature, built.sees, built.spacing)


def without_gaps(surface: Surface, scan: Neighbours, spacing: np.ndarray, normals: np.ndarray) -> Gaps:
    """Nowhere is the surface emptier than it is in half of the places that the scan should have seen."""
    found = gaps(surface, scan, spacing, normals)
    expected = found.expected > 0
    if not expected.any():
        return found
    empty = np.minimum(found.empty, np.median(found.empty[expected]))
    wide = empty[surface.near].mean(1)
    return replace(found, empty=empty, wide=wide, typical=float(np.quantile(wide[expected], 0.95)))


def plain_of(points: np.ndarray, vectors: list[np.ndarray], noise: float) -> np.ndarray:
    """Logarithm of the plain score ``[N]`` under two fits."""
    return np.log(np.mean([plain(points, v, noise + FLOOR) for v in vectors], 0) + 1e-6).astype(np.float32)


def remembered(surface: Surface, fitted: list[np.ndarray]):
    """`describe`, the departures kept beside the features, for the plain score."""
    scan, departures = features.describe(surface, fitted)
    scan.vectors = [d.vector for d in departures[:2]]
    return scan, departures


PLAIN = patches(
    (Scorer, "score", lambda self, scan: plain_of(scan.points.astype(float), scan.vectors, scan.noise)),
    (Scorer, "verdict", lambda self, logits: top(np.exp(logits), SHARE)),
    (Scorer, "smooth", staticmethod(lambda scan, logits: logits)),
)
UNCAPPED = lambda size, around: np.ones_like(size)  # noqa: E731
# Name -> context, and the functions that give what the full recipe's give: those are played from the tape.
FRAME, SCAN, SCORE = (
    ("Frame.build", "Surface.build", "synthetic", "Geometry.of", "register", "fitted"),
    ("describe",),
    ("score",),
)
VARIANTS: dict[str, tuple[Callable[[], ExitStack], tuple[str, ...]]] = {
    "full recipe": (patches(), FRAME + SCAN + SCORE),
    "scorer: plain score instead": (PLAIN, FRAME + SCAN),
    "object rule: highest logit": (patches((Scorer, "verdict", lambda self, x: float(x.max()))), FRAME + SCAN + SCORE),
    "object rule: mean of the top 1 %": (
        patches((Scorer, "verdict", lambda self, x: top(x, 0.01))),
        FRAME + SCAN + SCORE,
    ),
    "map not smoothed": (patches((Scorer, "smooth", staticmethod(lambda scan, x: x))), FRAME + SCAN + SCORE),
    "one threshold for whole and one-sided": (patches((aligned, "COMPLETE", -1.0)), FRAME + SCAN + SCORE),
    "stray points not capped": (patches((features, "_unsupported", UNCAPPED)), FRAME),
    "gap features: none": (patches((features, "gaps", without_gaps)), FRAME),
    "pose turns: none": (patches((Search, "find_likenesses", no_turns)), ()),
    "bending: rigid fits only": (patches((aligned.Ground, "fitted", rigid)), ()),
    "surface: union, not denoised": (patches((Surface, "build", staticmethod(raw))), ()),
}
DIFFUSION = "displacement by diffusion, plain score"


@contextmanager
def taped(tape: Tape, names: tuple[str, ...]) -> Iterator[None]:
    """The named functions come from the tape as far as it goes."""
    tape.rewind()
    owners = {
        "Frame.build": (Frame, "build", Frame.build, staticmethod),
        "Surface.build": (aligned.Surface, "build", Surface.build, staticmethod),
        "synthetic": (aligned, "synthetic", aligned.synthetic, None),
        "Geometry.of": (aligned.Geometry, "of", aligned.Geometry.of, staticmethod),
        "register": (Frame, "register", Frame.register, None),
        "fitted": (aligned.Ground, "fitted", aligned.Ground.fitted, None),
        "describe": (aligned, "describe", remembered, None),
        "score": (Scorer, "score", Scorer.score, None),
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(aligned, "describe", remembered))
        for name in names:
            owner, attribute, function, kind = owners[name]
            played = tape.of(name, function)
            stack.enter_context(mock.patch.object(owner, attribute, kind(played) if kind else played))
        yield


class Truth:
    """Test scans of a class, read once."""

    def __init__(self, item: DatasetClass) -> None:
        self.points = [read_scan(t.path).points for t in item.test]
        self.labels = [read_truth(t, p) for t, p in zip(item.test, self.points, strict=True)]
        self.bad = np.array([not t.good for t in item.test])

    def figures(self, scores: list[float], maps: list[np.ndarray], threshold: float) -> dict:
        """O, P, P-AP, their resamples (the same scans in every variant), and what lies above the threshold."""
        o, pooled, values = np.array(scores), np.concatenate(self.labels), np.concatenate(maps)
        region = [np.where(y, 0, -1) for y in self.labels]
        drawn = metrics._resampled(self.bad, o, region, self.labels, maps, [None] * len(maps), 0)
        exact = (metrics.auroc(self.bad, o), metrics.auroc(pooled, values), metrics.average_precision(pooled, values))
        return {
            **dict(zip(FIGURES, exact, strict=True)),
            **{f"draws {k}": drawn[k] for k in FIGURES},
            "found": (o[self.bad] > threshold).sum(),
            "alarms": (o[~self.bad] > threshold).sum(),
            "bad": self.bad.sum(),
            "good": (~self.bad).sum(),
        }


def by_diffusion(recipe: aligned.AlignedRecipe, truth: Truth) -> dict:
    """Figures of the plain score of the displacement that `r3dad.place` diffuses at the places of the scans' points."""
    place = PlaceField.fit(recipe.surface)
    maps, scores = [], []
    for points in truth.points:
        pose = recipe.frame.register(points)
        fits = recipe._ground.fitted((aligned._moved(pose, points) - recipe.frame.centre.numpy()) / recipe.frame.scale)
        kept = thin(fits[0], recipe.config.most)
        vectors = [place.displacement(f[kept]) for f in fits[:2]]
        noise = float(np.median(np.linalg.norm(vectors[0], axis=1)))
        x = plain_of(fits[0][kept], vectors, noise)
        scores.append(top(np.exp(x), SHARE))
        maps.append(x if len(kept) == len(points) else recipe._carried(x, fits[0], kept))
    return truth.figures(scores, maps, np.inf)


def run(item: DatasetClass, chosen: list[str], calibration: int, out: Path) -> dict[str, dict]:
    """Figures of the variants on one class."""
    out.mkdir(parents=True, exist_ok=True)
    files = {name: out / f"{item.name}.{re_named(name)}.npz" for name in chosen}
    missing = [name for name in chosen if not files[name].exists()]
    if missing:
        truth, tape = Truth(item), Tape()
        for name in ["full recipe", *(n for n in missing if n != "full recipe")]:
            context, same = VARIANTS.get(name, VARIANTS["full recipe"])
            with taped(tape, same), context():
                recipe = Detector(device="cpu", calibration=calibration).fit(item.train).recipe
                if name == DIFFUSION:
                    found = by_diffusion(recipe, truth)
                else:
                    results = [recipe.predict(p) for p in truth.points]
                    found = truth.figures(
                        [r.score for r in results], [r.point_scores for r in results], recipe.threshold
                    )
            if name in files:
                np.savez(files[name], **found)
            print(f"{item.name}: {name}: " + " ".join(f"{found[k]:.3f}" for k in FIGURES), file=sys.stderr, flush=True)
    kept = {}
    for name, file in files.items():
        with np.load(file) as arrays:
            kept[name] = {k: arrays[k] for k in arrays.files}
    return kept


def re_named(name: str) -> str:
    """As part of a file's name."""
    return "".join(c if c.isalnum() else "-" for c in name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--classes")
    parser.add_argument("--variants", help="parts of their names, comma-separated; default: all")
    parser.add_argument(
        "--calibration", type=int, default=2, help="setting of the recipe: synthetic scans per good one"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [*VARIANTS, DIFFUSION]
    wanted = options.variants.split(",") if options.variants else [""]
    chosen = ["full recipe", *(n for n in names[1:] if any(w in n for w in wanted))]
    classes = {
        item.name: run(item, chosen, options.calibration, options.out)
        for item in list_classes(options.root, classes=options.classes.split(",") if options.classes else None)
    }
    print("| left out | O | P | P-AP | found | false alarms |\n" + "|---" * 6 + "|")
    table = {}
    for name in chosen:
        cells, table[name] = [], {}
        for k in FIGURES:
            value = float(np.mean([c[name][k] for c in classes.values()]))
            draws = np.mean(
                [
                    c[name][f"draws {k}"] - (c["full recipe"][f"draws {k}"] if name != "full recipe" else 0)
                    for c in classes.values()
                ],
                0,
            )
            low, high = np.quantile(draws, (0.025, 0.975))
            table[name][k] = [value, float(low), float(high)]
            cells.append(
                f"{value:.3f} ({low:.3f} to {high:.3f})"
                if name == "full recipe"
                else f"{value:.3f} ({low:+.3f} to {high:+.3f})"
            )
        found, bad, alarms, good = (
            sum(int(c[name][k]) for c in classes.values()) for k in ("found", "bad", "alarms", "good")
        )
        cells += ["-", "-"] if name == DIFFUSION else [f"{found} of {bad}", f"{alarms} of {good}"]
        print(f"| {name} | " + " | ".join(cells) + " |")
        table[name] |= {"found": found, "bad": bad, "alarms": alarms, "good": good}
    if options.json:
        options.json.write_text(json.dumps({"classes": list(classes), "variants": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
