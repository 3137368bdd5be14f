"""Simulated parts, defects, sensors and scans."""

from __future__ import annotations

import numpy as np
import pytest

from r3dad.errors import InputError
from r3dad.scans import list_classes, read_scan, read_truth
from r3dad.simulate.defects import DEFECTS, RIM
from r3dad.simulate.parts import FAMILIES, THIN_WALLED, Part, part
from r3dad.simulate.scan import LABEL_AT, scan, write_demo
from r3dad.simulate.sensors import SENSORS

SIDED = ("one_sided", "lines", "structured")


@pytest.fixture(scope="module")
def designs() -> dict[str, Part]:
    return {family: part(family, 7) for family in FAMILIES}


def ideal(design: Part, **how):
    """A scan without noise, stray points, variation and pose: its points lie on the geometry."""
    return scan(design, noise=0.0, stray=0.0, variation=False, pose="fixed", **how)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_part_is_one_closed_surface_of_the_stated_size(designs, family):
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    design = designs[family]
    points, normals = design.cloud
    assert 40 <= design.diagonal <= 400
    assert np.linalg.norm(np.ptp(points, axis=0)) == pytest.approx(design.diagonal, rel=0.02)
    distance, neighbour = cKDTree(points).query(points, k=9)
    near = distance < 0.04 * design.diagonal
    links = coo_matrix((near[near], (np.nonzero(near)[0], neighbour[near])), shape=(len(points), len(points)))
    assert connected_components(links)[0] == 1
    # A little off the surface along the normal is outside, the other way inside; far away all around is outside.
    step = 0.001 * design.diagonal
    assert (design.sdf(points + step * normals) > 0).mean() > 0.97
    assert (design.sdf(points - step * normals) < 0).mean() > 0.97
    assert (design.sdf(normals * design.diagonal) > 0).all()


@pytest.mark.parametrize("family", THIN_WALLED)
def test_thin_walled_families_are_thin(designs, family):
    design = designs[family]
    points, normals = design.cloud
    deep = 0.035 * design.diagonal
    thin = np.min([-design.sdf(points - t * deep * normals) for t in (0.5, 1.0)], axis=0) < 0.012 * design.diagonal
    assert thin.mean() > 0.5


def test_seeds_give_different_designs_and_the_same_seed_the_same():
    a, b, again = part("plate", 0), part("plate", 1), part("plate", 0)
    assert abs(a.diagonal - b.diagonal) > 1e-3
    assert np.array_equal(a.cloud[0], again.cloud[0])


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_scan_is_the_same_for_the_same_seed(designs, sensor):
    def make(seed):
        return scan(designs["lever"], seed=seed, points=1500, defect="chip", sensor=sensor)

    one, again, other = make(3), make(3), make(4)
    assert np.array_equal(one.points, again.points) and np.array_equal(one.labels, again.labels)
    assert one.points.shape != other.points.shape or not np.array_equal(one.points, other.points)


@pytest.mark.parametrize("sensor", SENSORS)
def test_ideal_good_scans_lie_on_the_surface(designs, sensor):
    design = designs["bracket"]
    made = ideal(design, seed=1, points=2000, sensor=sensor)
    bound = 2e-4 if sensor != "structured" else 0.06  # depth steps and flying pixels stay
    assert np.abs(design.sdf(made.points)).max() < bound * design.diagonal
    assert not made.labels.any() and made.kind == "good" and not made.depth_mm.any()
    assert np.allclose(np.linalg.norm(made.normals, axis=1), 1)


def test_uniform_samples_have_uniform_density(designs):
    design = designs["manifold"]
    points, normals = design.shape.sample(np.random.default_rng(0), 40_000)
    # The bottom is a flat rectangle with bores: the counts of equal squares away from them agree.
    faces = [(points[:, 2] < design.low[2] + 1e-3 * design.diagonal) & (normals[:, 2] < -0.99)]
    flat = points[faces[0]][:, :2]
    side = 0.1 * design.diagonal
    low, high = flat.min(0) + 0.02 * design.diagonal, flat.max(0) - 0.02 * design.diagonal
    counts = np.histogram2d(
        flat[:, 0], flat[:, 1], bins=[np.arange(low[0], high[0], side), np.arange(low[1], high[1], side)]
    )[0].ravel()
    assert len(counts) >= 8
    assert counts.var() < 3 * counts.mean()  # Poisson: equal


@pytest.mark.parametrize("sensor", SIDED)
@pytest.mark.parametrize("family", ["housing", "gear", "casting"])
def test_sided_scans_show_only_what_the_sensor_sees(designs, sensor, family):
    design = designs[family]
    made = ideal(design, seed=5, points=1500, sensor=sensor, views=1)
    # All normals face one eye: the rays to it, found from the scan alone, leave the part without meeting it again.
    facing = [
        way
        for way in np.random.default_rng(0).normal(size=(4000, 3))
        if (made.normals @ (way / np.linalg.norm(way)) > -0.35).all()
    ]
    assert facing
    on = np.abs(design.sdf(made.points)) < 2e-4 * design.diagonal
    points, normals = made.points[on][::3], made.normals[on][::3]
    whole = design.cloud[0][::3]
    covered = np.linalg.norm(whole[:, None] - points[None, ::2], axis=2).min(1) < 0.03 * design.diagonal
    assert covered.mean() < 0.85
    best = max(design.shape.visible(points, normals, way / np.linalg.norm(way)).mean() for way in facing[:8])
    assert best > 0.85  # a far eye instead of one a few diagonals away


