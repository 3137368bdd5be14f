"""The Triton reverse process against the definition; run by test_triton.py, in the interpreter or on a GPU."""

from __future__ import annotations

import pytest
import torch
from support import DEVICE, doubled, draw, error, install_bfloat16

from r3dad import philox
from r3dad.kernels import reverse_diffusion_triton as kernel
from r3dad.kernels import reverse_layout
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition

install_bfloat16()
PAPER = (128, 256, 512, 256, 128)


def problem(widths, batch, points, steps, features=0, noise=True, seed=0):
    """Arguments of the definition up to ``condition``, with weights of the size that training starts from."""
    r = draw(seed)
    sizes = (3 + features, *widths, 3)
    weights = [r(m, k) / k**0.5 for k, m in zip(sizes, sizes[1:])]
    biases = [0.1 * r(m) for m in sizes[1:]]
    total = sum(sizes[1:])
    tables = [r(steps, total), 0.5 * r(batch, total), 0.1 * r(steps, total), 0.1 * r(batch, total)]
    coefficients = torch.tensor([[1.01, -0.1, 0.2 if noise else 0.0]]).repeat(steps, 1)
    if steps:
        coefficients[-1, 2] = 0.0  # no noise in the last step
    seeds = torch.arange(batch) * 0x9E3779B97F4A7C15 % (1 << 62) + 5
    condition = r(batch, points, features) if features else None
    return weights, biases, *tables, coefficients.to(DEVICE), r(batch, points, 3), seeds.to(DEVICE), condition


CASES = {
    "paper": dict(widths=PAPER, batch=1, points=70, steps=2),
    "paper, one point": dict(widths=PAPER, batch=1, points=1, steps=1),
    "ragged, three clouds": dict(widths=(32, 64, 128, 64, 32), batch=3, points=97, steps=3),
    "odd widths": dict(widths=(20, 33, 100, 48, 17), batch=2, points=33, steps=2),
    "condition, deterministic": dict(widths=(128,) * 5, batch=2, points=40, steps=2, features=7, noise=False),
    "condition, odd first layer": dict(widths=(24, 32, 64, 32, 16), batch=1, points=65, steps=2, features=5),
    "no steps": dict(widths=(16,) * 5, batch=2, points=5, steps=0),
    "no clouds": dict(widths=(16,) * 5, batch=0, points=5, steps=1),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_definition(case, precision):
    args = problem(**CASES[case])
    assert kernel.why_not("reverse_diffusion", *args, 0.01, precision) is None
    got = kernel.reverse_diffusion(*args, 0.01, precision)
    assert got.shape == args[7].shape and torch.isfinite(got).all()
    if got.numel() == 0:
        return
    exact = reverse_diffusion_definition(*doubled(args), 0.01, "float32")
    plain = reverse_diffusion_definition(*args, 0.01, precision)
    ours, theirs = error(got, exact), error(plain, exact)
    print(f"{case}, {precision}: {ours:.1e}, plain PyTorch {theirs:.1e}")
    assert ours <= 2 * theirs + (2e-6 if precision == "float32" else 1e-4)


def test_clouds_in_groups_give_the_same_bits(monkeypatch):
    args = problem((16, 32, 32, 32, 16), batch=3, points=20, steps=2, features=3)
    whole = kernel.reverse_diffusion(*args, 0.2, "float32")
    monkeypatch.setattr(reverse_layout, "_TABLE_BYTES", 1)
    assert torch.equal(kernel.reverse_diffusion(*args, 0.2, "float32"), whole)


def test_noise_is_keyed_by_cloud_point_and_step():
    """With weights of zero a step adds noise alone; what comes out is Philox's, whatever the order of clouds."""
    weights, biases, *rest = problem((16,) * 5, batch=2, points=70, steps=2)
    weights = [torch.zeros_like(w) for w in weights]
    biases = [torch.zeros_like(b) for b in biases]
    gate_time, gate_shape, shift_time, shift_shape, _, start, seeds, _ = rest
    shift_time, shift_shape = torch.zeros_like(shift_time), torch.zeros_like(shift_shape)
    coefficients = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]], device=DEVICE)
    seeds = torch.tensor([-3, (7 << 40) + 11], device=DEVICE)
    args = (weights, biases, gate_time, gate_shape, shift_time, shift_shape, coefficients, start)
    got = kernel.reverse_diffusion(*args, seeds, None, 0.01, "float32")
    want = philox.normal(seeds, 70, 1) + philox.normal(seeds, 70, 2)
    assert torch.allclose(got, want, rtol=0, atol=5e-6)
    turned = kernel.reverse_diffusion(*args, seeds.flip(0), None, 0.01, "float32")
    assert torch.equal(turned.flip(0), got)


def test_says_why_not():
    args = problem((16,) * 5, batch=1, points=4, steps=1)
    assert "float64" in kernel.why_not("reverse_diffusion", *doubled(args), 0.01, "float32")
    four = (args[0][:3] + args[0][-1:], *args[1:])
    assert "6 layers, got 4" in kernel.why_not("reverse_diffusion", *four, 0.01, "float32")
    wide = problem((16, 16, 600, 16, 16), batch=1, points=4, steps=1)
    assert "600" in kernel.why_not("reverse_diffusion", *wide, 0.01, "float32")
