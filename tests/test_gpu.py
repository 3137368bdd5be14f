"""On a GPU: the whole chain gives the CPU's scores, and training runs there."""

from __future__ import annotations

import pytest
import torch

from r3dad import backends, ops, philox
from r3dad.config import PaperConfig
from r3dad.diffusion import Schedule
from r3dad.model import Autoencoder
from r3dad.ops.knn import knn_definition

pytestmark = pytest.mark.gpu


def scores(device: str, precision: str) -> torch.Tensor:
    torch.manual_seed(0)
    model = Autoencoder().eval()
    points = philox.uniform(torch.arange(3), 512, 0)[..., :3] * 2 - 1
    seeds = torch.tensor([5, 6, 7])
    times, coefficients = Schedule(20).ancestral()
    betas = Schedule(20).betas[times].float()
    model, points, seeds = model.to(device), points.to(device), seeds.to(device)
    start = philox.normal(seeds, 512, 0)
    latent = model.encode(points)
    moved = model.decoder.sample(start, betas.to(device), coefficients.to(device), seeds, latent, precision=precision)
    return ops.cluster_distance(points, points + moved.detach(), 16).cpu()


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-3), ("bfloat16", 2e-2)])
def test_scores_equal_the_cpu(precision, tolerance):
    ours, cpu = scores("cuda", precision), scores("cpu", "float32")
    assert torch.allclose(ours, cpu, rtol=tolerance, atol=tolerance * float(cpu.max()))


@pytest.mark.parametrize("k", [1, 64, 500])
@pytest.mark.parametrize("backend", ["cuda", "triton", "keops"])
def test_knn_equals_the_definition(backend, k):
    query, reference = (philox.uniform(torch.arange(2, device="cuda") + 9, n, 0)[..., :3] for n in (300, 1000))
    if reason := backends.why_not("knn", backend, query, reference, k):
        pytest.skip(f"{backend}: {reason}")
    with backends.use_backend(backend):
        distances, indices = ops.knn(query, reference, k)
    want = knn_definition(query, reference, k)
    assert torch.allclose(distances, want[0], rtol=1e-6)
    assert backend == "keops" or torch.equal(indices, want[1])


def test_the_same_seed_gives_the_same_bits():
    assert torch.equal(scores("cuda", "bfloat16"), scores("cuda", "bfloat16"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_learns(precision):
    from r3dad.train import train

    scan = philox.uniform(torch.arange(1), 3000, 0)[0, :, :3].double()
    losses = []
    config = PaperConfig(points=256, batch=16, iterations=60, precision=precision)
    train([scan], config, device="cuda", progress=lambda share, text: losses.append(float(text.split()[1])))
    assert losses[-1] == losses[-1] and losses[-1] < 10


def test_the_graph_of_the_step_trains_as_its_eager_steps_do(monkeypatch):
    from r3dad import train as training

    scan = philox.uniform(torch.arange(1), 3000, 0)[0, :, :3].double()
    config = PaperConfig(points=256, batch=16, iterations=8)
    graphed = training.train([scan], config, device="cuda").state_dict()
    monkeypatch.setattr(training, "_graphed", lambda step: step)
    eager = training.train([scan], config, device="cuda").state_dict()
    for name, tensor in eager.items():
        assert torch.allclose(graphed[name].float(), tensor.float(), rtol=1e-3, atol=1e-4), name
