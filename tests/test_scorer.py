"""Features, the graph network, and synthetic defects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from r3dad import checkpoint
from r3dad.errors import InputError
from r3dad.features import COLUMNS, describe
from r3dad.recipes.refine import made, refined
from r3dad.scorer import Scorer, load_scorer, silu, summary, top
from r3dad.scorer_training import Sample, fit_points, train
from r3dad.surface import Surface
from r3dad.synth.defects import KINDS, LABEL_AT, Geometry, draw_kinds, synthetic
from r3dad.train_scorer import KINDS as DRAWN
from r3dad.train_scorer import Design, described, simulated
from tests.aligned_shapes import stepped_block

DIAGONAL = float(np.linalg.norm([60, 40, 30]))


@pytest.fixture(scope="module")
def clouds() -> list[np.ndarray]:
    return [(stepped_block(i) - [30, 20, 15]) / DIAGONAL for i in range(3)]


@pytest.fixture(scope="module")
def surface(clouds) -> Surface:
    return Surface.build(clouds[:2])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_defect_shows_and_is_labelled(clouds, surface, kind):
    good, _ = Geometry.of(clouds[0], surface)
    made = [KINDS[kind](good, np.random.default_rng(seed), 0.02) for seed in range(5)]
    assert max(g.label.mean() for g in made) > 0.002
    assert all(len(g.points) == len(g.normals) == len(g.label) for g in made)
    for g in made:
        if len(g.points) == len(good.points) and kind != "hole":
            moved = np.linalg.norm(g.points - good.points, axis=1)
            assert ((moved > LABEL_AT) == g.label).all()


def test_synthetic_scans_are_the_same_for_the_same_seed(clouds, surface):
    good, _ = Geometry.of(clouds[0], surface)
    (p, a), (q, b) = (
        synthetic(np.random.default_rng(3), good, draw_kinds(np.random.default_rng(1), 2)) for _ in range(2)
    )
    assert np.array_equal(p, q) and np.array_equal(a, b)


def test_features_are_finite_and_see_the_dent(surface):
    dented = (stepped_block(9, dent=1.5) - [30, 20, 15]) / DIAGONAL
    found, (away, *_) = describe(surface, [dented] * 3)
    assert np.isfinite(found.nodes).all()
    near = np.linalg.norm(dented[:, :2] * DIAGONAL + [30, 20] - [42, 20], axis=1) < 3
    deep = near & (dented[:, 2] * DIAGONAL + 15 < 14.5) & (dented[:, 2] * DIAGONAL + 15 > 12)
    assert away.signed[deep].mean() * DIAGONAL < -0.9


def test_features_see_the_gap(surface):
    whole, holed = ((stepped_block(9, hole=r) - [30, 20, 15]) / DIAGONAL for r in (0.0, 5.0))
    assert describe(surface, [holed] * 3)[0].gap > 2 * describe(surface, [whole] * 3)[0].gap


def test_scorer_state_round_trip_and_point_order(surface, clouds):
    found, _ = describe(surface, [clouds[2]] * 3)
    torch.manual_seed(0)
    assert found.nodes.shape[1] == COLUMNS
    net = Scorer(COLUMNS).eval()
    scores = net.score(found)
    assert scores.shape == (len(clouds[2]),)
    again = Scorer.from_state(*net.state())
    assert np.array_equal(again.score(found), scores)
    assert again.verdict(scores) == net.verdict(scores)
    turn = np.random.default_rng(0).permutation(len(clouds[2]))
    shuffled, _ = describe(surface, [clouds[2][turn]] * 3)
    assert np.allclose(net.score(shuffled), scores[turn], atol=1e-3)


@pytest.mark.parametrize("count", [6001, 8191, 9973])
def test_scores_do_not_depend_on_the_number_of_threads(count):
    net, g = load_scorer(), torch.Generator().manual_seed(count)
    nodes, points = torch.randn(count, len(net.mean), generator=g), torch.rand(count, 3, generator=g)
    j = torch.randint(count, (count, 32), generator=g)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad():
                found.append(net(nodes, j, points, torch.nn.functional.normalize(points), 0.01))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_shipped_scorer_fits_the_features(surface, clouds):
    found, _ = describe(surface, [clouds[2]] * 3)
    net = load_scorer()
    assert len(net.mean) == found.nodes.shape[1]
    assert np.isfinite(summary(net.score(found))).all()


def test_the_two_sides_of_a_thin_wall_are_averaged_apart():
    rng = np.random.default_rng(0)

    def sheet(count: int) -> np.ndarray:
        return np.c_[rng.random((count, 2)), 0.02 * rng.integers(0, 2, count)]  # on each side points are 0.02 apart

    surface = Surface.build([sheet(6000) + rng.normal(0, 0.0005, (6000, 3)) for _ in range(3)])
    cloud = sheet(6000)
    above, middle = cloud[:, 2] > 0.01, (np.abs(cloud[:, :2] - 0.5) < 0.35).all(1)
    away = np.linalg.norm(cloud[:, :2] - 0.5, axis=1)
    cloud[:, 2] += 0.01 * (above & (away < 0.1))
    scan, _ = describe(surface, [cloud])
    size = np.exp(scan.nodes[:, 0])  # mean over 8 neighbours
    bump, calm = size[above & (away < 0.07)], size[~above & (away < 0.07)]
    assert np.quantile(calm, 0.9) < 0.3 * np.quantile(bump, 0.1)
    smooth = Scorer.smooth(scan, above.astype(float))
    assert np.mean(smooth[middle] == above[middle]) > 0.97


def test_a_scorer_of_other_features_is_refused(tmp_path):
    tensors, form = load_scorer().state()
    checkpoint.save(tmp_path / "old.safetensors", "scorer", tensors, {"scorer": form | {"revision": 1}})
    with pytest.raises(InputError, match="old.safetensors: of another version.*revision 1"):
        load_scorer(tmp_path / "old.safetensors")


def test_the_activation_and_its_gradient_are_finite_at_any_size():
    x = torch.tensor([-1e6, -1000.0, -90.0, -3.0, 0.0, 5.0, 1000.0], requires_grad=True)
    plain = x.detach().clone().requires_grad_()
    for function, at in ((silu, x), (torch.nn.functional.silu, plain)):
        function(at).sum().backward()
    torch.testing.assert_close(silu(x), torch.nn.functional.silu(plain))
    torch.testing.assert_close(x.grad, plain.grad)


def test_top_is_the_mean_of_the_highest():
    assert top(np.arange(1000.0), 0.01) == np.arange(990, 1000).mean()
    assert top(np.arange(3.0), 0.01) == 1.0


def test_a_part_of_a_scan_is_told_from_a_whole_one(surface, clouds):
    whole, half = clouds[2], clouds[2][clouds[2] @ [0.3, 0.2, 1] > 0]
    assert describe(surface, [whole] * 3)[0].complete > 0.9
    assert describe(surface, [half] * 3)[0].complete < 0.7


def test_simulated_scans_are_kept_and_train_the_same_scorer(tmp_path):
    made = simulated("plate", 3, 3)
    made.save(tmp_path / "plate.npz")
    again = Design.load(tmp_path / "plate.npz")
    assert again.kinds == made.kinds and again.kinds[:2] == ["good", "good"] and again.kinds[2] in DRAWN
    samples = described(again)
    assert [len(s.label) for s in samples] == [len(p) for p in made.points]
    first, second = (train(samples, samples, steps=2, width=8).state()[0] for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_training_stops_where_the_loss_is_no_number(surface, clouds):
    scan = describe(surface, [clouds[2]] * 3)[0]
    scan.nodes[:, 5] = np.nan
    sample = Sample.of(scan, np.zeros(len(scan.points)), "good", "block")
    with pytest.raises(RuntimeError, match="loss is nan at step 1"):
        fit_points(Scorer(COLUMNS, 8), [sample], steps=2)


@pytest.mark.slow
def test_refining_fits_the_part_at_hand_and_leaves_the_given_scorer_as_it_is(clouds):
    fused = Surface.build(clouds)
    fresh = made(clouds, fused, np.random.default_rng(9), scans=4, group="block")
    torch.manual_seed(0)
    scorer = Scorer.from_state(
        *Scorer(fresh[0].scan.nodes.shape[1]).state()
    )  # not the shipped one: it has nothing to learn here
    before = {k: v.clone() for k, v in scorer.state_dict().items()}
    again = [refined(scorer, clouds, fused, steps=10, seed=1) for _ in range(2)]

    def loss(net: Scorer) -> float:
        logits = torch.from_numpy(np.concatenate([net.score(s.whole()) for s in fresh]))
        labels = torch.from_numpy(np.concatenate([s.label for s in fresh])).float()
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, labels))

    assert {s.group for s in fresh} == {"block"} and any(s.label.any() for s in fresh)
    assert loss(again[0]) < 0.9 * loss(scorer)
    assert all(torch.equal(v, before[k]) for k, v in scorer.state_dict().items())
    assert all(torch.equal(v, again[1].state_dict()[k]) for k, v in again[0].state_dict().items())
