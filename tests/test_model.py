"""Encoder and decoder: shapes, the laws that the paper's argument rests on, folding, and the module against the operation."""

import torch

from r3dad import ops
from r3dad.model import Autoencoder, PointNetEncoder, PointwiseNet


def _trained_encoder() -> PointNetEncoder:
    torch.manual_seed(0)
    encoder = PointNetEncoder()
    for _ in range(3):
        encoder(torch.randn(4, 50, 3))  # moves the running statistics away from 0 and 1
    return encoder


def test_encoder_has_the_papers_widths():
    encoder = PointNetEncoder()
    assert [tuple(layer.weight.shape) for layer in encoder.pointwise] == [(128, 3), (128, 128), (256, 128), (512, 256)]
    assert [tuple(layer.weight.shape) for layer in encoder.head] == [(256, 512), (128, 256), (256, 128)]


def test_decoder_has_the_papers_widths():
    decoder = PointwiseNet()
    assert [layer.layer.out_features for layer in decoder.layers] == [128, 256, 512, 256, 128, 3]
    assert decoder.layers[0].hyper_gate.in_features == 259 and decoder.layers[0].hyper_bias.bias is None


def test_folded_encoder_equals_the_module():
    """ops.encode with the running statistics folded in, against the layers and norms one by one in eval mode."""
    encoder = _trained_encoder().double().eval()
    points = torch.randn(3, 40, 3).double()
    x = points
    for i, (layer, norm) in enumerate(zip(encoder.pointwise, encoder.pointwise_norm)):
        x = norm(layer(x).transpose(1, 2)).transpose(1, 2)
        x = x.relu() if i < 3 else x
    x = x.amax(1)
    for layer, norm in zip(encoder.head[:-1], encoder.head_norm):
        x = norm(layer(x)).relu()
    assert torch.allclose(encoder(points), encoder.head[-1](x), rtol=1e-9, atol=1e-9)


def test_latent_is_invariant_to_point_order_and_to_repeated_points():
    encoder = _trained_encoder().eval()
    points = torch.randn(2, 64, 3)
    latent = encoder(points)
    assert torch.allclose(latent, encoder(points[:, torch.randperm(64)]), atol=1e-5)
    assert torch.allclose(latent, encoder(torch.cat([points, points[:, :10]], 1)), atol=1e-5)


def test_no_layer_of_the_decoder_looks_across_points():
    torch.manual_seed(0)
    decoder = PointwiseNet()
    x, betas, latent = torch.randn(2, 30, 3), torch.tensor([0.01, 0.04]), torch.randn(2, 256)
    whole = decoder(x, betas, latent)
    order = torch.randperm(30)
    assert torch.allclose(whole[:, order], decoder(x[:, order], betas, latent), atol=1e-5)
    assert torch.allclose(whole[:, 4:5], decoder(x[:, 4:5], betas, latent), atol=1e-5)


def test_concat_squash_layer_is_the_papers_formula():
    torch.manual_seed(0)
    layer = PointwiseNet(16, (8,)).double().layers[0]
    x, e = torch.randn(2, 5, 3).double(), torch.randn(2, 19).double()
    y = x @ layer.layer.weight.T + layer.layer.bias
    gate = torch.sigmoid(e @ layer.hyper_gate.weight.T + layer.hyper_gate.bias)
    y = y * gate[:, None] + (e @ layer.hyper_bias.weight.T)[:, None]
    assert torch.allclose(layer(x, e), torch.nn.functional.leaky_relu(y, 0.01))


def test_sampling_sees_a_per_point_condition_as_the_module_does():
    torch.manual_seed(0)
    decoder = PointwiseNet(4, (16, 16), condition=5).double()
    x, condition, latent = torch.randn(2, 7, 3).double(), torch.randn(2, 7, 5).double(), torch.randn(2, 4).double()
    once = torch.tensor([[0.0, 1.0, 0.0]]).double()
    got = decoder.sample(x, torch.tensor([0.02]).double(), once, torch.tensor([0, 1]), latent, condition)
    want = decoder(x, torch.tensor([0.02, 0.02]).double(), latent, condition)
    assert torch.allclose(got, want, atol=1e-12)


def test_unconditional_model_has_no_encoder():
    model = Autoencoder(conditioned=False)
    assert model.encode(torch.randn(1, 8, 3)) is None
    assert model.decoder(torch.randn(1, 8, 3), torch.tensor([0.1])).shape == (1, 8, 3)


def test_operations_survive_torch_compile():
    torch.manual_seed(0)
    x, w, b, g = torch.randn(1, 6, 4), torch.randn(5, 4), torch.randn(5), torch.rand(1, 5)
    compiled = torch.compile(lambda *a: ops.concat_squash(*a, 0.01) * 2, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x, w, b, g, g), ops.concat_squash(x, w, b, g, g, 0.01) * 2)
