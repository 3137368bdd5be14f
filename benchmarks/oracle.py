"""How much of the way from the floor to the oracle the recipe goes, per kind of defect and severity.

    python benchmarks/oracle.py SET [--classes a,b] --out FOLDER [--json way.json]

SET is a simulated data set with ``manifest.json`` (kind and severity of each scan) and, per class, ``truth/<scan>.npz``: ``vertices``,
``faces`` (the mesh of that instance without its defect, in the scan's frame) and ``noise_mm`` of the sensor. The oracle is the plain score
of each scan against that mesh: it knows pose, surface and warp. The floor is ``registered-nn`` and the recipe ``r3dad``, both as
``r3dad evaluate`` runs them. Everything is kept in FOLDER, class by class, and not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r3dad import metrics  # noqa: E402
from r3dad.evaluate import run_class  # noqa: E402
from r3dad.features import _unsupported  # noqa: E402
from r3dad.neighbours import Neighbours  # noqa: E402
from r3dad.scans import DatasetClass, list_classes, read_scan, read_truth, write_atomic  # noqa: E402
from r3dad.scorer import top  # noqa: E402

METHODS = ("floor", "oracle", "recipe")
FLOOR, SHARE, SAMPLES, CANDIDATES, RESAMPLES = 0.001, 0.002, 300_000, 16, 1000
CLEAR = 0.02
"""A share of the way is stated where floor and oracle are further apart than this."""


def plain(points: np.ndarray, vector: np.ndarray, scale: float) -> np.ndarray:
    """The plain score ``[N]`` of displacements ``vector [N, 3]``: mean of size and drift over 16 neighbours, in units of ``scale``.

    A stray point counts at most twice the third largest of its 8 neighbours. That of a scan is ``top(scores, SHARE)``.
    """
    j = Neighbours(points)(points, 16)[1]
    size = np.linalg.norm(vector, axis=1)
    support = _unsupported(size, j.T[1:9])
    mean = (np.column_stack([size, vector]) * support[:, None])[j].mean(1)
    return (mean[:, 0] + np.linalg.norm(mean[:, 1:], axis=1)) / (2 * scale)


def from_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, seed: int = 0) -> np.ndarray:
    """Vectors ``[N, 3]`` from a mesh to points ``[N, 3]``: to the nearest of the triangles that the nearest area samples lie on."""
    from trimesh.triangles import closest_point

    corners = vertices.astype(float)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng(seed)
    # Every triangle once, so that none is without a sample; the others by area.
    face = np.concatenate([np.arange(len(faces)), rng.choice(len(faces), SAMPLES, p=area / area.sum())])
    weight = rng.dirichlet(np.ones(3), len(face))
    candidates = face[Neighbours(np.einsum("nk,nki->ni", weight, corners[face]))(points, CANDIDATES)[1]]
    off = points[:, None] - closest_point(corners[candidates.ravel()], np.repeat(points, CANDIDATES, 0)).reshape(
        len(points), CANDIDATES, 3
    )
    return off[np.arange(len(points)), (off**2).sum(2).argmin(1)]


def with_truth(item: DatasetClass, path: Path, points: np.ndarray) -> np.ndarray:
    """The oracle's point scores of a scan ``[N]``."""
    with np.load(item.train[0].parent.parent / "truth" / f"{path.stem}.npz") as truth:
        vertices = truth["vertices"]
        diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
        vector = from_mesh(points, vertices, truth["faces"])
        return plain(points, vector, float(truth["noise_mm"]) + FLOOR * diagonal)


def oracle(item: DatasetClass, out: Path) -> dict:
    """Figures of a class and ``rows``: per scan its score and the AUROC within it."""
    kept = out / "oracle" / f"{item.name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    labels, scores, rows = [], [], {}
    for test in item.test:
        points = read_scan(test.path).points
        labels.append(read_truth(test, points))
        scores.append(with_truth(item, test.path, points))
        rows[test.path.name] = [top(scores[-1], SHARE), metrics.auroc(labels[-1], scores[-1])]
    found = {
        "o_auroc": metrics.auroc(np.array([not t.good for t in item.test]), np.array([r[0] for r in rows.values()])),
        "p_auroc": metrics.auroc(np.concatenate(labels), np.concatenate(scores)),
        "p_ap": metrics.average_precision(np.concatenate(labels), np.concatenate(scores)),
        "rows": rows,
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, json.dumps(found, indent=1))
    return found


def evaluated(item: DatasetClass, method: str, out: Path) -> dict:
    """The same of a method of ``r3dad evaluate``."""
    figures = run_class(item, method, out=out)
    with (out / method / "seed0" / item.name / "scores.csv").open() as file:
        rows = {
            r["file"]: [float(r["score"]), float(r["p_auroc"]) if r["p_auroc"] else None] for r in csv.DictReader(file)
        }
    return {**{k: figures[k] for k in ("o_auroc", "p_auroc", "p_ap")}, "rows": rows}


