"""Point-MAE (Pang et al., ECCV 2022): the network, its pre-trained weights where the user has them, and its training by masking.

Names of parameters are those of the official ``pretrain.pth`` (``base_model`` -> ``MAE_encoder.*``), which is 384 wide and 12 deep. What is
trained here on a handful of good scans is 96 wide and 4 deep: a stand-in that finishes on a CPU, and every table says which one it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from r3dad import ops
from r3dad.baselines.cloud import check
from r3dad.errors import InputError
from r3dad.neighbours import thin

GROUP = 32
POINTS = 4096
"""Points that a scan is thinned to before it is grouped."""
MASKED = 0.6
_BATCH = 2
UNIT = 2.0
"""From shares of the diagonal to the network's unit: the official weights are of clouds of unit radius."""


def farthest(points: Tensor, count: int) -> Tensor:
    """Indices [count] of farthest point sampling of points [N, 3], from the first point on."""
    least = torch.full((len(points),), torch.inf, device=points.device)
    chosen = torch.zeros(count, dtype=torch.int64, device=points.device)
    for i in range(1, count):
        least = torch.minimum(least, (points - points[chosen[i - 1]]).square().sum(1))
        chosen[i] = least.argmax()
    return chosen


def grouped(points: Tensor, count: int, middle: bool = False) -> tuple[Tensor, Tensor]:
    """Centres [count, 3] of points [N, 3] and the ``GROUP`` nearest points about each, relative to it: [count, GROUP, 3].

    Centres are farthest points of the cloud; ``middle``: then the means of their groups.
    """
    centres = points[farthest(points, count)]
    groups = points[ops.knn(centres[None], points[None], GROUP)[1][0]]
    centres = groups.mean(1) if middle else centres
    return centres, groups - centres[:, None]


class Embedding(nn.Module):
    """A group of points as one token: a small PointNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        a, b, c = width // 3, 2 * width // 3, 4 * width // 3
        self.first_conv = nn.Sequential(nn.Conv1d(3, a, 1), nn.BatchNorm1d(a), nn.ReLU(), nn.Conv1d(a, b, 1))
        self.second_conv = nn.Sequential(nn.Conv1d(c, c, 1), nn.BatchNorm1d(c), nn.ReLU(), nn.Conv1d(c, width, 1))

    def forward(self, groups: Tensor) -> Tensor:
        """groups [B, G, n, 3] -> tokens [B, G, width]."""
        x = self.first_conv(groups.flatten(0, 1).transpose(1, 2))
        x = torch.cat([x.amax(2, keepdim=True).expand_as(x), x], 1)
        return self.second_conv(x).amax(2).view(*groups.shape[:2], -1)


class Attention(nn.Module):
    """Self-attention without bias in the queries, as the official weights have it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, w = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w))


class Block(nn.Module):
    """Attention and a two-layer network, each after a layer norm and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Blocks(nn.Module):
    """Blocks in a row; positions are added before each."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def forward(self, x: Tensor, position: Tensor) -> list[Tensor]:
        """The output of every block."""
        found = []
        for block in self.blocks:
            x = block(x + position)
            found.append(x)
        return found


def _position(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))


class Encoder(nn.Module):
    """Point-MAE's encoder (``MAE_encoder``)."""

    def __init__(self, width: int = 384, depth: int = 12, heads: int = 6) -> None:
        super().__init__()
        self.encoder, self.pos_embed = Embedding(width), _position(width)
        self.blocks, self.norm = Blocks(width, heads, depth), nn.LayerNorm(width)

    def forward(self, centres: Tensor, groups: Tensor) -> list[Tensor]:
        """centres [B, G, 3], groups [B, G, n, 3] -> of every block the tokens [B, G, width], normalised."""
        return [self.norm(x) for x in self.blocks(self.encoder(groups), self.pos_embed(centres))]


