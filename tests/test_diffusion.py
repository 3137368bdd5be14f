"""The paper's equations, one test each, against loops written from the paper in float64."""

import math

import pytest
import torch

from r3dad import philox
from r3dad.diffusion import Schedule, displacement_loss, shape_loss
from r3dad.model import PointwiseNet

SCHEDULE = Schedule()


def test_schedule_is_linear_and_padded():
    assert len(SCHEDULE.betas) == 201 and SCHEDULE.betas[0] == 0 and SCHEDULE.alpha_bars[0] == 1
    assert SCHEDULE.betas[1].item() == pytest.approx(1e-4) and SCHEDULE.betas[200].item() == pytest.approx(0.05)
    product = 1.0
    for t in range(1, 201):
        product *= 1 - (1e-4 + (0.05 - 1e-4) * (t - 1) / 199)
        assert SCHEDULE.alpha_bars[t].item() == pytest.approx(product, rel=1e-6)


@pytest.mark.parametrize("flexibility", [0.0, 0.5, 1.0])
def test_posterior_variance(flexibility):
    """sigma_t^2 = beta_t (1 - ab_{t-1}) / (1 - ab_t) at flexibility 0, beta_t at 1, linear in sigma between."""
    s = Schedule(flexibility=flexibility)
    for t in (2, 3, 50, 200):
        posterior = math.sqrt(s.betas[t] * (1 - s.alpha_bars[t - 1]) / (1 - s.alpha_bars[t]))
        want = flexibility * math.sqrt(s.betas[t]) + (1 - flexibility) * posterior
        assert s.sigmas[t].item() == pytest.approx(want, rel=1e-9)


def test_forward_process_moments():
    """q(x_t | x_0) (eq. 1-2): mean sqrt(ab_t) x_0, variance 1 - ab_t; and one step at a time gives the same."""
    start, n = torch.tensor([0.7, -0.3, 0.2]), 40_000
    noise = philox.normal(torch.tensor([1]), n, 0)
    for t in (1, 60, 200):
        x = SCHEDULE.noisy(start.expand(1, n, 3), noise, torch.tensor([t]))
        bar = SCHEDULE.alpha_bars[t].item()
        assert torch.allclose(x.mean((0, 1)), math.sqrt(bar) * start, atol=4 * math.sqrt((1 - bar) / n) + 1e-6)
        assert torch.allclose(x.var((0, 1)), torch.full((3,), 1 - bar), rtol=0.04)
    x = start.expand(1, n, 3)
    for t in range(1, 61):
        x = SCHEDULE.alphas[t].sqrt() * x + SCHEDULE.betas[t].sqrt() * philox.normal(torch.tensor([2]), n, t)
    assert torch.allclose(x.var((0, 1)).float(), torch.full((3,), 1 - SCHEDULE.alpha_bars[60].item()), rtol=0.04)


def _decoder(latent=8):
    torch.manual_seed(0)
    return PointwiseNet(latent, (16, 32, 16)).double()


def test_alg_3_against_a_loop_from_the_paper():
    """Eq. 6, all steps with fresh noise, by the operation against a plain loop over the module."""
    s, net, n = Schedule(steps=12), _decoder(), 9
    latent, seeds = torch.randn(2, 8).double(), torch.tensor([5, 2**40])
    start = philox.normal(seeds, n, 0).double()
    times, coefficients = s.ancestral()
    got = net.sample(start, s.betas[times], coefficients, seeds, latent)

    x = start
    for i, t in enumerate(range(12, 0, -1)):
        beta, alpha, bar = s.betas[t], 1 - s.betas[t], s.alpha_bars[t]
        with torch.no_grad():
            eps = net(x, beta.expand(2), latent)
        x = (x - beta / (1 - bar).sqrt() * eps) / alpha.sqrt()
        if t > 1:
            x = x + s.sigmas[t] * philox.normal(seeds, n, i + 1).double()
    assert torch.allclose(got, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("predicts", ["noise", "start"])
@pytest.mark.parametrize("count", [1, 2, 10, 200])
def test_deterministic_sampler_recovers_a_known_start(predicts, count):
    """With a perfect prediction every number of DDIM steps gives back x_0 from x_T."""
    truth, noise = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    bar = SCHEDULE.alpha_bars[200]
    x = bar.sqrt() * truth + (1 - bar).sqrt() * noise
    times, coefficients = SCHEDULE.deterministic(count, predicts)
    assert times[0] == 200 and len(times) == count and (coefficients[:, 2] == 0).all()
    for a, b, _ in coefficients:
        x = a * x + b * (noise if predicts == "noise" else truth)
    assert torch.allclose(x, truth, atol=1e-9)


def test_eq_5_shape_loss_by_hand():
    good, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    t = torch.tensor([3, 150])
    loss = shape_loss(SCHEDULE, lambda x, beta: 2 * x + beta[:, None, None], good, noise, t)
    total = 0.0
    for b in range(2):
        bar = SCHEDULE.alpha_bars[t[b]].item()
        x = math.sqrt(bar) * good[b] + math.sqrt(1 - bar) * noise[b]
        total += (2 * x + SCHEDULE.betas[t[b]].item() - noise[b]).square().sum().item()
    assert loss.item() == pytest.approx(total / 24, rel=1e-5)


def test_alg_2_displacement_loss_by_hand_and_its_zero():
    good, defective, noise = (torch.randn(2, 4, 3) for _ in range(3))
    t = torch.tensor([20, 199])
    loss = displacement_loss(SCHEDULE, lambda x, beta: 0.5 * x, good, defective, noise, t)
    total = 0.0
    for b in range(2):
        bar = SCHEDULE.alpha_bars[t[b]].item()
        x = math.sqrt(bar) * defective[b] + math.sqrt(1 - bar) * noise[b]
        delta = (x - math.sqrt(1 - bar) * 0.5 * x) / math.sqrt(bar)
        total += (good[b] - (defective[b] + delta)).square().sum().item()
    assert loss.item() == pytest.approx(total / 24, rel=1e-4)

    signal, spread = SCHEDULE.shares(t, good)

    def perfect(x, beta):  # the noise for which the implied displacement is exactly good - defective
        return (x - signal * (good - defective)) / spread

    assert displacement_loss(SCHEDULE, perfect, good, defective, noise, t).item() < 1e-6
