"""The diffusion: schedule, forward process, training losses, and the coefficients of the samplers."""

from __future__ import annotations

import torch
from torch import Tensor


class Schedule:
    """Variance schedule with linear betas; index 0 is padded with beta = 0, so index t is the paper's t.

    All tensors are [T + 1] float64 on the CPU: the schedule is tiny, and its products want the precision.

    Attributes:
        betas: beta_t.
        alphas: 1 - beta_t.
        alpha_bars: running product of alphas.
        sigmas: standard deviation of a reverse step, by ``flexibility`` between posterior (0) and sqrt(beta_t) (1).
    """

    def __init__(self, steps: int = 200, beta_first: float = 1e-4, beta_last: float = 0.05, flexibility: float = 0.0):
        self.steps = steps
        self.betas = torch.cat([torch.zeros(1), torch.linspace(beta_first, beta_last, steps)]).double()
        self.alphas = 1 - self.betas
        self.alpha_bars = self.alphas.cumprod(0)
        posterior = torch.zeros_like(self.betas)
        posterior[1:] = self.betas[1:] * (1 - self.alpha_bars[:-1]) / (1 - self.alpha_bars[1:])
        self.sigmas = flexibility * self.betas.sqrt() + (1 - flexibility) * posterior.sqrt()
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """betas and alpha_bars on a device, copied there once: a lookup by step numbers that are there waits for nothing."""
        if device not in self._tables:
            self._tables[device] = self.betas.to(device), self.alpha_bars.to(device)
        return self._tables[device]

    def noisy(self, start: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The forward process: ``sqrt(alpha_bar_t) start + sqrt(1 - alpha_bar_t) noise``; start, noise [B, N, 3], t [B] int64."""
        signal, spread = self.shares(t, start)
        return signal * start + spread * noise

    def shares(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(alpha_bar_t)`` and ``sqrt(1 - alpha_bar_t)`` as [B, 1, 1] in the dtype and on the device of ``like``."""
        bar = self.on(t.device)[1][t].reshape(-1, 1, 1)
        return bar.sqrt().to(like), (1 - bar).sqrt().to(like)

    def ancestral(self) -> tuple[Tensor, Tensor]:
        """Alg. 3 (eq. 6): all T steps with fresh noise, for a decoder that predicts the noise.

        Returns:
            times [T] int64, T ... 1, and coefficients [T, 3] (of the state, the prediction and fresh noise; see
            ``ops.reverse_diffusion``); no noise in the last step.
        """
        t = torch.arange(self.steps, 0, -1)
        scale = 1 / self.alphas[t].sqrt()
        sigma = torch.where(t > 1, self.sigmas[t], 0.0)
        return t, torch.stack([scale, -scale * self.betas[t] / (1 - self.alpha_bars[t]).sqrt(), sigma], -1)

    def deterministic(self, count: int, predicts: str) -> tuple[Tensor, Tensor]:
        """A few steps without fresh noise (DDIM, Song et al. 2021, eq. 12 with sigma = 0).

        Args:
            count: number of steps, 1 ... T, evenly spaced from T down.
            predicts: what the decoder gives: ``"noise"`` or ``"start"`` (the clean quantity itself).

        Returns:
            times [count] and coefficients [count, 3], as :meth:`ancestral`.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"deterministic: count must be between 1 and {self.steps}, got {count}")
        t = torch.linspace(self.steps, 0, count + 1).round().long()
        bar, bar_next = self.alpha_bars[t[:-1]], self.alpha_bars[t[1:]]
        if predicts == "noise":
            state = (bar_next / bar).sqrt()
            prediction = (1 - bar_next).sqrt() - state * (1 - bar).sqrt()
        else:
            state = ((1 - bar_next) / (1 - bar)).sqrt()
            prediction = bar_next.sqrt() - state * bar.sqrt()
        return t[:-1], torch.stack([state, prediction, torch.zeros_like(state)], -1)


def shape_loss(schedule: Schedule, predict, good: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Eq. 5, models A and B: the decoder predicts the noise in a noisy good cloud.

    Args:
        predict: (x_t [B, N, 3], beta_t [B]) -> [B, N, 3].
        good, noise: [B, N, 3]; t: [B] int64 in 1 ... T.
    """
    return (predict(schedule.noisy(good, noise, t), _betas(schedule, t, good)) - noise).square().mean()


def displacement_loss(schedule: Schedule, predict, good: Tensor, defective: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Alg. 2, models C and D: the displacement that the prediction implies brings the defective cloud back to the good one.

    Args as :func:`shape_loss`, with ``defective`` [B, N, 3], point by point the good cloud's.
    """
    signal, spread = schedule.shares(t, good)
    noisy = signal * defective + spread * noise
    displacement = (noisy - spread * predict(noisy, _betas(schedule, t, good))) / signal
    return (good - (defective + displacement)).square().mean()


def _betas(schedule: Schedule, t: Tensor, like: Tensor) -> Tensor:
    return schedule.on(t.device)[0][t].to(like)
