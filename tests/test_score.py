"""Normalisation, sampling, upsampling, thresholds and the cluster score as the paper words it."""

import numpy as np
import pytest
import torch

from r3dad import ops
from r3dad.errors import InputError
from r3dad.score import normalisation, sample, threshold, upsample


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_normalisation_keeps_shape_whatever_the_units(shift, scale):
    unit = torch.rand(500, 3, dtype=torch.float64)
    want = normalisation(unit).apply(unit)
    cloud = unit * scale + shift * scale
    frame = normalisation(cloud)
    got = frame.apply(cloud)
    assert torch.allclose(got, want, atol=1e-4)
    assert got.abs().max() <= 1 + 1e-6
    assert torch.allclose(got.double() * frame.scale + frame.centre, cloud, rtol=1e-6, atol=1e-6 * scale)


def test_one_place_is_refused():
    with pytest.raises(InputError, match="one place"):
        normalisation(torch.full((10, 3), 1e6, dtype=torch.float64))


def test_sample_is_without_replacement_and_seeded():
    a = sample(1000, 200, 1)
    assert len(set(a.tolist())) == 200 and torch.equal(a, sample(1000, 200, 1))
    assert not torch.equal(a, sample(1000, 200, 2))
    assert sorted(sample(50, 200, 1).tolist()) == list(range(50))


def test_upsampling_keeps_samples_and_interpolates():
    torch.manual_seed(0)
    sampled = torch.rand(400, 3)
    scores = sampled[:, 0].clone()
    assert torch.allclose(upsample(scores, sampled, sampled), scores, atol=1e-5)
    points = torch.rand(1000, 3) * 0.8 + 0.1
    assert (upsample(scores, sampled, points) - points[:, 0]).abs().mean() < 0.05


def test_threshold_is_the_quantile_of_good_scores():
    scores = torch.arange(1, 101).double()
    limit = threshold(scores, 0.05)
    assert (scores > limit).sum() == 5


def test_cluster_score_is_the_papers_wording():
    """k neighbours in the own cloud, itself first, sorted; rows of 3k; squared distance to the nearest row. As a loop."""
    rng = np.random.default_rng(0)
    a, b, k = rng.random((20, 3)), rng.random((25, 3)), 6

    def rows(cloud):
        return [cloud[np.argsort(((cloud - p) ** 2).sum(1), kind="stable")[:k]].ravel() for p in cloud]

    want = [min(((r - s) ** 2).sum() for s in rows(b)) for r in rows(a)]
    got = ops.cluster_distance(torch.from_numpy(a)[None], torch.from_numpy(b)[None], k)[0]
    assert np.allclose(got.numpy(), want, rtol=1e-9)


def test_cluster_score_laws():
    torch.manual_seed(0)
    a, b = torch.rand(1, 100, 3), torch.rand(1, 100, 3)
    score = ops.cluster_distance(a, b, 16)
    order = torch.randperm(100)
    assert torch.allclose(score[:, order], ops.cluster_distance(a[:, order], b, 16), atol=1e-6)
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    assert torch.allclose(score, ops.cluster_distance(a @ turn, b @ turn, 16), rtol=1e-3, atol=1e-4)
    assert (ops.cluster_distance(a, a, 16) == 0).all()
