"""CPMF (Cao, Xu & Shen, "Complementary Pseudo Multimodal Feature", Pattern Recognition 2024): the geometry of points and the look of views.

The scan is drawn from several sides, a ResNet trained on images describes the pictures, every point takes the mean of what the views that
see it say, beside its FPFH, and PatchCore's memory bank does the rest. Without the weights the method does not run: random features are no
CPMF. Departures: views are shaded normals of a point splat (the paper: a renderer), from directions spread over the sphere
(the paper: 27 turns of a one-sided scan).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r3dad.baselines.fpfh import fpfh, normals
from r3dad.baselines.patchcore import REACH, VOXEL, PatchCore
from r3dad.baselines.pointmae import read_weights
from r3dad.errors import InputError
from r3dad.neighbours import Neighbours, voxel_pick
from r3dad.views import directions, front, plane_axes, unit

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CPMF(PatchCore):
    """FPFH and a ResNet's view features, compared with a memory bank.

    Args:
        weights: file of torchvision's weights of that network, e.g. https://download.pytorch.org/models/resnet18-f37072fd.pth
        network: of torchvision. views: that a scan is drawn from. share, most, voxel: as of PatchCoreFPFH.
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "cpu",
        weights: str | None = None,
        network: str = "resnet18",
        views: int = 12,
        share: float = 0.1,
        most: int = 10_000,
        voxel: float = VOXEL,
    ) -> None:
        super().__init__(seed, device, share, most)
        if weights is None:
            raise InputError(
                "method cpmf-resnet: needs a ResNet's pre-trained weights, random ones are refused; give --set weights=FILE, "
                "e.g. https://download.pytorch.org/models/resnet18-f37072fd.pth"
            )
        self._net = _network(network, weights).to(device).eval()
        self._sides, self._voxel = directions(views), voxel
        self.note = f"{network}, given weights"

    def _learn(self, clouds: Sequence[np.ndarray]) -> None:
        both = [self._parts(c) for c in clouds]
        self._spread = [float(np.concatenate([b[k] for b in both]).std(0).mean()) or 1.0 for k in (1, 2)]

    def _described(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept, shape, look = self._parts(q)
        both = [f / (s * f.shape[1] ** 0.5) for f, s in zip((shape, look), self._spread)]
        return kept, np.concatenate(both, 1)

    def _parts(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kept = q[voxel_pick(q, self._voxel)]
        normal = normals(kept, np.zeros(3))
        return kept, fpfh(kept, normal, REACH * self._voxel), self._looks(kept, normal)

    @torch.no_grad()
    def _looks(self, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """View features [K, C] of points: the mean over the views that see a point; of the nearest seen point where none does."""
        total, count = np.zeros((len(points), 0)), np.zeros(len(points))
        for side in self._sides:
            picture, row, column, seen = view(points, normal, side, self._voxel)
            place = torch.from_numpy(2 * (np.stack([column, row], 1) + 0.5) / SIZE - 1).float().to(self.device)
            found = self._sampled(torch.from_numpy(picture).float().to(self.device), place).double().cpu().numpy()
            total = total + found * seen[:, None] if total.shape[1] else found * seen[:, None]
            count += seen
        look = total / np.maximum(count, 1)[:, None]
        known = np.flatnonzero(count)
        return look[known[Neighbours(points[known])(points)[1]]]

    def _sampled(self, picture: Tensor, place: Tensor) -> Tensor:
        """Features [K, C] of a picture [SIZE, SIZE, 3] at places [K, 2] in -1..1: its first three stages, each of unit length."""
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (MEAN, STD))
        x, found = ((picture.permute(2, 0, 1) - mean) / std)[None], []
        for name, layer in self._net.named_children():
            if name == "layer4":
                break
            x = layer(x)
            if name.startswith("layer"):
                at = torch.nn.functional.grid_sample(x, place[None, None], align_corners=False, padding_mode="border")
                found.append(torch.nn.functional.normalize(at[0, :, 0], dim=0))
        return torch.cat(found).T

    def model_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self._net.parameters())


def view(
    points: np.ndarray, normal: np.ndarray, side: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A picture [SIZE, SIZE, 3] of points [K, 3] (shares of the diagonal) from a direction: normals as colours, black behind.

    Returns:
        The picture, each point's row and column [K], and whether the view sees it [K].
    """
    a, b = plane_axes(side)
    place = np.clip(((np.stack([points @ a, points @ b], 1) + 0.55) / 1.1 * SIZE).astype(int), 0, SIZE - 1)
    behind, _ = front(points, side, 2 * spacing)
    seen = behind <= 3 * spacing
    turned = np.stack([normal @ a, normal @ b, normal @ side], 1)
    picture = np.zeros((SIZE, SIZE, 3))
    if seen.any():
        pixel = 1.1 / SIZE
        grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), [0], indexing="ij"), -1).reshape(-1, 3)
        flat = np.column_stack([place[seen], np.zeros(seen.sum())])
        apart, j = Neighbours(flat)(grid.astype(float), 1)
        colour = (1 + unit(turned[seen])) / 2
        picture = np.where((apart * pixel < 1.5 * spacing)[:, None], colour[j], 0).reshape(SIZE, SIZE, 3)
    return picture, place[:, 0], place[:, 1], seen


def _network(name: str, weights: str) -> Any:
    try:
        import torchvision
    except ImportError:
        raise InputError("method cpmf-resnet: torchvision is not installed; pip install 'r3dad[baselines]'") from None
    if not name.startswith(("resnet", "wide_resnet", "resnext")) or not hasattr(torchvision.models, name):
        raise InputError(f"method cpmf-resnet: network {name!r}: expected a ResNet of torchvision, such as resnet18")
    net = getattr(torchvision.models, name)(weights=None)
    try:
        net.load_state_dict(read_weights(weights))
    except (RuntimeError, AttributeError, TypeError) as error:
        why = str(error).strip().splitlines()[0]
        raise InputError(f"weights {weights}: not those of torchvision's {name} ({why})") from None
    return net