def test_views_add_up(designs):
    one = ideal(designs["cup"], seed=2, points=3000, sensor="one_sided")
    four = ideal(designs["cup"], seed=2, points=3000, sensor="one_sided", views=4)
    assert np.ptp(four.points, axis=0).prod() >= 0.99 * np.ptp(one.points, axis=0).prod()
    assert (four.normals @ one.normals.mean(0)).min() < (one.normals @ one.normals.mean(0)).min()


# Each family with two kinds of defects, each kind on two families or more; the others are slow.
FEW = {(FAMILIES[i], DEFECTS[(5 * i + j) % len(DEFECTS)]) for i in range(len(FAMILIES)) for j in (0, 2)}
PAIRS = [
    pytest.param(family, kind, marks=() if (family, kind) in FEW else pytest.mark.slow)
    for family in FAMILIES
    for kind in DEFECTS
]


def test_the_fast_pairs_hold_every_kind():
    assert {kind for _, kind in FEW} == set(DEFECTS) and {family for family, _ in FEW} == set(FAMILIES)


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_every_defect_on_every_family_is_labelled_where_the_surface_moved(designs, family, kind):
    design = designs[family]
    made = ideal(design, seed=11, points=3000, defect=kind, severity=0.8)
    assert 0.001 <= made.labels.mean() <= 0.4
    moved = np.abs(made.depth_mm) > LABEL_AT * design.diagonal
    away = np.abs(design.sdf(made.points))
    assert made.kind == kind
    if kind == "hole":
        assert not moved.any() and len(made.missing)
        gap = np.linalg.norm(made.points[made.labels][:, None] - made.missing[None], axis=2).min(1)
        assert gap.max() < (RIM + 0.08) * design.diagonal
        return
    if kind in ("chip", "break"):  # beside what is gone the surface is labelled though it has not moved
        rim = made.labels & ~moved
        gap = np.linalg.norm(made.points[rim][:, None] - made.missing[None], axis=2).min(1, initial=np.inf)
        assert moved[~made.labels].sum() == 0 and (gap <= RIM * design.diagonal).all()
    else:
        assert np.array_equal(made.labels, moved) and not len(made.missing)
    assert away[~moved].max() <= 1.01 * LABEL_AT * design.diagonal
    # Depths are of the order asked for (severity 0.8: 2.4 % of the diagonal); ends and chips may be larger.
    assert np.abs(made.depth_mm).max() < 0.16 * design.diagonal
    if kind in ("scratch", "crack", "chip", "break", "wear", "pits"):
        assert made.depth_mm[moved].mean() < 0
    if kind in ("burr", "flash", "blob", "bead", "spatter"):
        assert made.depth_mm[moved].mean() > 0


def test_severity_is_depth(designs):
    design = designs["casting"]
    depths = [
        np.abs(ideal(design, seed=1, points=6000, defect="bump", severity=s).depth_mm).max() / design.diagonal
        for s in (0.2, 0.5, 0.8)
    ]
    expected = 0.003 * (0.04 / 0.003) ** np.array([0.2, 0.5, 0.8])
    assert np.allclose(depths, expected, rtol=0.3)


def test_pose_noise_and_stray_points_are_as_told(designs):
    design = designs["flange"]
    made = scan(design, seed=9, points=4000, noise=0.001, stray=0.0, variation=False)
    assert made.noise_mm == pytest.approx(0.001 * design.diagonal)
    back = (made.points - made.pose[:3, 3]) @ made.pose[:3, :3]
    assert np.allclose(made.pose[:3, :3] @ made.pose[:3, :3].T, np.eye(3)) and np.linalg.det(made.pose) > 0
    assert design.sdf(back).std() == pytest.approx(made.noise_mm, rel=0.15)
    dirty = scan(design, seed=9, points=4000, noise=0.0, stray=0.05, variation=False, pose="fixed", defect="dent")
    far = np.abs(design.sdf(dirty.points) - dirty.depth_mm) > 0.004 * design.diagonal
    assert 0.02 < far.mean() < 0.06 and not dirty.labels[far].all()


def test_good_instances_differ_by_a_smooth_warp(designs):
    design = designs["bracket"]
    off = [design.sdf(scan(design, seed=s, points=3000, noise=0.0, stray=0.0, pose="fixed").points) for s in (1, 2)]
    spread = [np.abs(d).max() / design.diagonal for d in off]
    assert all(0.0003 < s < 0.008 for s in spread)


@pytest.mark.parametrize(
    "wrong", [{"defect": "rust"}, {"sensor": "sonar"}, {"pose": "any"}, {"points": 0}, {"views": 0}]
)
def test_what_is_unknown_gets_one_line(designs, wrong):
    with pytest.raises(InputError, match="expected"):
        scan(designs["plate"], **{"seed": 0, **wrong})


def test_an_unknown_family_gets_one_line():
    with pytest.raises(InputError, match="part family 'teapot'"):
        part("teapot", 0)


def test_a_demo_set_reads_back_as_the_layout_it_claims(tmp_path):
    write_demo(tmp_path, ("lever",), train=2, good=1, test=("bump", "hole"), points=800)
    (found,) = list_classes(tmp_path)
    assert found.name == "lever0" and len(found.train) == 2
    assert sorted((s.path.stem, s.good) for s in found.test) == [
        ("lever0_bump0", False), ("lever0_hole0", False), ("lever0_positive0", True)]  # fmt: skip
    for item in found.test:
        cloud = read_scan(item.path).points
        labels = read_truth(item, cloud)
        assert len(labels) == len(cloud) and labels.any() == (not item.good)
