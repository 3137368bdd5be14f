"""Fig. 6: where the encoder puts good, real defective and generated scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r3dad.config import PaperConfig
from r3dad.reproduce.paper_model import fitted, prepared
from r3dad.reproduce.run import Run, kept_figures, paper_settings, paper_words
from r3dad.reproduce.table import Table
from r3dad.scans import DatasetClass
from r3dad.synth.patch_gen import patch_gen


@dataclass(frozen=True)
class Embedding:
    """A unit of work: the encoder's latents of good, real defective and generated scans of a class, and their t-SNE."""

    item: DatasetClass
    seed: int
    settings: dict[str, Any]
    out: Path
    device: str | None

    def __str__(self) -> str:
        return f"{self.item.name} seed {self.seed}"

    def run(self, progress: Callable[[float, str], None] | None = None) -> dict[str, Any]:
        """``kinds`` and ``places`` [n, 2] of the scans, and ``like_generated``: share of real defective scans whose nearest scan of the
        two other kinds, in the latent's space, is a generated one.
        """
        file = self.out / f"{self.item.name}-seed{self.seed}.json"
        return kept_figures(file, {"settings": self.settings}, lambda: self._figures(progress))

    def _figures(self, progress: Callable[[float, str], None] | None) -> dict[str, Any]:
        from sklearn.manifold import TSNE

        settings = {**self.settings, "seed": self.settings.get("seed", PaperConfig.seed) + self.seed}
        model = self.out / "models" / f"{self.item.name}-seed{self.seed}.safetensors"
        recipe = fitted(self.item.train, settings, model, self.device, progress)
        clouds, kinds = [], []
        for test in self.item.test:
            clouds.append(prepared(test.path, recipe.config))
            kinds.append("good" if test.good else "defective")
        for i in range(kinds.count("defective")):
            good = prepared(self.item.train[i % len(self.item.train)], recipe.config)
            clouds.append(patch_gen(good, torch.tensor([settings["seed"] + i]), recipe.config.patch_ratio)[1])
            kinds.append("generated")
        encoder = recipe.model.encoder
        assert encoder is not None  # model D has one
        with torch.no_grad():
            latents = encoder(torch.cat(clouds).to(recipe.device)).cpu()
        near = torch.cdist(latents, latents)
        near[:, [kind == "defective" for kind in kinds]] = torch.inf
        closest = [kinds[j] for j in near.argmin(1).tolist()]
        like = [c == "generated" for c, kind in zip(closest, kinds) if kind == "defective"]
        embed = TSNE(2, perplexity=min(30.0, (len(kinds) - 1) / 3), init="pca", random_state=self.seed)
        places = embed.fit_transform(latents.numpy())
        return {"kinds": kinds, "places": places.tolist(), "like_generated": float(np.mean(like))}


def fig6(run: Run) -> Table:
    """t-SNE of the encoder's latents: good, real defective and generated scans."""
    from r3dad.reproduce.plots import draw_embeddings

    layout = "real3d" if run.real3d else "shapenet"
    settings = paper_settings(run, layout)
    items = run.items(layout)
    units = [Embedding(item, seed, settings, run.out / "fig6", run.device) for item in items for seed in run.seeds]
    done = run.results_of(units)
    rows = [
        {
            "class": unit.item.name,
            "seed": unit.seed,
            **{kind: figures["kinds"].count(kind) for kind in ("good", "defective", "generated")},
            "nearest is generated": figures["like_generated"],
        }
        for unit, figures in done
    ]
    data = run.data(layout, [item.name for item in items])
    shown = {str(unit): figures for unit, figures in done}
    file = draw_embeddings(run.out / "fig6.png", shown, f"{data}; {run.kind}")
    notes = [
        "Nearest is generated: share of real defective scans whose nearest scan of the other two kinds, in the latent's 256 dimensions, "
        "is a generated one. The share of generated scans among those two kinds is what chance gives. The plot's axes have no unit.",
    ]
    columns = ("class", "seed", "good", "defective", "generated", "nearest is generated")
    return Table(
        "fig6",
        "latents of good, defective and generated scans",
        columns,
        rows,
        data,
        paper_words(run, layout),
        run.skipped,
        notes,
        [file.name],
    )
