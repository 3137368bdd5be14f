"""Random problems of the paper's sizes, for the benchmarks and the tuner: what an operation is called with.

What is not given comes from the constants below, which the rehearsal of the GPU's benchmarks sets to a device and sizes of its own.
"""

from __future__ import annotations

from unittest import mock

import torch
from torch import Tensor

from r3dad.diffusion import Schedule
from r3dad.model import PointNetEncoder, PointwiseNet

DEVICE = "cuda"
POINTS, STEPS, NEIGHBOURS = 4096, 200, 64
WIDTHS = (128, 256, 512, 256, 128)
BATCHES = {"in batches": 8, "alone": 1, "in large batches": 32}  # clouds
CLOUDS, CLOUD_POINTS = 128, 2048  # of a training batch
SQUARE, COPIED = 8192, 1 << 28  # the roofline's product and copy
SHORT, WHOLE = 300, 40_000  # iterations of training
TRAINING: dict[str, object] = {}  # settings of the training besides


def surface(batch: int, count: int, device: str | None = None, seed: int = 0) -> Tensor:
    """Points on a bent sheet in [-1, 1], [B, N, 3]."""
    generator = torch.Generator().manual_seed(seed)
    uv = torch.rand(batch, count, 2, generator=generator) * 2 - 1
    return torch.cat([uv, 0.3 * (3 * uv[..., :1]).sin() * uv[..., 1:]], -1).to(device or DEVICE)


def operations() -> int:
    """Floating-point operations of the reverse process per point and step."""
    sizes = (3, *WIDTHS, 3)
    return 2 * sum(k * m for k, m in zip(sizes, sizes[1:]))


def decoder(device: str | None = None) -> PointwiseNet:
    """The paper's decoder with its initial weights."""
    torch.manual_seed(0)
    return PointwiseNet(256, WIDTHS).to(device or DEVICE).eval()


def encoder(device: str | None = None) -> PointNetEncoder:
    """The paper's encoder with its initial weights."""
    torch.manual_seed(0)
    return PointNetEncoder(256).to(device or DEVICE).eval()


def reverse_diffusion(
    batch: int, precision: str, device: str | None = None, steps: int | None = None, points: int | None = None
) -> tuple:
    """The arguments of ``ops.reverse_diffusion`` for the paper's sampler."""
    caught: list[tuple] = []
    device, steps = device or DEVICE, steps or STEPS
    net = decoder(device)
    times, coefficients = Schedule().ancestral()
    betas = Schedule().betas[times].float().to(device)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(batch, points or POINTS, 3, generator=generator).to(device)
    latent = torch.randn(batch, 256, generator=generator).to(device)
    seeds = torch.arange(batch, device=device)

    with mock.patch("r3dad.ops.reverse_diffusion", lambda *args: caught.append(args) or start):
        net.sample(start, betas[:steps], coefficients[:steps].float().to(device), seeds, latent, precision=precision)
    return tuple([t.detach() for t in a] if isinstance(a, list) else a for a in caught[0])


def layer(dtype: torch.dtype, device: str | None = None, clouds: int | None = None, points: int | None = None) -> tuple:
    """The arguments of ``ops.concat_squash`` for the widest layer at the paper's training size."""
    generator = torch.Generator().manual_seed(2)
    clouds, points = clouds or CLOUDS, points or CLOUD_POINTS
    draw = [torch.randn(*s, generator=generator) for s in ((clouds, points, 256), (512, 256), (512,), (clouds, 512))]
    x, weight, bias, gate = (t.to(device or DEVICE, dtype) for t in draw)
    return x, weight / 16, bias, gate.sigmoid(), gate, 0.01
