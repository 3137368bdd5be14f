"""The rivals on parts with a known defect, their pieces against definitions, and what they refuse."""

import numpy as np
import pytest
import torch

from r3dad import metrics
from r3dad.baselines import METHODS, create
from r3dad.baselines.bank import Bank, coreset
from r3dad.baselines.fpfh import fpfh, normals
from r3dad.baselines.pointmae import Encoder, Features
from r3dad.errors import InputError

#: Settings for seconds, and how well the points of the defect must be told apart.
#: Of an untrained network m3dm-pointmae gets 0.73, imrnet 0.80.
QUICK = {
    "registered-nn": ({}, 0.99),
    "btf-raw": ({"every": 1}, 0.9),
    "btf-fpfh": ({}, 0.95),
    "patchcore-raw": ({}, 0.95),
    "patchcore-fpfh": ({}, 0.95),
    "patchcore-pointmae": ({"steps": 40}, 0.93),
    "m3dm-pointmae": ({"steps": 40}, 0.93),
    "reg3d-ad": ({"steps": 10}, 0.92),
    "simple3d": ({}, 0.97),
    "imrnet": ({"steps": 300}, 0.98),
}


def part(seed: int, defect: str = "", count: int = 2500) -> tuple[np.ndarray, np.ndarray]:
    """[count, 3] mm, a wedge that fits itself in one pose only, and which points are a 2 mm bump or a 5 mm pit in its top."""
    rng = np.random.default_rng(seed)
    size = np.array([40.0, 25.0, 10.0])
    area = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    axis = rng.choice(3, count, p=area / area.sum())
    points = rng.random((count, 3)) * size
    points[np.arange(count), axis] = rng.integers(0, 2, count) * size[axis]
    away = np.linalg.norm(points[:, :2] - [26, 11], axis=1)
    labels = (away < 4) & (points[:, 2] == size[2]) & bool(defect)
    if defect == "bump":
        points[labels, 2] += 2 * (1 - (away[labels] / 4) ** 2)
    if defect == "pit":
        points[labels, 2] -= 5
    points -= size / 2
    points[points[:, 0] > 14, 1] *= 0.6
    return points + rng.normal(0, 0.03, points.shape), labels


GOOD = [part(i)[0] for i in range(3)]


def test_every_method_has_a_toy():
    assert set(QUICK) == set(METHODS) - {"cpmf-resnet"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "imrnet" else n for n in QUICK])
def test_the_defect_outranks_the_rest(name):
    settings, least = QUICK[name]
    method = create(name, **settings)
    method.fit(GOOD)
    good = [method.score(part(seed)[0]) for seed in (10, 11)]
    parts = [part(seed, "pit" if name == "imrnet" else "bump") for seed in (20, 21)]
    bad = [(method.score(points), labels) for points, labels in parts]
    within = [metrics.auroc(labels, scores) for (_, scores), labels in bad]
    assert np.mean(within) > least, within
    assert all(scores.shape == (2500,) and np.isfinite(scores).all() for (_, scores), _ in bad)
    assert min(score for (score, _), _ in bad) > max(score for score, _ in good)
    assert (method.bank_bytes() > 0) == (name != "imrnet")
    networks = ("patchcore-pointmae", "m3dm-pointmae", "reg3d-ad", "imrnet")
    assert (method.model_bytes() > 0) == (name in networks)
    assert bool(method.note) == (name in networks) and str(settings.get("steps", "")) in method.note


@pytest.mark.parametrize("name", ["reg3d-ad", "imrnet"])
def test_the_same_seed_gives_the_same_scores(name):
    settings = {k: 3 for k in QUICK[name][0]}
    found = []
    for _ in range(2):
        method = create(name, **settings)
        method.fit(GOOD[:2])
        found.append(method.score(GOOD[2]))
    assert found[0][0] == found[1][0] and np.array_equal(found[0][1], found[1][1])


def test_fpfh_of_a_plane_is_three_middle_bins():
    grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2)
    points = np.column_stack([grid, np.zeros(len(grid))]) + np.random.default_rng(0).normal(0, 0.1, (144, 3)) * [
        1,
        1,
        0,
    ]
    up = np.tile([0.0, 0.0, 1.0], (144, 1))
    expected = np.zeros(33)
    expected[[5, 16, 27]] = 200
    assert np.allclose(fpfh(points, up, 3.0), expected)


