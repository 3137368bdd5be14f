"""Displacement at a place: the paper's decoder, told where a point lies on the part, diffuses its way back to the good surface.

The recipe of the paper displaces a normalised cloud and cannot know a place. Here the points are aligned; their encoded coordinates are the
decoder's per-point condition (`r3dad.ops.reverse_diffusion`), constant over the steps. It learns the departures of `r3dad.surface`; with
``AlignedConfig.displacement = "diffusion"`` displacements and deviations are its own. docs/aligned.md says what that buys.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from r3dad import philox
from r3dad.diffusion import Schedule
from r3dad.model import PointwiseNet
from r3dad.surface import Surface

WIDTHS = (128,) * 5
SIGMAS = (2.0, 6.0, 15.0)
"""Spread of the frequencies that encode a place, per diagonal of the part; 32 of each."""
UNIT = 0.01
"""Displacements are diffused in this share of the diagonal, so that the noise of the diffusion does not drown them."""
POOL, CLOUDS, POINTS = 200_000, 4, 1024
_CHUNK = 200_000
Progress = Callable[[float, str], None]


def examples(surface: Surface, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points off the surface and their way back, both ``[count, 3]``: half of them by noise (0.1 %), half by 0.1 to 3 %, log-uniform."""
    rng = np.random.default_rng(seed)
    i = rng.integers(len(surface.points), size=count)
    depth = np.exp(rng.uniform(np.log(0.001), np.log(0.03), count)) * rng.choice([-1, 1], count)
    off = np.where(rng.random(count) < 0.5, 0.001 * rng.normal(size=count), depth)
    points = surface.points[i] + off[:, None] * surface.normals[i]
    points += 0.5 * surface.spacing * rng.normal(size=(count, 3))
    return points, -surface.departure(points).vector


class PlaceField:
    """The decoder of one part. Lengths are shares of the diagonal, as the surface's.

    steps: of the deterministic sampler, at prediction.
    """

    def __init__(self, surface: Surface, decoder: PointwiseNet, frequencies: Tensor, steps: int = 1) -> None:
        self.surface, self.decoder, self.frequencies, self.steps = surface, decoder, frequencies, steps
        self._schedule = Schedule()

    @classmethod
    def fit(
        cls,
        surface: Surface,
        *,
        iterations: int = 1500,
        steps: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> PlaceField:
        """Train on displaced points of the surface: L1 loss of the clean displacement at a random step of the diffusion."""
        generator = torch.Generator().manual_seed(seed)
        frequencies = torch.cat([s * torch.randn(32, 3, generator=generator) for s in SIGMAS])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = PointwiseNet(0, WIDTHS, condition=3 + 2 * len(frequencies))
        field = cls(surface, decoder, frequencies, steps)
        points, back = (torch.from_numpy(a).float() for a in examples(surface, POOL, seed))
        optimiser = torch.optim.Adam(decoder.parameters())
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=iterations)
        for i in range(iterations):
            pick = torch.randint(POOL, (CLOUDS, POINTS), generator=generator)
            t = torch.randint(1, field._schedule.steps + 1, (CLOUDS,), generator=generator)
            noise = torch.randn(CLOUDS, POINTS, 3, generator=generator)
            noisy = field._schedule.noisy(back[pick] / UNIT, noise, t)
            betas = field._schedule.betas[t].float()
            clean = decoder(noisy, betas, None, field._place(points[pick])) - noisy  # see `displacement`
            loss = (clean - back[pick] / UNIT).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            if progress and i % 100 == 99:
                progress(
                    (i + 1) / iterations, f"displacement at a place, loss {loss.item() * UNIT:.2%} of the diagonal"
                )
        decoder.eval()
        return field

    def _place(self, points: Tensor) -> Tensor:
        """Encoded coordinates ``[..., 3 + 2 F]`` (random Fourier features, Tancik et al. 2020)."""
        angle = 2 * math.pi * points @ self.frequencies.T
        return torch.cat([2 * points, angle.sin(), angle.cos()], -1)

    def displacement(self, points: np.ndarray, seed: int = 0) -> np.ndarray:
        """The way back ``[N, 3]`` of points ``[N, 3]``; other seeds give other samples of it."""
        times, c = self._schedule.deterministic(self.steps, "start")
        # What the net adds to its input is the clean displacement: its noise need not pass through the net.
        c = torch.stack([c[:, 0] - c[:, 1], c[:, 1], c[:, 2]], 1).float()
        betas, key = self._schedule.betas[times].float(), torch.tensor([seed])
        out = []
        for first in range(0, len(points), _CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(points[first : first + _CHUNK], np.float32))[None]
            start = philox.normal(key, part.shape[1], 0)
            out.append(self.decoder.sample(start, betas, c, key, None, self._place(part))[0])
        return UNIT * torch.cat(out).double().numpy() if out else np.zeros((0, 3))

    def signed(self, vector: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Length ``[N]`` of ``vector [N, 3]`` from the surface to points nearest to its points ``near [N]``: + material, - missing."""
        along = (vector * self.surface.normals[near]).sum(1)
        return np.linalg.norm(vector, axis=1) * np.where(along < 0, -1.0, 1.0)

    def state(self) -> dict[str, Tensor]:
        """Tensors for the model file."""
        return {"frequencies": self.frequencies, **{f"decoder.{k}": v for k, v in self.decoder.state_dict().items()}}

    @classmethod
    def from_state(cls, surface: Surface, tensors: dict[str, Tensor], steps: int) -> PlaceField:
        """The field that :meth:`state` described."""
        frequencies = tensors["frequencies"]
        decoder = PointwiseNet(0, WIDTHS, condition=3 + 2 * len(frequencies))
        decoder.load_state_dict({k.removeprefix("decoder."): v for k, v in tensors.items() if k.startswith("decoder.")})
        return cls(surface, decoder.eval(), frequencies, steps)
