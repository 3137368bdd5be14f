"""Patch-Gen (Alg. 1, eq. 7-8): what moves, where and how far."""

import pytest
import torch

from r3dad import backends
from r3dad.synth.patch_gen import KINDS, VIEWPOINTS, patch_gen, random_rotations

SEEDS = torch.arange(12) + 2**35


@pytest.fixture
def points():
    torch.manual_seed(0)
    return torch.rand(12, 320, 3) * 2 - 1


def test_the_26_viewpoints_lie_on_the_cube():
    assert VIEWPOINTS.shape == (26, 3) and (VIEWPOINTS.abs().amax(1) == 2).all()
    assert len({tuple(v) for v in VIEWPOINTS.tolist()}) == 26


def test_rotations_are_rotations_and_differ():
    r = random_rotations(SEEDS)
    assert torch.allclose(r @ r.transpose(1, 2), torch.eye(3).expand(12, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(r), torch.ones(12), atol=1e-5)
    assert (r[0] - r[1]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", [1 / 64, 1 / 32, 1 / 8])
def test_exactly_n_points_move_and_the_mask_says_which(points, kind, ratio):
    good, defective, mask = patch_gen(points, SEEDS, ratio, draw="uniform", kind=kind)
    assert (mask.sum(1) == round(320 * ratio)).all()
    moved = (good != defective).any(-1)
    assert not moved[~mask].any() and moved[mask].float().mean() > 0.99  # T of exactly 0 would leave a point in place


def test_good_cloud_is_only_rotated(points):
    good, _, _ = patch_gen(points, SEEDS)
    assert torch.allclose(
        torch.cdist(good.double(), good.double()), torch.cdist(points.double(), points.double()), atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_patch_is_the_points_nearest_to_one_viewpoint_and_moves_along_its_rays(points, kind):
    good, defective, mask = patch_gen(points, SEEDS, 1 / 32, 0.1, "uniform", kind)
    for cloud, moved, m in zip(good, defective, mask):
        distance = torch.cdist(VIEWPOINTS, cloud)
        nearest = distance.argsort(1)[:, : int(m.sum())]
        match = [set(n.tolist()) == set(m.nonzero()[:, 0].tolist()) for n in nearest]
        assert any(match)
        view = VIEWPOINTS[match.index(True)]
        order = nearest[match.index(True)]
        step = moved[order] - cloud[order]
        ray = torch.nn.functional.normalize(cloud[order] - view, dim=-1)
        along = (step * ray).sum(-1)
        assert torch.allclose(step, along[:, None] * ray, atol=1e-5)
        assert along.abs().max() <= 0.1 + 1e-6
        if kind == "sink":  # nearest moves farthest, away from the viewpoint
            assert (along > 0).all() and (along.diff() <= 1e-6).all()
        elif kind == "bulge":
            assert (along < 0).all() and (along.diff() >= -1e-6).all()
        else:
            assert (along.diff() > 0).any() and (along.diff() < 0).any()


def test_scale_is_linear_and_the_gaussian_draw_has_its_spread(points):
    small = patch_gen(points, SEEDS, scale=0.1, kind="damage")
    large = patch_gen(points, SEEDS, scale=0.4, kind="damage")
    assert torch.allclose(4 * (small[1] - small[0]), large[1] - large[0], atol=1e-5)
    many = torch.rand(200, 320, 3) * 2 - 1
    good, defective, mask = patch_gen(many, torch.arange(200), 1 / 4, 0.1, "gaussian", "damage")
    length = (defective - good)[mask].norm(dim=-1)
    assert length.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.03)


def test_result_is_a_function_of_cloud_and_seed_not_of_the_batch(points):
    whole = patch_gen(points, SEEDS)
    part = patch_gen(points[3:5], SEEDS[3:5])
    for a, b in zip(whole, part):
        assert torch.equal(a[3:5], b)


def test_all_kinds_are_drawn():
    points = torch.rand(60, 64, 3)
    _, _, mask = patch_gen(points, torch.arange(60))
    by_kind = {k: patch_gen(points, torch.arange(60), kind=k)[1] for k in KINDS}
    drawn = patch_gen(points, torch.arange(60))[1]
    share = {k: float((drawn == by_kind[k]).flatten(1).all(1).float().mean()) for k in KINDS}
    assert all(0.15 < s < 0.55 for s in share.values()), share


def test_a_backend_asked_for_everywhere_holds_where_it_exists():
    points, seeds = torch.randn(1, 64, 3), torch.zeros(1, dtype=torch.int64)
    with backends.use_backend("torch"):
        plain = patch_gen(points, seeds, 1 / 8, 0.1)
    with backends.use_backend("triton"):  # knn has it, the patch has not; on a CPU it cannot run
        assert backends.asked_for("knn") == "triton" and backends.asked_for("displace_patch") is None
    with backends.use_backend("torch", displace_patch="torch"):
        assert all(torch.equal(a, b) for a, b in zip(plain, patch_gen(points, seeds, 1 / 8, 0.1), strict=True))
    with (
        backends.use_backend(displace_patch="cpu"),
        pytest.raises(backends.BackendError, match="no cpu implementation"),
    ):
        patch_gen(points, seeds, 1 / 8, 0.1)
