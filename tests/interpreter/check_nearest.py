"""The Triton neighbour search against the definitions; run by test_triton.py, in the interpreter or on a GPU."""

from __future__ import annotations

import pytest
import torch
from support import DEVICE, INTERPRETED, doubled, draw, error, install_fast_sort

from r3dad.kernels import configurations
from r3dad.kernels import nearest_triton as kernel
from r3dad.ops.cluster_distance import cluster_distance_definition
from r3dad.ops.knn import knn_definition

install_fast_sort()


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """The interpreter's time goes by operations, not by their size."""
    if INTERPRETED:
        for name in ("knn_candidates", "knn_select"):
            row = {80: configurations.Configuration({"QUERIES": 64}, 4, 1)}
            monkeypatch.setitem(configurations.TABLE, (name, "float32"), row)


def surface(batch, count, seed=0):
    """Points on a bent sheet, as a scanner leaves them."""
    uv = draw(seed)(batch, count, 2)
    return torch.cat([uv, 0.3 * (uv[..., :1] * 2).sin()], -1)


def lattice(count):
    """Many exact ties."""
    side = torch.arange(count, dtype=torch.float32, device=DEVICE)
    return torch.cartesian_prod(side, side, side)[None]


CASES = {
    "surface": (surface(1, 70), surface(1, 300, 1), 64),
    "self, two clouds, ragged": (surface(2, 37), surface(2, 37), 5),
    "all of them": (surface(1, 3), surface(1, 20, 1), 20),
    "one": (surface(3, 5), surface(3, 1, 1), 1),
    "lattice": (lattice(5)[:, 30:80], lattice(5), 7),
    "all equal": (torch.zeros(1, 9, 3, device=DEVICE), torch.zeros(1, 70, 3, device=DEVICE), 16),
    "far from the origin": (surface(1, 20) + 1000, surface(1, 90, 1) + 1000, 17),
    "no queries": (surface(2, 0), surface(2, 4), 2),
    "no clouds": (surface(0, 4), surface(0, 4), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_knn_equals_the_definition_bit_for_bit(case):
    query, reference, k = CASES[case]
    assert kernel.why_not("knn", query, reference, k) is None
    distances, indices = kernel.knn(query, reference, k)
    want = knn_definition(query, reference, k)
    assert torch.equal(distances, want[0])
    assert torch.equal(indices, want[1]) and indices.dtype == torch.int64


CLUSTERS = {
    "surface": (surface(1, 66), surface(1, 130) + 0.01, 16),
    "ragged, two clouds": (surface(2, 9), surface(2, 61, 1), 5),
    "one neighbour": (surface(1, 5), surface(1, 70, 1), 1),
    "far from the origin": (surface(1, 20) + 1000, surface(1, 40, 1) + 1000, 8),
    "no clouds": (surface(0, 4), surface(0, 4), 2),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_cluster_distance_equals_the_definition(case):
    points, reconstruction, k = CLUSTERS[case]
    got = kernel.cluster_distance(points, reconstruction, k)
    plain = cluster_distance_definition(points, reconstruction, k)
    exact = cluster_distance_definition(*doubled((points, reconstruction)), k)
    assert got.shape == plain.shape
    if got.numel():
        print(f"{case}: {error(got, exact):.1e}, plain PyTorch {error(plain, exact):.1e}")
        assert error(got, exact) <= 2 * error(plain, exact) + 5e-7


def test_a_cloud_is_at_no_distance_from_itself():
    points = surface(1, 40)
    assert not kernel.cluster_distance(points, points.clone(), 9).any()


def test_duplicates_in_one_class_are_rescored_as_a_whole():
    """Two identical rows of a reference in the same column class leave the shortlist in doubt."""
    reference = surface(1, 64, 3).repeat(1, 2, 1)
    points = surface(1, 5) * 0.5
    got = kernel.cluster_distance(points, reference, 4)
    exact = cluster_distance_definition(*doubled((points, reference)), 4)
    assert error(got, exact) < 1e-6


def test_says_why_not():
    points = surface(1, 200)
    assert "float64" in kernel.why_not("knn", points.double(), points.double(), 3)
    assert "129" in kernel.why_not("cluster_distance", points, points, 129)
