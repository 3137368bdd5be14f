"""The learned scorer: a small graph network that looks across the neighbours of a point.

It sees relative quantities only (`r3dad.features`), is trained on synthetic defects of many parts, and carries over to parts it never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from r3dad import checkpoint, ops
from r3dad.errors import InputError
from r3dad.features import REVISION, ScanFeatures
from r3dad.neighbours import facing

SHIPPED = Path(__file__).parent / "data" / "scorer.safetensors"
SHARES = (0.001, 0.002, 0.005, 0.01, 0.03)
"""Top shares of a scan that its verdict looks at."""


def top(scores: np.ndarray, share: float) -> float:
    """Mean of the highest ``share`` of scores ``[N]``, of five at least."""
    count = min(max(int(share * len(scores)), 5), len(scores))
    return float(np.partition(scores, -count)[-count:].mean())


def summary(logits: np.ndarray) -> np.ndarray:
    """What the verdict on a scan is taken from ``[5]``: means of the highest SHARES of its logits ``[N]``."""
    return np.array([top(logits, share) for share in SHARES])


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x); PyTorch's own rounds the ends of a thread's share differently, so that its bits depend on the number of threads."""
    return x / (1 + (-x).clamp_max(80).exp())  # one that overflows would make the gradient NaN


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer on one thread: some BLAS split sums among three and more, so that their bits depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return layer(x)
    finally:
        torch.set_num_threads(threads)


class Messages(nn.Module):
    """One round of messages: each point hears the mean and the maximum of what ``count`` neighbours say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.theirs, self.own = nn.Linear(width, width), nn.Linear(width, width)
        self.edge = nn.Linear(4, width, bias=False)
        self.update = nn.Linear(3 * width, width)

    def forward(self, h: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, j: Tensor) -> Tensor:
        """h [N, W], points and normals [N, 3], spacing [N], j [N, k] indices -> [N, W]."""
        heard = ops.messages(linear(self.theirs, h), linear(self.own, h), self.edge.weight, points, normals, spacing, j)
        return h + silu(linear(self.update, torch.cat([h, heard], 1)))


class Scorer(nn.Module):
    """Per-point logit of being defective, from features, neighbours, positions and surface normals.

    ``strides``: each round listens to every ``stride``-th of the nearest ``16 * stride`` neighbours (at most 32).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, width: int = 40, strides: Sequence[int] = (1, 2, 2)) -> None:
        super().__init__()
        self.width, self.strides = width, tuple(strides)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.first = nn.Linear(features, width)
        self.rounds = nn.ModuleList(Messages(width) for _ in strides)
        self.last = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.decide = nn.Linear(len(SHARES), 1)

    def forward(self, nodes: Tensor, j: Tensor, points: Tensor, normals: Tensor, spacing: Tensor | float) -> Tensor:
        """nodes [N, F], j [N, 32] (itself first), points and normals [N, 3], spacing of the scan (or [N, 1, 1]) -> logits [N]."""
        h = silu(linear(self.first, (nodes - self.mean).div_(self.std).clamp_(-5, 5)))
        apart = torch.as_tensor(spacing, dtype=points.dtype, device=points.device).reshape(-1).expand(len(points))
        for layer, stride in zip(self.rounds, self.strides, strict=True):
            h = layer(h, points, normals, apart, j[:, : 16 * stride : stride])
        hidden, _, logit = self.last
        assert isinstance(hidden, nn.Linear) and isinstance(logit, nn.Linear)
        return linear(logit, silu(linear(hidden, h)))[:, 0]

    @torch.no_grad()
    def score(self, scan: ScanFeatures) -> np.ndarray:
        """Logits ``[N]`` float32 of a scan, for the verdict; `smooth` them for the map."""
        device = self.mean.device
        arrays = (scan.nodes, scan.neighbours, scan.points, scan.normals)
        return self(*(torch.from_numpy(a).to(device) for a in arrays), scan.spacing).cpu().numpy()

    @staticmethod
    def smooth(scan: ScanFeatures, logits: np.ndarray) -> np.ndarray:
        """Half of each logit replaced by the mean over those of its 16 neighbours that are on its side of a thin wall."""
        j = scan.neighbours[:, :16]
        beside = facing(scan.normals[j], scan.normals[:, None])
        return 0.5 * (logits + (beside * logits[j]).sum(1) / beside.sum(1))

    @torch.no_grad()
    def verdict(self, logits: np.ndarray) -> float:
        """Logit of the scan with point logits ``[N]`` being defective."""
        x = torch.from_numpy(summary(logits)).to(self.mean.device, self.mean.dtype)
        return float(self.decide(x))

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Tensors and settings that `from_state` takes."""
        form = {"features": len(self.mean), "width": self.width, "strides": list(self.strides)}
        return dict(self.state_dict()), form | {"revision": REVISION}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], settings: dict) -> Scorer:
        """The scorer that `state` described.

        Raises:
            InputError: it was trained on features of another meaning.
        """
        if (seen := settings.get("revision", 1)) != REVISION:
            raise InputError(
                f"of another version of r3dad: its features are of revision {seen}, expected {REVISION}; fit or train it again"
            )
        net = cls(settings["features"], settings["width"], settings["strides"])
        net.load_state_dict(tensors)
        return net.eval()


def load_scorer(path: Path = SHIPPED) -> Scorer:
    """The scorer of a file that `r3dad.train_scorer` wrote; the shipped one where none is given.

    Raises:
        InputError: the file is missing or damaged.
    """
    tensors, settings = checkpoint.load(path, "scorer")
    try:
        return Scorer.from_state(tensors, settings["scorer"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{path}: damaged scorer file ({str(error).splitlines()[0]}); install r3dad again") from None
