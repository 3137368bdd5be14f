"""The operations reach the Triton rows of the table, and gradients flow; run by test_triton.py, in the interpreter or on a GPU."""

from __future__ import annotations

import pytest
import torch
from support import DEVICE, INTERPRETED, draw

from r3dad import backends, ops
from r3dad.backends import BackendError, use_backend
from r3dad.model import PointNetEncoder, PointwiseNet


def layer():
    r = draw(0)
    tensors = r(2, 9, 5), r(7, 5), r(7), r(2, 7), r(2, 7)
    return [t.requires_grad_() for t in tensors]


def test_gradients_of_the_operation_equal_plain_pytorch():
    gradients = {}
    for backend in ("triton", "torch"):
        args = layer()
        with use_backend(backend):
            ops.concat_squash(*args, 0.01).square().sum().backward()
        gradients[backend] = [a.grad for a in args]
    for ours, theirs in zip(gradients["triton"], gradients["torch"], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_every_operation_has_a_triton_row_that_takes_it():
    points, layers = draw(1)(1, 6, 3), (*layer(), 0.01)
    for op, args in {
        "knn": (points, points, 2),
        "cluster_distance": (points, points, 2),
        "concat_squash": layers,
    }.items():
        assert backends.why_not(op, "triton", *args) is None
    for op, rows in backends.TABLE.items():
        assert "triton" in rows or op in (
            "displace_patch",
            "knn_tree",
            "messages",
            "messages_backward",
            "neighbour_mean",
        ), op


def test_model_samples_and_encodes_through_triton():
    torch.manual_seed(0)
    net = PointwiseNet(latent=16, widths=(16, 32, 32, 16, 16)).to(DEVICE)
    encoder = PointNetEncoder(16).to(DEVICE).eval()
    start = draw(2)(2, 10, 3)
    results = {}
    for backend in ("triton", "torch"):
        with use_backend(backend):
            latent = encoder(start).detach()
            betas, coefficients = torch.tensor([0.05, 0.01]), torch.tensor([[1.0, -0.1, 0.1], [1.0, -0.1, 0.0]])
            seeds = torch.tensor([1, 2], device=DEVICE)
            results[backend] = net.sample(start, betas.to(DEVICE), coefficients.to(DEVICE), seeds, latent)
    assert torch.allclose(results["triton"], results["torch"], atol=2e-5)


def test_refuses_in_words():
    points = draw(1)(1, 6, 3).double()
    with use_backend("triton"), pytest.raises(BackendError, match="takes float32, got torch.float64"):
        ops.knn(points, points, 2)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes CPU tensors")
def test_refuses_cpu_tensors():
    assert "GPU" in backends.why_not("knn", "triton", torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), 1)
