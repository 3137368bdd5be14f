"""Several scans through a recipe at once, where its kernels take batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from r3dad import ops
from r3dad.recipes.result import RecipeResult
from r3dad.score import normalisation, sample, upsample


def predict_many(recipe: Any, clouds: Sequence[np.ndarray]) -> list[RecipeResult]:
    """What ``recipe.predict`` gives for each of the clouds ``[M_i, 3]``, bit for bit.

    The paper's recipe takes them through one reverse process and one scoring (those with fewer points than it samples by themselves);
    every other recipe takes them one by one.

    Raises:
        InputError: as ``recipe.predict``, for the first cloud that cannot be used.
    """
    if recipe.name != "paper" or len(clouds) < 2:
        return [recipe.predict(cloud) for cloud in clouds]
    c = recipe.config
    if min(map(len, clouds)) < c.points:
        full = [i for i, cloud in enumerate(clouds) if len(cloud) >= c.points]
        made = dict(zip(full, predict_many(recipe, [clouds[i] for i in full]), strict=True))
        return [made[i] if i in made else recipe.predict(cloud) for i, cloud in enumerate(clouds)]
    scans = [torch.from_numpy(np.ascontiguousarray(cloud, np.float64)) for cloud in clouds]
    frames = [normalisation(scan) for scan in scans]
    wholes = [frame.apply(scan) for frame, scan in zip(frames, scans, strict=True)]
    parts = torch.stack([whole[sample(len(whole), c.points, c.seed)] for whole in wholes]).to(recipe.device)
    rebuilt = recipe.reconstruct(parts)
    scores = ops.cluster_distance(parts, rebuilt, c.neighbours)
    step = (rebuilt if c.displaces else recipe._nearest(parts, rebuilt)) - parts
    both = torch.cat([scores[..., None], step], 2).cpu()
    peaks, parts = scores.amax(1).tolist(), parts.cpu()
    results = []
    for i, (whole, frame) in enumerate(zip(wholes, frames, strict=True)):
        dense = torch.stack([upsample(column, parts[i], whole) for column in both[i].unbind(1)], 1)
        shift = dense[:, 1:].double().numpy() * frame.scale
        results.append(RecipeResult(point_scores=dense[:, 0].numpy(), score=peaks[i], displacement=shift))
    return results
