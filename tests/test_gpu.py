"""On a GPU: the whole chain gives the CPU's scores, and training runs there."""

from __future__ import annotations

import pytest
import torch

from r3dad import backends, ops, philox
from r3dad.config import PaperConfig
from r3dad.diffusion import Schedule
from r3dad.model import Autoencoder
from r3dad.ops.cluster_distance import cluster_distance_definition
from r3dad.ops.knn import knn_definition
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition
from r3dad.synth.patch_gen import displace_patch_definition, patch_gen
from tests.op_cases import PAPER, mapped, reverse_case
from tests.test_ops import ROWS
from tests.test_ops import test_backend_equals_the_definition as check_row

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


@pytest.mark.parametrize("op, backend, case", [row for row in ROWS if row.values[1] == "cuda"])
def test_cuda_equals_the_definition_in_every_case(op, backend, case):
    check_row(op, backend, case)


@pytest.mark.parametrize("moved_by", [0.01, 1.0])
def test_cluster_distance_at_full_size(moved_by):
    u = philox.uniform(torch.arange(2, device="cuda"), 4096, 0)
    points = torch.stack([u[..., 0], u[..., 1], 0.3 * (6 * u[..., 0]).sin()], -1)
    reconstruction = points + moved_by * philox.normal(torch.arange(2, device="cuda"), 4096, 1)
    args = points, reconstruction, 64
    if reason := backends.why_not("cluster_distance", "cuda", *args):
        pytest.skip(reason)
    with backends.use_backend(cluster_distance="cuda"):
        ours = ops.cluster_distance(*args)
    assert torch.allclose(ours, cluster_distance_definition(*args), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("tile", [0, 32, 64, 128])
@pytest.mark.parametrize("features", [0, 5])
def test_reverse_diffusion_in_cuda_for_every_tile(tile, features):
    args = mapped(reverse_case(3, 1000, 20, PAPER, features, precision="bfloat16"), lambda t: t.cuda())
    if reason := backends.why_not("reverse_diffusion", "cuda", *args):
        pytest.skip(reason)
    from r3dad.kernels.reverse_diffusion_cuda import reverse_diffusion

    if tile == 128 and torch.cuda.get_device_properties(0).shared_memory_per_block_optin < 230_912:
        pytest.skip("tiles of 128 points need the shared memory of compute capability 9.0")
    ours, plain = reverse_diffusion(*args, tile), reverse_diffusion_definition(*args)
    doubled = mapped(args[:-1], lambda t: t.double() if t.is_floating_point() else t)
    exact = reverse_diffusion_definition(*doubled, "float32")
    error, allowed = ((t - exact).abs().max() for t in (ours, plain))
    assert error <= 2 * allowed + 1e-6 * exact.abs().max()
    assert torch.equal(ours, reverse_diffusion(*args, 64)), "depends on the tile"


@pytest.mark.parametrize("kind", [None, "sink", "bulge", "damage"])
@pytest.mark.parametrize("draw", ["gaussian", "uniform"])
def test_patches_equal_the_definition(kind, draw):
    points = philox.uniform(torch.arange(128, device="cuda"), 2048, 0)[..., :3] * 2 - 1
    seeds = torch.arange(128, device="cuda") + 2**40
    good, defective, mask = patch_gen(points, seeds, 1 / 32, 0.1, draw, kind)
    want, wanted = displace_patch_definition(good, seeds, 64, 0.1, draw, kind)
    assert torch.equal(mask, wanted) and torch.allclose(defective, want, atol=2e-6)


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
