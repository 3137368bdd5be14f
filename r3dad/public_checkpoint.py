"""Checkpoints of the public R3D-AD code: a torch file with ``args`` and ``state_dict`` (names: docs/recipes.md)."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3dad.config import PaperConfig
from r3dad.errors import InputError
from r3dad.model import Autoencoder

_ENCODER = {
    **{f"conv{i}": f"pointwise.{i - 1}" for i in range(1, 5)},
    **{f"bn{i}": f"pointwise_norm.{i - 1}" for i in range(1, 5)},
    **{f"fc{i}_m": f"head.{i - 1}" for i in range(1, 4)},
    **{f"fc_bn{i}_m": f"head_norm.{i - 1}" for i in range(1, 3)},
}
_LAYER = {"_layer": "layer", "_hyper_bias": "hyper_bias", "_hyper_gate": "hyper_gate"}


def read_public_checkpoint(path: str | Path) -> tuple[PaperConfig, Autoencoder]:
    """Settings and model of a public checkpoint. Nothing in the file is executed: ``weights_only``, and of classes only ``Namespace``.

    The variance head (``_v`` names) is unused by the public code too, and left out.

    Raises:
        InputError: the file is missing, holds anything but tensors and arguments, or is no R3D-AD model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a checkpoint of the public R3D-AD code")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            held = torch.load(path, map_location="cpu", weights_only=True)
        state = held["state_dict"]
        tensors = {_ours(name): _flat(name, value) for name, value in state.items() if _known(name)}
        config = _config(state, held.get("args"))
        model = Autoencoder(config.latent, config.widths, conditioned=True)
        model.load_state_dict(tensors)
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: not a checkpoint of the public R3D-AD code ({reason}); expected args and state_dict"
        ) from None
    return config, model.eval()


def _known(name: str) -> bool:
    return name.startswith("diffusion.net.layers.") or (name.startswith("encoder.") and name.split(".")[1] in _ENCODER)


def _ours(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "encoder":
        return ".".join(["encoder", _ENCODER[parts[1]], *parts[2:]])
    return ".".join(["decoder.layers", parts[3], _LAYER[parts[4]], *parts[5:]])


def _flat(name: str, value: Tensor) -> Tensor:
    """A pointwise convolution's weight [M, K, 1] is a linear layer's [M, K]."""
    return value.squeeze(-1) if ".conv" in name and value.dim() == 3 else value


def _config(state: dict[str, Tensor], args: Any) -> PaperConfig:
    betas = state["diffusion.var_sched.betas"]
    layers = 1 + max(int(name.split(".")[3]) for name in state if name.startswith("diffusion.net.layers."))
    known = PaperConfig()
    points, seed = getattr(args, "num_points", None), getattr(args, "seed", None)
    return PaperConfig(
        latent=state["encoder.fc3_m.weight"].shape[0],
        widths=tuple(state[f"diffusion.net.layers.{i}._layer.weight"].shape[0] for i in range(layers - 1)),
        steps=len(betas) - 1,
        beta_first=float(betas[1]),
        beta_last=float(betas[-1]),
        points=points if isinstance(points, int) else known.points,
        seed=seed if isinstance(seed, int) else known.seed,
    )
