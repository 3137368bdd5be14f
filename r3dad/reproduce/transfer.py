"""Table 6: the paper's model trained on one set of parts and tested on another."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from r3dad import metrics, ops
from r3dad.config import PaperConfig
from r3dad.errors import InputError
from r3dad.recipes.paper import PaperRecipe
from r3dad.reproduce.paper_model import fitted, prepared
from r3dad.reproduce.run import Run, in_words, kept_figures, paper_schedule
from r3dad.reproduce.table import Table, beside, mean, published
from r3dad.scans import DatasetClass


def chamfer(a: Tensor, b: Tensor) -> float:
    """Mean squared distance to the nearest point of the other cloud, both ways added; a [1, N, 3], b [1, M, 3], normalised."""
    return float(ops.knn(a, b, 1)[0].mean() + ops.knn(b, a, 1)[0].mean())


@dataclass(frozen=True)
class Transfer:
    """A unit of work: train on the good scans of some classes, reconstruct and judge the test scans of others."""

    name: str
    source_set: str
    source: tuple[DatasetClass, ...]
    target: tuple[DatasetClass, ...]
    seed: int
    settings: dict[str, Any]
    out: Path
    device: str | None

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"

    def run(self, progress: Callable[[float, str], None] | None = None) -> dict[str, Any]:
        """``chamfer`` of the good test scans' reconstructions and ``o_auroc``, both means over the target's classes."""
        names = [[item.name for item in items] for items in (self.source, self.target)]
        config = {"settings": self.settings, "source": names[0], "target": names[1]}
        file = self.out / f"{self.name.replace(' -> ', '-to-').replace(' ', '-')}-seed{self.seed}.json"
        return kept_figures(file, config, lambda: self._figures(progress))

    def _figures(self, progress: Callable[[float, str], None] | None) -> dict[str, Any]:
        scans = [scan for item in self.source for scan in item.train]
        settings = {**self.settings, "seed": PaperConfig.seed + self.seed}
        source = "+".join(item.name for item in self.source)
        # The set is part of the name: the two sets may name their classes alike.
        model = self.out / "models" / f"{self.source_set}-{source}-seed{self.seed}.safetensors"
        recipe = fitted(scans, settings, model, self.device, progress)
        classes = [self._class(recipe, item) for item in self.target]
        return {name: mean([c[name] for c in classes]) for name in ("chamfer", "o_auroc")}

    @staticmethod
    def _class(recipe: PaperRecipe, item: DatasetClass) -> dict[str, float | None]:
        distances, scores = [], []
        for test in item.test:
            points = prepared(test.path, recipe.config).to(recipe.device)
            rebuilt = recipe.reconstruct(points)
            scores.append(float(ops.cluster_distance(points, rebuilt, recipe.config.neighbours).max()))
            if test.good:
                distances.append(chamfer(points, rebuilt))
        if not distances:
            raise InputError(f"class {item.name}: no good test scans; expected some to reconstruct")
        return {
            "chamfer": float(np.mean(distances)),
            "o_auroc": metrics.auroc(np.array([not test.good for test in item.test]), np.array(scores)),
        }


def table6(run: Run) -> Table:
    """Train on one data set, test on the other, beside the model of the set itself; and across the classes of one group."""
    shapenet, real3d = tuple(run.items("shapenet")), tuple(run.items("real3d"))
    cases = [
        ("shapenet -> real3d", "shapenet", shapenet, real3d),
        ("real3d -> shapenet", "real3d", real3d, shapenet),
        ("oracle real3d", "real3d", real3d, real3d),
        ("oracle shapenet", "shapenet", shapenet, shapenet),
    ]
    notes = [
        f"The paper's Chamfer distances: {_pair('chamfer')} across its two sets, {_pair('chamfer_oracle')} for the oracles (models of the "
        "set itself); which belongs to which direction is not at hand, so they are not put in the rows.",
        "Chamfer: mean squared nearest distance both ways between a good test scan and its reconstruction, normalised units.",
    ]
    groups: dict[str, list[DatasetClass]] = {}
    for item in shapenet:
        groups.setdefault(re.sub(r"\d+$", "", item.name), []).append(item)
    several = {name: items for name, items in groups.items() if len(items) > 1}
    if not several:
        notes.append(
            "No group of this set has several classes (as bowl0-4 has): the last class is tested with all others as its group."
        )
        several = {"all": list(shapenet)} if len(shapenet) > 1 else {}
    for items in several.values():
        rest, last = tuple(items[:-1]), items[-1]
        span = rest[0].name if len(rest) == 1 else f"{rest[0].name}..{rest[-1].name}"
        cases += [
            (f"{span} -> {last.name}", "shapenet", rest, (last,)),
            (f"oracle {last.name}", "shapenet", (last,), (last,)),
        ]
    settings = paper_schedule(run.quick, "shapenet")
    units = [
        Transfer(name, kind, source, target, seed, settings, run.out / "table6", run.device)
        for name, kind, source, target in cases
        for seed in run.seeds
    ]
    done = run.results(units)
    rows = []
    for name, _, _, target in cases:
        results = [figures for unit, figures in done if unit.name == name]
        if results:
            o_auroc = mean([figures["o_auroc"] for figures in results])
            group = re.sub(r"\d+$", "", target[0].name) if len(target) == 1 and "->" in name else ""
            rows.append(
                {
                    "train -> test": name,
                    "seeds": len(results),
                    "Chamfer": mean([figures["chamfer"] for figures in results]),
                    "O-AUROC": o_auroc,
                    **beside(o_auroc, published()["table6"]["o_auroc"].get(group)),
                }
            )
    columns = ("train -> test", "seeds", "Chamfer", "O-AUROC", "paper", "difference")
    return Table(
        "table6",
        "trained on one, tested on another",
        columns,
        rows,
        in_words(run.quick, "shapenet"),
        run.skipped,
        notes,
    )


def _pair(name: str) -> str:
    return " and ".join(f"{value:.3f}" for value in published()["table6"][name])
