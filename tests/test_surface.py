"""The fused surface: denoised and oriented outwards."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from r3dad import use_backend
from r3dad.neighbours import Neighbours, apart, facing, spacings, thin, voxel_pick
from r3dad.simulate.parts import part
from r3dad.simulate.scan import scan
from r3dad.surface import Surface
from r3dad.views import directions
from tests.aligned_shapes import SIZE, stepped_block


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface.build([stepped_block(i, noise=0.1) for i in range(3)])


def flat_top(p: np.ndarray) -> np.ndarray:
    return (p[:, 2] > 14) & (p[:, 2] < 16) & (p[:, 0] > 25) & (p[:, 0] < 55) & (p[:, 1] > 5) & (p[:, 1] < 35)


def test_fusing_removes_noise(surface):
    off = surface.points[flat_top(surface.points), 2] - SIZE[2]
    assert np.std(off) < 0.05  # of 0.1 in each scan


def test_normals_point_out(surface):
    assert (surface.normals[flat_top(surface.points), 2] > 0.9).mean() > 0.99
    floor = (surface.points[:, 2] < 1) & (np.abs(surface.points[:, :2] - [30, 20]) < 15).all(1)
    assert (surface.normals[floor, 2] < -0.9).mean() > 0.99


def test_thin_walls_keep_their_sides():
    rng = np.random.default_rng(0)
    sheet = rng.random((12_000, 3)) * [40, 40, 0]
    sheet[:, 2] = 0.9 * rng.integers(0, 2, len(sheet))  # 0.9 mm thick, points 0.5 mm apart
    found = Surface.build([sheet + rng.normal(0, 0.03, sheet.shape)])
    inner = (np.abs(found.points[:, :2] - 20) < 17).all(1)
    upper = found.points[:, 2] > 0.45
    assert (np.abs(found.points[inner, 2] - 0.9 * upper[inner]) < 0.1).mean() > 0.99
    assert ((found.normals[inner, 2] > 0) == upper[inner]).mean() > 0.99


def test_the_far_side_of_a_thin_wall_is_no_candidate():
    rng = np.random.default_rng(1)
    sheet = np.c_[rng.random((12_000, 2)) * 40, 0.9 * rng.integers(0, 2, 12_000)] + rng.normal(0, 0.02, (12_000, 3))
    found = Surface.build([sheet])
    dent = np.array([[20.0, 20.0, 0.9 - 0.2]])
    away = found.departure(dent, k=9)
    assert away.signed == pytest.approx([-0.2], abs=0.05)
    assert away.low == pytest.approx([-0.2], abs=0.08) and away.high == pytest.approx([-0.2], abs=0.08)
    assert (np.sign(found.normals[found.near][:, :, 2]) == np.sign(found.normals[:, None, 2]))[
        (np.abs(found.points[:, :2] - 20) < 15).all(1)
    ].mean() > 0.99


def test_points_of_a_wall_as_thick_as_they_are_apart_keep_their_side():
    rng = np.random.default_rng(2)
    p = np.c_[rng.random((3200, 2)) * 40, np.repeat([0.0, 0.9], 1600)]  # on each side points are 1 mm apart
    found = Surface(p, np.c_[np.zeros((3200, 2)), p[:, 2] / 0.45 - 1], np.zeros(3200), np.ones((3200, 162), bool), 0.6)
    cloud = np.c_[rng.random((2000, 2)) * 40, np.repeat([0.0, 0.9], 1000)] + rng.normal(0, 0.05, (2000, 3))
    above = cloud[:, 2] > 0.45
    nearest = found.normals[found.find(cloud)[1], 2] > 0
    away = found.departure(cloud)
    told = found.normals[away.near, 2] > 0
    assert (nearest == above).mean() < 0.97 < 0.995 < (told == above).mean()
    assert np.abs(away.signed[told == above]).max() < 0.25


def test_departure_has_sign_and_size(surface):
    above = np.array([[40.0, 20.0, 15.7], [40.0, 20.0, 14.5], [30.0, -0.8, 8.0]])
    away = surface.departure(above)
    assert np.allclose(away.signed, [0.7, -0.5, 0.8], atol=0.08)
    assert np.allclose(away.vector[0], [0, 0, 0.7], atol=0.08)


def test_thinning_is_even_and_bounded():
    p = np.random.default_rng(0).random((20_000, 3)) * [1, 1, 0]
    kept = thin(p, 2000)
    assert 1500 < len(kept) <= 2000
    assert np.quantile(Neighbours(p[kept])(p, 1)[0], 0.99) < 0.04
    assert len(np.unique(voxel_pick(p, 0.1))) == len(voxel_pick(p, 0.1)) == 100


def test_directions_are_even_unit_vectors():
    d = directions(162)
    assert np.allclose(np.linalg.norm(d, axis=1), 1)
    assert np.linalg.norm(d.mean(0)) < 0.01


@pytest.mark.parametrize("queries", [3, 900])
def test_neighbours_are_those_of_a_full_search(queries):
    rng = np.random.default_rng(0)
    reference, query = rng.normal(size=(1200, 3)), rng.normal(size=(queries, 3))
    full = np.linalg.norm(query[:, None] - reference, axis=2)
    distance, j = Neighbours(reference)(query, 5)
    assert distance.shape == j.shape == (queries, 5)
    np.testing.assert_allclose(distance, np.sort(full, axis=1)[:, :5], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(full, j, axis=1), distance, atol=1e-6)
    assert Neighbours(reference)(query)[1].shape == (queries,)
    for a, b in zip(Neighbours(reference)(Neighbours(query), 5), (distance, j), strict=True):
        np.testing.assert_array_equal(a, b)


def test_neighbours_are_the_same_without_the_compiled_kernels():
    rng = np.random.default_rng(0)
    reference, query = rng.normal(size=(1200, 3)), rng.normal(size=(300, 3))
    distance, j = Neighbours(reference)(query, 5)
    with use_backend("torch"):
        find = Neighbours(reference)
        plain, k = find(query, 5)
        own = find(reference, 3)
    np.testing.assert_array_equal(j, k)
    np.testing.assert_allclose(distance, plain, rtol=1e-6)
    np.testing.assert_array_equal(own[1], pickle.loads(pickle.dumps(find))(reference, 3)[1])
    few = Neighbours(reference[:2])(query, 3)
    assert np.isinf(few[0][:, 2]).all() and (few[1][:, 2] == 2).all()


def test_distances_on_the_same_side_are_those_of_a_plain_loop():
    rng = np.random.default_rng(4)
    distance, beside = np.sort(rng.random((300, 33)), axis=1), rng.random((32, 300)) < rng.random(300)
    distance[:, 0], beside[0] = 0, True
    for k in (8, 16):
        for d, mine, found in zip(distance, beside.T, apart(distance, beside, k), strict=True):
            own = d[:32][mine]
            few = d[31] * np.sqrt(k / max(len(own) - 1, 1))
            assert found == (own[k] if len(own) > k else d[k] if mine[: k + 1].all() else pytest.approx(few))


def test_the_two_sides_of_a_wall_count_for_themselves():
    rng = np.random.default_rng(3)
    one = np.c_[rng.random((1600, 2)) * 40, np.full(1600, 0.9)]
    both = np.r_[one, np.c_[rng.random((1600, 2)) * 40, np.zeros(1600)]]
    up, inner = np.c_[np.zeros((3200, 2)), both[:, 2] / 0.45 - 1], (np.abs(one[:, :2] - 20) < 15).all(1)

    def of(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        find = Neighbours(points)
        distance, j = find(find, 33)
        return spacings(distance, j[:, :32], facing(normals[j[:, :32].T], normals))[:1600][inner]

    ratio = of(both, up) / of(one, up[:1600])
    assert np.median(ratio) == pytest.approx(1, abs=0.02) and np.quantile(np.abs(ratio - 1), 0.95) < 0.2
    walled, alone = (
        Surface(p, n, np.zeros(len(p)), np.ones((len(p), 162), bool), 0.6) for p, n in ((both, up), (one, up[:1600]))
    )
    same = walled.near[:1600][inner] == alone.near[inner]
    assert same.mean() > 0.98 and np.median(walled.reach[:1600] / alone.reach) == pytest.approx(1, abs=0.01)
    assert walled.thin > 0.4 and alone.thin == 0


def test_an_edges_burr_lies_beyond_one_plane_only(surface):
    over = np.array([[60.5, 20.0, 14.8], [40.0, 20.0, 15.8]])  # beside the edge of the low top; above the top's middle
    found = surface.departure(over, 12)
    assert abs(found.signed[0]) < 0.3 and found.high[0] > 0.4
    assert found.high[1] - found.low[1] < 0.2 and abs(found.signed[1] - 0.8) < 0.15


def test_coarse_means_are_of_the_place(surface):
    near = np.arange(len(surface.points))[::3]
    x = surface.points[near, 0]
    once, twice = surface.coarse(np.stack([x, np.ones_like(x)], 1), near)
    assert np.allclose(once[:, 1], 1) and np.allclose(twice[:, 1], 1)
    assert np.abs(once[:, 0] - x).mean() < np.abs(twice[:, 0] - x).mean() < 4


def test_no_point_faces_another_way_than_all_around_it():
    design = part("gear", 101)
    clouds = [scan(design, seed=500 + i, points=8000, pose="fixed").points / design.diagonal for i in range(4)]
    found = Surface.build(clouds, 24_000)
    assert (found.walled * 16).max() <= 13 and found.thin < 0.01