def gathered(root: Path, classes: dict[str, dict[str, dict]]) -> list[dict]:
    """All test scans: class, kind, severity and, per method, score and AUROC within the scan."""
    manifest = {row["file"]: row for row in json.loads((root / "manifest.json").read_text())["scans"]}
    rows = []
    for name, methods in classes.items():
        for file in methods["oracle"]["rows"]:
            about = manifest[f"{name}/test/{file}"]
            said = {m: methods[m]["rows"][file] for m in methods}
            rows.append({"class": name, "kind": about["kind"], "severity": about["severity"], **said})
    return rows


def objects(rows: list[dict], chosen: np.ndarray, method: str) -> float:
    """Mean over classes of the AUROC of the chosen scans (indices) of a class against its good ones (among them too)."""
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for i in chosen:
        row = rows[i]
        scores.setdefault(row["class"], ([], []))[row["kind"] != "good"].append(row[method][0])
    pairs = [np.subtract.outer(bad, good) for good, bad in scores.values() if bad]
    return float(np.mean([(p > 0).mean() + 0.5 * (p == 0).mean() for p in pairs]))


def within(rows: list[dict], chosen: np.ndarray, method: str) -> float:
    """Mean over the chosen defective scans of the AUROC within the scan."""
    return float(np.mean([rows[i][method][1] for i in chosen if rows[i][method][1] is not None]))


def way(rows: list[dict], which: dict[str, object], figure, seed: int = 0) -> dict:
    """``figure`` of the three methods, the share of the way between, and its 95 % interval (bootstrap over scans within their class)."""
    groups: dict[tuple, list[int]] = {}
    for i, row in enumerate(rows):
        if row["kind"] == "good" or all(row[k] == v for k, v in which.items()):
            groups.setdefault((row["class"], row["kind"] == "good"), []).append(i)
    chosen = np.concatenate([np.array(g) for g in groups.values()])
    found = {m: figure(rows, chosen, m) for m in METHODS}
    bad = sum(len(g) for (_, good), g in groups.items() if not good)
    result = {**found, "scans": bad}
    if found["oracle"] - found["floor"] > CLEAR:
        rng = np.random.default_rng(seed)
        draws = []
        for _ in range(RESAMPLES):
            again = np.concatenate([rng.choice(g, len(g)) for g in groups.values()])
            floor, best, recipe = (figure(rows, again, m) for m in METHODS)
            draws.append((recipe - floor) / (best - floor) if best - floor > CLEAR / 4 else np.nan)
        result["way"] = (found["recipe"] - found["floor"]) / (found["oracle"] - found["floor"])
        result["interval"] = np.nanquantile(draws, (0.025, 0.975)).tolist()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--classes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=METHODS, help="compute one of them and stop")
    options = parser.parse_args()
    run = {
        "oracle": oracle,
        "floor": lambda item, out: evaluated(item, "registered-nn", out),
        "recipe": lambda item, out: evaluated(item, "r3dad", out),
    }
    classes: dict[str, dict[str, dict]] = {}
    for item in list_classes(options.root, classes=options.classes.split(",") if options.classes else None):
        wanted = [options.only] if options.only else METHODS
        classes[item.name] = {m: run[m](item, options.out) for m in wanted}
        print(item.name, file=sys.stderr, flush=True)
    if options.only:
        return
    rows = gathered(options.root, classes)
    print("| class | " + " | ".join(f"{m} O / P / P-AP" for m in METHODS) + " |\n" + "|---" * 4 + "|")
    figures = {
        **classes,
        "mean": {
            m: {k: np.mean([c[m][k] for c in classes.values()]) for k in ("o_auroc", "p_auroc", "p_ap")}
            for m in METHODS
        },
    }
    for name, found in figures.items():
        print(
            f"| {name} | "
            + " | ".join("{o_auroc:.3f} / {p_auroc:.3f} / {p_ap:.3f}".format(**found[m]) for m in METHODS)
            + " |"
        )
    print(
        "\n| scans | n | O floor / oracle / recipe | way | P within: floor / oracle / recipe | way |\n"
        + "|---" * 6
        + "|"
    )
    kinds = sorted({r["kind"] for r in rows} - {"good"})
    parts = [("all", {}), *((k, {"kind": k}) for k in kinds), *((f"severity {s}", {"severity": s}) for s in (0, 1, 2))]
    tables = {}
    for name, which in parts:
        tables[name] = o, p = way(rows, which, objects), way(rows, which, within)
        cells = []
        for t in (o, p):
            share = f"{t['way']:.0%} ({t['interval'][0]:.0%} to {t['interval'][1]:.0%})" if "way" in t else "-"
            cells += [" / ".join(f"{t[m]:.3f}" for m in METHODS), share]
        print(f"| {name} | {o['scans']} | " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps({"figures": figures, "tables": tables, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
