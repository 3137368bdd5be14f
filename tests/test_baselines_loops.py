"""The rivals against their papers' formulas as plain loops over points; only networks, normals and kept points are the code's own."""

from math import atan2, dist, pi

import numpy as np
import pytest

from r3dad.baselines import btf, create, imrnet, patchcore
from r3dad.baselines.fpfh import fpfh, normals

from .test_baselines import part

COUNT = 400
"""Points of a scan: so few that the voxels keep them all, or nearly."""
GOOD = [part(i, count=COUNT)[0] for i in range(2)]
BAD = part(20, "bump", COUNT)[0]


class Posed:
    """Scans that lie in one pose already, as shares of the part's diagonal."""

    def __init__(self, clouds):
        self.clouds = [self(cloud) for cloud in clouds]

    def __call__(self, points):
        return points / 48


def nearest(points, query, k):
    """Indices of the k nearest points, the nearest first."""
    return sorted(range(len(points)), key=lambda i: dist(points[i], query))[:k]


def spfh(i, points, normal, radius):
    """Simplified point feature histogram (Rusu et al., ICRA 2009, eq. 1-3): angles of a point's Darboux frames, 3 x 11 bins, 100 each."""
    found = np.zeros((3, 11))
    for j in range(len(points)):
        length = dist(points[i], points[j])
        if j == i or length > radius:
            continue
        s, t = i, j
        along = [abs(normal[k] @ (points[j] - points[i])) for k in (i, j)]
        if along[0] < along[1]:  # the source is the one whose normal is nearer to the line
            s, t = j, i
        step, u = points[t] - points[s], normal[s]
        v = np.cross(step, u) / np.linalg.norm(np.cross(step, u))
        w = np.cross(u, v)
        theta = atan2(w @ normal[t], u @ normal[t])
        for row, share in enumerate(((theta + pi) / (2 * pi), (v @ normal[t] + 1) / 2, (u @ step / length + 1) / 2)):
            found[row, min(int(11 * share), 10)] += 1
    return 100 * found / max(found[0].sum(), 1)


def test_fpfh_is_the_papers():
    points = np.random.default_rng(0).random((70, 3))
    normal, radius = normals(points, np.full(3, 0.5), 10), 0.35
    simple = [spfh(i, points, normal, radius) for i in range(len(points))]
    for i in (0, 7, 33):
        near = [j for j in range(len(points)) if j != i and dist(points[i], points[j]) <= radius]
        assert near
        around = sum(simple[j] / dist(points[i], points[j]) ** 2 for j in near)
        expected = simple[i] + 100 * around / around.sum(1, keepdims=True)
        assert np.allclose(fpfh(points, normal, radius)[i], expected.ravel(), atol=1e-9)


def near_mean(points, values, i, k):
    return np.mean([values[j] for j in nearest(points, points[i], k)], axis=0)


def simple3d(method, good, cloud, kept):
    """FPFH of three sizes side by side, averaged over the 16 nearest points."""
    normal = normals(kept, np.zeros(3))
    sizes = np.hstack([fpfh(kept, normal, size * 0.015) for size in (2.5, 4.0, 6.0)])
    return np.array([near_mean(kept, sizes, i, 16) for i in range(len(kept))])


def patchcore_raw(method, good, cloud, kept):
    """FPFH and eleven times the coordinates, each in units of its spread over the good scans."""
    spread = [np.concatenate(parts).std(0).mean() for parts in (good, [described(c) for c in good])]
    return np.hstack([described(kept) / spread[1], *([kept / spread[0]] * 11)])


def described(kept):
    return fpfh(kept, normals(kept, np.zeros(3)), 5 * 0.015)


def m3dm(method, good, cloud, kept):
    """Point-MAE's features given to every point from the three nearest groups, by inverse distance, averaged over 9 neighbours."""
    centres, groups = method._features(cloud)
    each = []
    for p in kept:
        near = nearest(centres, p, 3)
        weight = [1 / (dist(centres[j], p) + 1e-8) for j in near]
        each.append(sum(w * groups[j].astype(float) for w, j in zip(weight, near)) / sum(weight))
    return np.array([near_mean(kept, each, i, 9) for i in range(len(kept))])


RIVALS = {
    "btf-raw": ({"every": 1}, lambda method, good, cloud, kept: kept),
    "patchcore-fpfh": ({"share": 1.0}, lambda method, good, cloud, kept: described(kept)),
    "patchcore-raw": ({"share": 1.0}, patchcore_raw),
    "simple3d": ({"share": 1.0}, simple3d),
    "m3dm-pointmae": ({"share": 1.0, "steps": 2, "groups": 40}, m3dm),
}


@pytest.mark.parametrize("name", RIVALS)
def test_a_score_is_the_distance_to_the_nearest_good_feature(name, monkeypatch):
    for module in (btf, patchcore):
        monkeypatch.setattr(module, "Posed", Posed)
    settings, described_by = RIVALS[name]
    method = create(name, voxel=1e-4, **settings) if name == "btf-raw" else create(name, **settings)
    method.fit(GOOD)
    score, scores = method.score(BAD)
    clouds = [*method._posed.clouds, method._posed(BAD)]
    kept = [method._described(cloud)[0] for cloud in clouds]
    *good, bad = [described_by(method, kept[:-1], *both) for both in zip(clouds, kept)]
    bank = np.concatenate(good)
    apart = [min(np.linalg.norm(feature - other) for other in bank) for feature in bad]
    assert score == pytest.approx(max(apart), rel=1e-4)
    for i in (0, 50, 399):  # every point takes the mean of the three nearest kept ones, by inverse distance
        near = nearest(kept[-1], clouds[-1][i], 3)
        weight = [1 / (dist(kept[-1][j], clouds[-1][i]) + 1e-6) for j in near]
        expected = sum(w * apart[j] for w, j in zip(weight, near)) / sum(weight)
        assert scores[i] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_imrnet_with_a_network_that_knows_the_part_gives_the_distance_to_it():
    """Masking, rounds and scores of IMRNet with the network replaced: one that puts every hidden point on the plane z = 0."""

    def flat(centres, groups, hidden):
        assert len(hidden[0]) <= -(-imrnet.GROUPS // 3)  # a third of the groups is hidden at a time
        found = groups[:, hidden[0]].clone()
        found[..., 2] = -centres[:, hidden[0], None, 2]
        return found

    method = create("imrnet", steps=0)
    method._posed, method._model = lambda points: points, flat
    grid = (np.stack(np.meshgrid(np.arange(30), np.arange(30)), -1).reshape(-1, 2) - 14.5) / 30
    plane = np.column_stack([grid, np.zeros(900)])
    score, scores = method.score(plane)
    assert score < 1e-6 and scores.max() < 1e-6
    bad = plane.copy()
    labels = np.linalg.norm(grid - [0.1, -0.1], axis=1) < 0.12
    bad[labels, 2] = 0.05
    score, scores = method.score(bad)
    inner = np.linalg.norm(grid - [0.1, -0.1], axis=1) < 0.04  # all 16 neighbours are raised too
    assert inner.any() and scores[inner] == pytest.approx(np.full(inner.sum(), 0.05), abs=0.004)
    assert score == pytest.approx(0.05, abs=0.004) and scores[~labels].min() < 1e-6
