"""The paper's recipe: train, reconstruct, score by clusters (Alg. 2 and 3).

A finding to know: the reverse process starts from noise that knows nothing of where a point lies, and no layer looks across points.
Given the latent, the displacement of every point has the same distribution, so this recipe cannot repair one place and leave another;
see docs/recipes.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r3dad import ops, philox
from r3dad.config import PaperConfig, from_json, to_json
from r3dad.diffusion import Schedule
from r3dad.errors import InputError
from r3dad.model import Autoencoder
from r3dad.recipes.result import RecipeResult
from r3dad.score import normalisation, sample, threshold, upsample
from r3dad.synth.patch_gen import patch_gen
from r3dad.train import Progress, train

_CALIBRATION = 32  # resampled good scans that the threshold is taken from


class PaperRecipe:
    """R3D-AD as published, with the settings of :class:`r3dad.config.PaperConfig`.

    Attributes:
        threshold: score above which a scan is defective. false_alarm_rate: of good scans at that threshold, as calibrated.
        found: share of good scans with a Patch-Gen defect above the threshold.
    """

    name = "paper"

    def __init__(self, config: PaperConfig, model: Autoencoder, device: str | torch.device = "cpu"):
        self.config = config
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.schedule = Schedule(config.steps, config.beta_first, config.beta_last, config.flexibility)
        self.threshold = float("inf")
        self.false_alarm_rate = 0.05
        self.found = 0.0

    @classmethod
    def fit(
        cls,
        clouds: Sequence[np.ndarray],
        *,
        device: str = "cpu",
        progress: Progress | None = None,
        resume: Path | None = None,
        **settings: Any,
    ) -> PaperRecipe:
        """Train on good scans [M_i, 3] (any units) and calibrate the threshold.

        Raises:
            InputError: an unknown or impossible setting; a scan with fewer points than neighbours.
        """
        config = from_json(PaperConfig, settings)
        scans = [torch.from_numpy(np.ascontiguousarray(c, np.float64)) for c in clouds]
        for i, scan in enumerate(scans):
            cls._check(scan, config, f"good scan {i + 1}")
        recipe = cls(config, train(scans, config, device=device, progress=progress, resume=resume), device)
        recipe.calibrate(clouds)
        return recipe

    @staticmethod
    def _check(points: Tensor, config: PaperConfig, what: str) -> None:
        if len(points) < config.neighbours:
            raise InputError(
                f"{what} has {len(points)} points: expected at least the {config.neighbours} neighbours of a cluster"
            )

    def predict(self, points: np.ndarray) -> RecipeResult:
        """Scores of a scan [M, 3] in its own units.

        Raises:
            InputError: fewer points than neighbours, or no extent.
        """
        return self.predict_many([points])[0]

    def predict_many(self, clouds: Sequence[np.ndarray]) -> list[RecipeResult]:
        """:meth:`predict` of every cloud, bit for bit; those of as many sampled points go through the kernels together."""
        c = self.config
        scans = [torch.from_numpy(np.ascontiguousarray(cloud, np.float64)) for cloud in clouds]
        for scan in scans:
            self._check(scan, c, "the scan")
        frames = [normalisation(scan) for scan in scans]
        wholes = [frame.apply(scan) for frame, scan in zip(frames, scans, strict=True)]
        sampled = [whole[sample(len(whole), c.points, c.seed)] for whole in wholes]
        results: dict[int, RecipeResult] = {}
        for size in {len(part) for part in sampled}:
            batch = [i for i, part in enumerate(sampled) if len(part) == size]
            parts = torch.stack([sampled[i] for i in batch]).to(self.device)
            rebuilt = self.reconstruct(parts)
            scores = ops.cluster_distance(parts, rebuilt, c.neighbours)
            step = (rebuilt if c.displaces else self._nearest(parts, rebuilt)) - parts
            for i, both in zip(batch, torch.cat([scores[..., None], step], 2).cpu(), strict=True):
                dense = torch.stack([upsample(column, sampled[i], wholes[i]) for column in both.unbind(1)], 1)
                results[i] = RecipeResult(
                    point_scores=dense[:, 0].numpy(),
                    score=float(both[:, 0].max()),
                    displacement=dense[:, 1:].double().numpy() * frames[i].scale,
                )
        return [results[i] for i in range(len(clouds))]

    def reconstruct(self, points: Tensor) -> Tensor:
        """Alg. 3: P_hat [B, N, 3] of normalised clouds [B, N, 3]; models A and B give a cloud without point-wise correspondence."""
        c = self.config
        seeds = torch.full((len(points),), c.seed, dtype=torch.int64, device=points.device)
        start = philox.normal(seeds, points.shape[1], 0)
        times, coefficients = self.schedule.ancestral()
        sampled = self.model.decoder.sample(
            start, self.schedule.betas[times], coefficients, seeds, self.model.encode(points), None, c.precision
        )
        return points + sampled if c.displaces else sampled

    @staticmethod
    def _nearest(points: Tensor, rebuilt: Tensor) -> Tensor:
        index = ops.knn(points, rebuilt, 1)[1]
        return rebuilt.gather(1, index.expand(-1, -1, 3))

    def calibrate(self, clouds: Sequence[np.ndarray]) -> None:
        """Take the threshold from good scans [M_i, 3]: resampled and rotated, without and with a Patch-Gen defect."""
        scans = [torch.from_numpy(np.ascontiguousarray(c, np.float64)) for c in clouds]
        good: list[Tensor] = []
        bad: list[Tensor] = []
        for i in range(_CALIBRATION):
            scan = scans[i % len(scans)]
            cloud = normalisation(scan).apply(scan)
            part = cloud[sample(len(cloud), self.config.points, self.config.seed + 1 + i)].to(self.device)[None]
            seeds = torch.full((1,), self.config.seed + i, dtype=torch.int64, device=self.device)
            turned, defective, _ = patch_gen(
                part, seeds, self.config.patch_ratio, self.config.patch_scale, self.config.patch_draw
            )
            for cloud, scores in ((turned, good), (defective, bad)):
                scores.append(ops.cluster_distance(cloud, self.reconstruct(cloud), self.config.neighbours).max())
        self.threshold = threshold(torch.stack(good), self.false_alarm_rate)
        self.found = float((torch.stack(bad) > self.threshold).double().mean())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON settings for the model file."""
        settings = {
            "config": to_json(self.config),
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "found": self.found,
        }
        return dict(self.model.state_dict()), settings

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], settings: dict[str, Any], device: str | torch.device = "cpu"
    ) -> PaperRecipe:
        """The recipe that :meth:`state` described."""
        config = from_json(PaperConfig, settings["config"])
        model = Autoencoder(config.latent, config.widths, config.conditioned)
        model.load_state_dict(tensors)
        recipe = cls(config, model, device)
        recipe.threshold = settings["threshold"]
        recipe.false_alarm_rate = settings["false_alarm_rate"]
        recipe.found = settings["found"]
        return recipe