def test_normals_point_away_from_the_centre():
    v = np.random.default_rng(0).normal(size=(2000, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    assert (normals(3 * v, np.zeros(3)) * v).sum(1).min() > 0.9


def test_fpfh_agrees_with_open3d():
    o3d = pytest.importorskip("open3d", reason="open3d is not installed")
    points = part(0, "bump")[0]
    points[17] = points[18]  # a pair without direction
    normal = normals(points, np.zeros(3))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.normals = o3d.utility.Vector3dVector(normal)
    search = o3d.geometry.KDTreeSearchParamHybrid(3.0, 100)
    theirs = o3d.pipelines.registration.compute_fpfh_feature(cloud, search).data.T
    assert np.abs(fpfh(points, normal, 3.0) - theirs).max() < 1e-4


def test_coreset_is_greedy_k_center():
    points = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    chosen = coreset(points, 40, seed=3)
    assert len(set(chosen.tolist())) == 40
    for i in range(1, 40):  # each is the farthest from those before it
        least = torch.cdist(points, points[chosen[:i]]).amin(1)
        assert least[chosen[i]] >= least.max() - 1e-4


def test_bank_gives_the_distance_to_the_nearest():
    rng = np.random.default_rng(0)
    known, query = rng.normal(size=(50, 7)), rng.normal(size=(20, 7))
    found = Bank(known, 50, seed=0).distance(query)
    assert np.allclose(found, np.linalg.norm(query[:, None] - known[None], axis=2).min(1), atol=1e-5)


def test_the_official_point_mae_is_taken_as_it_is(tmp_path):
    torch.manual_seed(0)
    encoder = Encoder()
    held = {f"module.MAE_encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"base_model": {**held, "module.increase_dim.0.weight": torch.zeros(3)}}, tmp_path / "pretrain.pth")
    features = Features(str(tmp_path / "pretrain.pth"), 0, 16, 0, "cpu")
    features.fit([])
    assert "official" in features.note and features.bytes() > 80e6
    where, found = features(GOOD[0] / 50)
    assert where.shape == (16, 3) and found.shape == (16, 3 * 384)
    torch.save({"base_model": {"other": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not Point-MAE"):
        Features(str(tmp_path / "other.pth"), 0, 16, 0, "cpu")


def test_weights_are_not_executed(tmp_path):
    torch.save({"base_model": np.random.default_rng}, tmp_path / "bad.pth")  # names a function to be called or kept
    for name, match in (("bad.pth", "not a torch file of tensors"), ("none.pth", "no such file")):
        with pytest.raises(InputError, match=match):
            create("patchcore-pointmae", weights=str(tmp_path / name))


def test_cpmf_refuses_random_features():
    with pytest.raises(InputError, match="random ones are refused"):
        create("cpmf-resnet")


def test_cpmf_with_given_weights(tmp_path):
    try:
        import torchvision
    except Exception as error:  # a build for another torch fails in its own way
        pytest.skip(f"torchvision cannot be used: {error}")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet.pth")
    method = create("cpmf-resnet", weights=str(tmp_path / "resnet.pth"), views=4)
    method.fit(GOOD)
    points, labels = part(20, "bump")
    assert metrics.auroc(labels, method.score(points)[1]) > 0.9
    with pytest.raises(InputError, match="not those of torchvision's resnet34"):
        create("cpmf-resnet", weights=str(tmp_path / "resnet.pth"), network="resnet34")


def test_unknown_names_are_named():
    with pytest.raises(InputError, match="'patchcor' is unknown: expected one of registered-nn"):
        create("patchcor")
    with pytest.raises(InputError, match="unknown setting bins; expected some of neighbours, top"):
        create("registered-nn", bins=3)


def test_a_scan_of_few_points_is_refused():
    for name in ("registered-nn", "btf-fpfh"):
        method = create(name)
        method.fit(GOOD)
        with pytest.raises(InputError, match="20 points: expected at least 100"):
            method.score(GOOD[0][:20])