class Masked(nn.Module):
    """The autoencoder: tokens of the visible groups are encoded, the hidden groups' points are predicted."""

    scale: Tensor  #: size of a group, in which its points are predicted

    def __init__(self, width: int = 96, depth: int = 4, heads: int = 6) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.MAE_encoder: Encoder = Encoder(width, depth, heads)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed, self.MAE_decoder = _position(width), Blocks(width, heads, max(depth // 3, 1))
        self.norm, self.increase_dim = nn.LayerNorm(width), nn.Linear(width, 3 * GROUP)

    def forward(self, centres: Tensor, groups: Tensor, hidden: Tensor) -> Tensor:
        """centres [B, G, 3], groups [B, G, n, 3]; hidden [B, H] indices of groups -> their points [B, H, GROUP, 3], relative."""
        batch = torch.arange(len(centres), device=centres.device)[:, None]
        seen = torch.ones(centres.shape[:2], dtype=torch.bool, device=centres.device)
        seen[batch, hidden] = False
        visible = seen.nonzero()[:, 1].view(len(centres), -1)
        known = self.MAE_encoder(centres[batch, visible], groups[batch, visible])[-1]
        tokens = torch.cat([known, self.mask_token.expand(*hidden.shape, -1)], 1)
        places = self.decoder_pos_embed(centres[batch, torch.cat([visible, hidden], 1)])
        last = self.norm(self.MAE_decoder(tokens, places)[-1][:, -hidden.shape[1] :])
        return self.scale * self.increase_dim(last).view(*hidden.shape, GROUP, 3)


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance to the nearest, both ways, of sets a and b [..., n, 3]."""
    apart = (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1)
    return apart.amin(-1).mean() + apart.amin(-2).mean()


def trained(
    clouds: Sequence[np.ndarray],
    steps: int,
    seed: int,
    device: str,
    *,
    points: int = POINTS,
    groups: int = 64,
    masked: float = MASKED,
    middle: bool = False,
) -> Masked:
    """The autoencoder after ``steps`` of masking on good scans [M_i, 3] of one pose and about unit radius, 2 clouds a step.

    Args:
        points, groups: of each drawn cloud. masked: share of groups that is hidden. middle: of ``grouped``.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Masked().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for step in range(steps):
        drawn = []
        for _ in range(_BATCH):
            cloud = clouds[int(rng.integers(len(clouds)))]
            cloud = cloud[rng.choice(len(cloud), points, replace=len(cloud) < points)]
            drawn.append(grouped(torch.from_numpy(cloud).float().to(device), groups, middle))
        centres, around = (torch.stack(x) for x in zip(*drawn))
        if step == 0:
            model.scale.copy_(around.square().sum(-1).mean().sqrt())
        hidden = torch.from_numpy(np.stack([rng.permutation(groups)[: int(masked * groups)] for _ in range(_BATCH)]))
        hidden = hidden.to(device)
        predicted = model(centres, around, hidden)
        truth = around[torch.arange(_BATCH, device=device)[:, None], hidden]
        loss = chamfer(predicted, truth) / model.scale.square()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        decay.step()
    return model.eval()


def read_weights(path: str) -> Any:
    """What a torch file holds, loaded without executing anything in it.

    Raises:
        InputError: the file is missing or holds more than tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"weights {path}: no such file") from None
    except Exception as error:
        raise InputError(
            f"weights {path}: not a torch file of tensors ({str(error).strip().splitlines()[0]}); give the official file"
        ) from None


class Features:
    """Features of groups of points from Point-MAE.

    Attributes:
        note: which weights.
    """

    _encoder: Encoder

    def __init__(self, weights: str | None, steps: int, groups: int, seed: int, device: str) -> None:
        """Loads the official weights from the file ``weights``, or leaves the training to `fit`.

        Raises:
            InputError: the weights' file is missing, or is not Point-MAE's.
        """
        self._steps, self._groups, self._seed, self._device = steps, groups, seed, device
        self._given = self._official(weights).to(device).eval() if weights else None
        self.note = "Point-MAE, official weights"

    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        """Train on good scans [M_i, 3] (shares of the diagonal), where no weights are given."""
        if self._given is not None:
            self._encoder = self._given
        else:
            self._encoder = trained([UNIT * c for c in clouds], self._steps, self._seed, self._device).MAE_encoder
            self.note = f"Point-MAE 96 wide, 4 deep, trained {self._steps} steps by masking on the good scans"

    @staticmethod
    def _official(path: str) -> Encoder:
        held = read_weights(path)
        held = held.get("base_model", held) if isinstance(held, dict) else {}
        start = "MAE_encoder."
        names = {k.removeprefix("module.").removeprefix(start): v for k, v in held.items()}
        encoder = Encoder()
        mine = encoder.state_dict()
        try:
            encoder.load_state_dict({k: v for k, v in names.items() if k in mine and not k.startswith("mask_token")})
        except (RuntimeError, AttributeError) as error:
            raise InputError(
                f"weights {path}: not Point-MAE's pretrain.pth ({str(error).strip().splitlines()[-1].strip()[:120]})"
            ) from None
        return encoder

    @torch.no_grad()
    def __call__(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a scan [M, 3] (shares of the diagonal) the centres of the groups [G, 3] and their features [G, C].

        Features are those of three blocks, evenly spread to the last, side by side (M3DM's choice: 4, 8 and 12 of 12).
        """
        kept = q[thin(check(q), POINTS)]
        cloud = torch.from_numpy(UNIT * kept).float().to(self._device)
        centres, groups = grouped(cloud, min(self._groups, len(cloud)))
        layers = self._encoder(centres[None], groups[None])
        taken = [layers[round(len(layers) * (i + 1) / 3) - 1][0] for i in range(3)]
        return centres.double().cpu().numpy() / UNIT, torch.cat(taken, 1).cpu().numpy()

    def bytes(self) -> int:
        """Size of the parameters."""
        return sum(p.numel() * p.element_size() for p in self._encoder.parameters())
