"""Settings of the recipes, as frozen dataclasses. The defaults are the paper's; where its public code differs, a setting says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from r3dad.errors import InputError


@dataclass(frozen=True)
class PaperConfig:
    """The paper's recipe (R3D-AD, ECCV 2024): sections 3 and 4, tables 3 and 4.

    Attributes:
        model: row of Table 3. ``A``: unconditional diffusion of the shape; ``B``: conditioned on the latent; ``C``: the relative
            displacement instead of the shape; ``D``: with Patch-Gen, the paper's model.
        points: N, points a scan is down-sampled to (2048 for Anomaly-ShapeNet, 4096 for Real3D-AD).
        latent: width of the encoder's output.
        widths: widths of the decoder's hidden layers.
        steps, beta_first, beta_last: T and the linear schedule of the betas.
        flexibility: 0: posterior variance; 1: sigma_t^2 = beta_t; linear in sigma between.
        patch_ratio: share of points in a patch (Table 4a).
        patch_scale: S, how far a patch moves (Table 4b).
        patch_draw: distribution of T in Alg. 1: ``gaussian`` (paper) or ``uniform`` (public code).
        neighbours: k of the cluster score.
        iterations, batch, learning_rate, gradient_clip, seed: training (the seed also keys sampling and noise at test time).
        precision: of the products at inference: ``float32``, ``bfloat16`` or ``int8``; training takes ``bfloat16`` for the last two.
    """

    model: Literal["A", "B", "C", "D"] = "D"
    points: int = 2048
    latent: int = 256
    widths: tuple[int, ...] = (128, 256, 512, 256, 128)
    steps: int = 200
    beta_first: float = 1e-4
    beta_last: float = 0.05
    flexibility: float = 0.0
    patch_ratio: float = 1 / 32
    patch_scale: float = 0.1
    patch_draw: Literal["gaussian", "uniform"] = "gaussian"
    neighbours: int = 64
    iterations: int = 40_000
    batch: int = 128
    learning_rate: float = 1e-3
    gradient_clip: float = 10.0
    seed: int = 2020
    precision: Literal["float32", "bfloat16", "int8"] = "float32"

    def __post_init__(self) -> None:
        choices = {"model": "ABCD", "patch_draw": ("gaussian", "uniform"), "precision": ("float32", "bfloat16", "int8")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        for name in ("points", "latent", "steps", "neighbours", "iterations", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: expected at least 1")
        if self.neighbours > self.points:
            raise InputError(f"neighbours={self.neighbours}: expected at most points={self.points}")
        if not 0 < self.patch_ratio <= 1:
            raise InputError(f"patch_ratio={self.patch_ratio}: expected a share in (0, 1]")

    @property
    def conditioned(self) -> bool:
        """Whether the decoder sees the latent (all models but A)."""
        return self.model != "A"

    @property
    def displaces(self) -> bool:
        """Whether the diffused quantity is the displacement (C, D) rather than the shape (A, B)."""
        return self.model in "CD"


def to_json(config: Any) -> dict[str, Any]:
    """The settings as plain JSON values."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items()}


def from_json(cls: type, settings: dict[str, Any]) -> Any:
    """A config of ``cls`` from :func:`to_json`'s values.

    Raises:
        InputError: a setting is unknown to ``cls``.
    """
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(f"unknown setting {', '.join(unknown)}: expected some of {', '.join(sorted(known))}")
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
