"""A picture of some test scans: the map of each beside the truth.

    python benchmarks/maps.py SET RESULTS class/scan [class/scan ...] --out maps.png

SET: a data set; RESULTS: the folder of a method and seed that `r3dad evaluate` wrote (``runs/r3dad/seed0``), whose models are used. Each
scan is seen from where most of its defect is seen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r3dad.detector import Detector  # noqa: E402
from r3dad.outcome import Outcome, predict_file  # noqa: E402
from r3dad.scans import list_classes  # noqa: E402
from r3dad.views import directions, front, plane_axes  # noqa: E402


def looked_at(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The direction [3] from which most labelled points are in front; of the whole scan where none is labelled."""
    marked = labels if labels.any() else np.ones(len(points), bool)
    pixel = np.ptp(points, axis=0).max() / 60
    seen = [((front(points, v, pixel)[0] < 2 * pixel) & marked).sum() for v in directions(60)]
    return directions(60)[int(np.argmax(seen))]


def draw(outcomes: list[tuple[str, Outcome, float]], out: Path) -> None:
    """Maps above, truth below, a column per scan; ``outcomes``: name, outcome, threshold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    heat = LinearSegmentedColormap.from_list("heat", ["#d8d8d8", "#f5b041", "#c0392b", "#641e16"])
    figure, axes = plt.subplots(2, len(outcomes), figsize=(2.6 * len(outcomes), 5.2), squeeze=False)
    for (upper, lower), (name, o, threshold) in zip(axes.T, outcomes, strict=True):
        p, labels = o.scan.points, np.asarray(o.labels)
        view = looked_at(p, labels)
        a, b = plane_axes(view)
        pixel = np.ptp(p, axis=0).max() / 60
        shown = np.flatnonzero(front(p, view, pixel)[0] < 2 * pixel)
        order = shown[np.argsort(o.prediction.point_scores[shown] + labels[shown])]
        x, y = (p @ a)[order], (p @ b)[order]
        size = 30_000 / len(p)
        upper.scatter(x, y, c=o.prediction.point_scores[order], s=size, cmap=heat, vmin=0, vmax=1, linewidths=0)
        lower.scatter(x, y, c=np.where(labels[order], "tab:red", "lightgray"), s=size, linewidths=0)
        said = "NG" if o.prediction.is_defective else "missed"
        upper.set_title(f"{name}\n{said}: {o.prediction.score:.1f}, threshold {threshold:.1f}", fontsize=8)
        for ax in (upper, lower):
            ax.set_aspect("equal")
            ax.axis("off")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("scans", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = []
    for wanted in options.scans:
        name, stem = wanted.split("/")
        (item,) = list_classes(options.root, classes=[name])
        test = next(t for t in item.test if t.path.stem == stem)
        detector = Detector.load(options.results / name / "model.safetensors")
        found.append((f"{name} {stem}", predict_file(detector, test.path, test), detector.recipe.threshold))
    draw(found, options.out)


if __name__ == "__main__":
    main()
