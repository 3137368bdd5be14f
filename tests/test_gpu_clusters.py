"""On a GPU of compute capability 9.0: the reverse process by wgmma, for all sizes of tile and cluster."""

from __future__ import annotations

import pytest
import torch

from r3dad import backends
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition
from tests.op_cases import PAPER, mapped, reverse_case

pytestmark = pytest.mark.gpu


def variant():
    """The function, where this GPU and this build have it."""
    args = mapped(reverse_case(1, 10, 1, precision="bfloat16"), lambda t: t.cuda())
    if reason := backends.why_not("reverse_diffusion", "cuda", *args):
        pytest.skip(reason)
    from r3dad.kernels.reverse_diffusion_cuda import reverse_diffusion, why_not_clusters

    if reason := why_not_clusters(torch.device("cuda", 0)):
        pytest.skip(reason)
    return reverse_diffusion


@pytest.mark.parametrize("tile, cluster", [(64, 1), (64, 2), (64, 4), (64, 8), (128, 1), (128, 2), (128, 4), (0, 2)])
@pytest.mark.parametrize("features", [0, 5])
def test_reverse_diffusion_in_clusters(tile, cluster, features):
    reverse_diffusion = variant()
    args = mapped(reverse_case(3, 1000, 20, PAPER, features, precision="bfloat16"), lambda t: t.cuda())
    ours, plain = reverse_diffusion(*args, tile, cluster), reverse_diffusion_definition(*args)
    doubled = mapped(args[:-1], lambda t: t.double() if t.is_floating_point() else t)
    exact = reverse_diffusion_definition(*doubled, "float32")
    error, allowed = ((t - exact).abs().max() for t in (ours, plain))
    assert error <= 2 * allowed + 1e-6 * exact.abs().max()
    assert torch.equal(ours, reverse_diffusion(*args, 64, 1)), "depends on tile or cluster"


def test_many_clouds_give_the_same_bits_every_time():
    reverse_diffusion = variant()
    args = mapped(reverse_case(8, 4096, 50, PAPER, precision="bfloat16"), lambda t: t.cuda())
    first = reverse_diffusion(*args, 128, 2)
    assert all(torch.equal(first, reverse_diffusion(*args, 128, 2)) for _ in range(3))


@pytest.mark.parametrize("widths", [(20, 130, 3), (256, 384, 512, 3), (128, 64, 200, 30, 7, 3)])
def test_other_widths(widths):
    reverse_diffusion = variant()
    args = mapped(reverse_case(2, 333, 9, widths, precision="bfloat16"), lambda t: t.cuda())
    assert torch.allclose(reverse_diffusion(*args, 64, 2), reverse_diffusion(*args), rtol=1e-2, atol=1e-2)
