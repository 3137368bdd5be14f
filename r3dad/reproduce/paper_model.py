"""The paper's model for tables that look at more than a class's figures: trained once, kept, and its scans prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3dad import checkpoint
from r3dad.config import PaperConfig, from_json, to_json
from r3dad.errors import InputError
from r3dad.recipes.paper import PaperRecipe
from r3dad.scans import read_scan
from r3dad.score import normalisation, sample
from r3dad.train import train


def fitted(
    scans: Sequence[Path],
    settings: dict[str, Any],
    file: Path,
    device: str | None,
    progress: Callable[[float, str], None] | None = None,
) -> PaperRecipe:
    """The paper's recipe trained on good scans, without a threshold; read from ``file`` where it is there, else kept there.

    An interrupted training goes on from beside ``file``.

    Raises:
        InputError: a scan cannot be read, a setting is wrong, or ``file`` holds a model of other settings or scans.
    """
    config = from_json(PaperConfig, settings)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    what = {"config": to_json(config), "scans": [f"{scan.parent.parent.name}/{scan.name}" for scan in scans]}
    if file.exists():
        tensors, kept = checkpoint.load(file, "model")
        if {name: kept.get(name) for name in what} != what:
            raise InputError(f"{file}: a model of other settings or scans; give another --out or delete it")
        return PaperRecipe.from_state(tensors, kept, device)
    clouds = [torch.from_numpy(read_scan(scan).points).double() for scan in scans]
    model = train(clouds, config, device=device, progress=progress, resume=file.with_suffix(".training"))
    recipe = PaperRecipe(config, model, device)
    tensors, state = recipe.state()
    checkpoint.save(file, "model", tensors, {**state, **what})
    return recipe


def prepared(path: Path, config: PaperConfig) -> Tensor:
    """A scan as the model sees it: N points [1, N, 3], normalised.

    Raises:
        InputError: it cannot be read, or has fewer points than a cluster has neighbours.
    """
    points = torch.from_numpy(read_scan(path).points).double()
    if len(points) < config.neighbours:
        raise InputError(f"{path}: {len(points)} points: expected at least the {config.neighbours} of a cluster")
    return normalisation(points).apply(points)[sample(len(points), config.points, config.seed)][None]
