"""What a scan should have seen of the surface: one side, everything, and holes of any size that do not hide themselves."""

from __future__ import annotations

import numpy as np
import pytest

from r3dad.coverage import expected, gaps
from r3dad.neighbours import Neighbours
from r3dad.surface import Surface
from r3dad.views import directions
from tests.aligned_shapes import SIZE, stepped_block

CORNER = [42, 20, 15]  # mm, on the top


@pytest.fixture(scope="module")
def surface() -> Surface:
    clouds = [(stepped_block(i, noise=0.1) - np.divide(SIZE, 2)) / np.linalg.norm(SIZE) for i in range(3)]
    return Surface.build(clouds)


def place(p: np.ndarray) -> np.ndarray:
    """Points (shares of the diagonal) in mm from the block's corner."""
    return p * np.linalg.norm(SIZE) + np.divide(SIZE, 2)


def test_one_sided_scans_are_only_expected_where_they_look(surface):
    top = surface.normals[:, 2] > 0.5
    seen = expected(surface, top)
    at = place(surface.points)
    flat = (at[:, 2] > 14) & (at[:, 0] > 25) & (at[:, 0] < 55) & (at[:, 1] > 5) & (at[:, 1] < 35)
    assert seen[flat].mean() > 0.9
    assert not seen[surface.normals[:, 2] < -0.5].any()


def test_a_scan_from_everywhere_is_expected_everywhere(surface):
    assert expected(surface, np.ones(len(surface.points), bool)).all()


@pytest.mark.parametrize("radius", [3, 5, 8])
@pytest.mark.parametrize("whole", [True, False])
def test_a_patch_that_is_missing_is_still_expected(surface, radius, whole):
    seen = np.ones(len(surface.points), bool) if whole else surface.normals[:, 2] > 0.5
    gone = (np.linalg.norm(place(surface.points) - CORNER, axis=1) < radius) & (surface.normals[:, 2] > 0.5)
    assert gone.mean() > 0.002
    assert expected(surface, seen & ~gone)[gone].mean() > 0.8


def test_a_patch_beside_the_hidden_side_counts_half(surface):
    top = surface.normals[:, 2] > 0.5
    gone = {y: (np.linalg.norm(place(surface.points) - [42, y, 15], axis=1) < 9) & top for y in (0, 20)}  # edge, middle
    sure = {y: expected(surface, top & ~at)[at] for y, at in gone.items()}
    assert set(sure[0]) == {0, 0.5} and (sure[0] > 0).mean() > 0.3
    assert set(sure[20]) == {1}


def test_the_far_side_is_no_hole(surface):
    """More than a tenth of the surface in one place is what the sensor could not see."""
    below = surface.normals[:, 2] > -0.5
    assert (~below).mean() > 0.1
    assert not expected(surface, below)[surface.normals[:, 2] < -0.8].any()


def test_a_view_that_shows_little_of_the_scan_is_not_the_sensors():
    """A scan from above covers nearly all that a view from the side sees, too; what only that one sees is not missing."""
    x, y = np.meshgrid(*[np.arange(150) / 150] * 2)
    p, slope = np.c_[x.ravel(), y.ravel(), -x.ravel()], np.tile([0.5**0.5, 0, 0.5**0.5], (150**2, 1))
    above = p[:, 0] < 0.8
    hidden = np.linalg.norm(p[:, :2] - [0.9, 0.5], axis=1) < 0.095
    beside = (above & (p[:, 0] > 0.2)) | hidden
    d = directions()
    sees = np.where(d[:, 2] > np.abs(d[:, 0]), above[:, None], (d[:, 0] > np.abs(d[:, 2])) & beside[:, None])
    seen = expected(Surface(p, slope, np.zeros(len(p)), sees, 1 / 150), above)
    assert seen[above].mean() > 0.9 and not seen[~above].any()


def test_the_far_side_of_a_thin_wall_fills_no_gap():
    rng = np.random.default_rng(0)

    def sheet(count: int, hole: float = 0.0) -> np.ndarray:
        p = np.c_[rng.random((count, 2)), 0.02 * rng.integers(0, 2, count)]  # on each side points are 0.02 apart
        return p[~((np.linalg.norm(p[:, :2] - 0.5, axis=1) < hole) & (p[:, 2] > 0))] + 0.001 * rng.normal(size=3)

    surface = Surface.build([sheet(6000) + rng.normal(0, 0.001, (6000, 3)) for _ in range(3)])
    cloud = sheet(6000, hole=0.1)
    spacing = np.full(len(cloud), 0.02)
    empty = gaps(surface, Neighbours(cloud), spacing, surface.normals[surface.find(cloud)[1]]).empty
    inside = np.linalg.norm(surface.points[:, :2] - 0.5, axis=1) < 0.05
    above = surface.points[:, 2] > 0.01
    assert np.quantile(empty[inside & above], 0.1) > 2 and np.median(empty[inside & ~above]) < 1


@pytest.mark.parametrize("radius", [0.0, 4.0, 7.0])
def test_gaps_of_a_scan_lie_where_it_has_none(surface, radius):
    cloud = (stepped_block(9, hole=radius) - np.divide(SIZE, 2)) / np.linalg.norm(SIZE)
    spacing = np.full(len(cloud), np.median(Neighbours(cloud)(cloud, 8)[0][:, 7]))
    found = gaps(surface, Neighbours(cloud), spacing, surface.normals[surface.find(cloud)[1]])
    empty = found.empty
    assert found.expected.all() and found.complete > 0.97
    away = np.linalg.norm(place(surface.points) - CORNER, axis=1)
    if radius:
        assert empty[away < radius / 2].min() > 1.4 * np.quantile(empty[away > radius], 0.99)
    else:
        assert empty.max() < 3


def test_a_large_hole_does_not_hide_behind_its_own_share_of_the_gaps(surface):
    typical = []
    for radius in (0.0, 13.0):
        cloud = (stepped_block(9, hole=radius) - np.divide(SIZE, 2)) / np.linalg.norm(SIZE)
        spacing = np.full(len(cloud), np.median(Neighbours(cloud)(cloud, 8)[0][:, 7]))
        found = gaps(surface, Neighbours(cloud), spacing, surface.normals[surface.find(cloud)[1]])
        typical.append(found.typical)
    assert (found.wide > 2 * found.typical).mean() > 0.03  # of the surface
    assert typical[1] == pytest.approx(typical[0], rel=0.1)
