"""Public checkpoints: read into our model, equal to a plain module of the public structure, and never executed."""

import argparse
import os

import numpy as np
import pytest
import torch
from torch import nn

from r3dad import Detector, InputError
from r3dad.public_checkpoint import read_public_checkpoint
from tests.conftest import block_scan


class Encoder(nn.Module):
    """The public code's PointNetEncoder: convolutions, a mean and a variance head."""

    def __init__(self, latent=32):
        super().__init__()
        for i, (k, m) in enumerate([(3, 128), (128, 128), (128, 256), (256, 512)], 1):
            setattr(self, f"conv{i}", nn.Conv1d(k, m, 1))
            setattr(self, f"bn{i}", nn.BatchNorm1d(m))
        for head in "mv":
            for i, (k, m) in enumerate([(512, 256), (256, 128), (128, latent)], 1):
                setattr(self, f"fc{i}_{head}", nn.Linear(k, m))
                if i < 3:
                    setattr(self, f"fc_bn{i}_{head}", nn.BatchNorm1d(m))

    def forward(self, x):
        x = x.transpose(1, 2)
        for i in (1, 2, 3):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = self.bn4(self.conv4(x)).max(2).values
        x = torch.relu(self.fc_bn1_m(self.fc1_m(x)))
        return self.fc3_m(torch.relu(self.fc_bn2_m(self.fc2_m(x))))


class Layer(nn.Module):
    def __init__(self, k, m, context):
        super().__init__()
        self._layer = nn.Linear(k, m)
        self._hyper_bias = nn.Linear(context, m, bias=False)
        self._hyper_gate = nn.Linear(context, m)

    def forward(self, context, x):
        return self._layer(x) * torch.sigmoid(self._hyper_gate(context)) + self._hyper_bias(context)


class Public(nn.Module):
    def __init__(self, latent=32, steps=10):
        super().__init__()
        self.encoder = Encoder(latent)
        widths = (3, 16, 32, 16, 3)
        self.diffusion = nn.Module()
        self.diffusion.net = nn.Module()
        self.diffusion.net.layers = nn.ModuleList(Layer(k, m, latent + 3) for k, m in zip(widths, widths[1:]))
        self.diffusion.var_sched = nn.Module()
        betas = torch.cat([torch.zeros(1), torch.linspace(1e-4, 0.05, steps)])
        self.diffusion.var_sched.register_buffer("betas", betas)
        self.diffusion.var_sched.register_buffer("alpha_bars", (1 - betas).cumprod(0))

    def decode(self, x, beta, latent):
        beta = beta.view(-1, 1, 1)
        context = torch.cat([beta, beta.sin(), beta.cos(), latent[:, None]], -1)
        h = x
        for i, layer in enumerate(self.diffusion.net.layers):
            h = layer(context, h)
            h = nn.functional.leaky_relu(h) if i < 3 else h
        return x + h


@pytest.fixture
def public(tmp_path):
    torch.manual_seed(0)
    model = Public()
    for _ in range(2):
        model.encoder(torch.randn(4, 50, 3))  # moves the running statistics
    args = argparse.Namespace(num_points=128, seed=7, category="gear")
    torch.save({"args": args, "state_dict": model.state_dict()}, tmp_path / "ckpt.pt")
    return model.eval(), tmp_path / "ckpt.pt"


def test_every_weight_lands_where_it_belongs(public):
    theirs, path = public
    config, ours = read_public_checkpoint(path)
    assert (config.points, config.seed, config.steps, config.latent, config.widths) == (128, 7, 10, 32, (16, 32, 16))
    points, beta = torch.randn(2, 40, 3), torch.tensor([0.01, 0.05])
    latent = theirs.encoder(points)
    assert torch.allclose(ours.encode(points), latent, atol=1e-5)
    assert torch.allclose(ours.decoder(points, beta, latent), theirs.decode(points, beta, latent), atol=1e-5)


def test_detector_gives_scores_and_a_verdict_only_with_good_scans(public):
    _, path = public
    scan = block_scan(3)
    found = Detector.from_public_checkpoint(path).predict(scan)
    assert np.isfinite(found.score) and found.is_defective is None
    verdict = Detector.from_public_checkpoint(path, [block_scan(0), block_scan(1)]).predict(scan)
    assert verdict.score == found.score and verdict.is_defective in (True, False)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_is_executed_and_foreign_files_are_refused(public, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"args": Harmful(), "state_dict": {}}, tmp_path / "harmful.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("harmful.pt", "other.pt", "text.pt", "missing.pt"):
        with pytest.raises(InputError, match=name):
            Detector.from_public_checkpoint(tmp_path / name)
    assert not (tmp_path / "harm").exists()
