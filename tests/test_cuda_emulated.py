"""The CUDA kernels' logic, run lane by lane on the host: the same source that nvcc compiles."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from r3dad.ops.cluster_distance import clusters
from r3dad.ops.knn import knn_definition
from r3dad.synth.patch_gen import KINDS, displace_patch_definition

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("cuda") / "emulated.so"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    source = str(ROOT / "tests" / "cuda" / "emulated.cpp")
    subprocess.run(["g++", *flags, f"-I{ROOT / 'csrc'}", source, "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


@pytest.fixture(params=["first warp first", "last warp first"])
def kernels(library, request) -> ctypes.CDLL:
    library.last_warp_first(request.param == "last warp first")
    return library


def guarded(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor within a larger one of -7, and that one: a write beside it shows."""
    count = torch.Size(shape).numel()
    whole = torch.full((count + 128,), -7, dtype=dtype)
    return whole[64 : 64 + count].view(shape), whole


def check_around(*wholes: torch.Tensor) -> None:
    for whole in wholes:
        assert (whole[:64] == -7).all() and (whole[-64:] == -7).all()


def pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def cloud(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, count, 3, generator=torch.Generator().manual_seed(seed))


LATTICE = torch.cartesian_prod(*[torch.arange(6.0)] * 3)[None]
KNN = {
    "64 of 300": (cloud(1, 9), cloud(1, 300, 1), 64),
    "two clouds, ragged": (cloud(2, 7), cloud(2, 45, 1), 5),
    "all of them, not a power of two": (cloud(1, 3), cloud(1, 37, 1), 37),
    "512 of 600": (cloud(1, 2), cloud(1, 600, 1), 512),
    "one of one": (cloud(3, 5), cloud(3, 1, 1), 1),
    "lattice, exact ties": (LATTICE[:, 80:100].clone(), LATTICE, 10),
    "all equal": (torch.zeros(1, 3, 3), torch.zeros(1, 70, 3), 33),
    "far from the origin": (cloud(1, 6) + 1000, cloud(1, 90, 1) + 1000, 17),
}


@pytest.mark.parametrize("case", KNN)
def test_knn_equals_the_definition_bit_for_bit(kernels, case):
    query, reference, k = KNN[case]
    batch, queries, _ = query.shape
    distances, around = guarded(batch, queries, k)
    indices, around_indices = guarded(batch, queries, k, dtype=torch.int64)
    sizes = (ctypes.c_int64(batch * queries), ctypes.c_int64(queries), reference.shape[1], k)
    kernels.knn(pointer(query), pointer(reference), *sizes, pointer(distances), pointer(indices))
    check_around(around, around_indices)
    want = knn_definition(query, reference, k)
    assert torch.equal(distances, want[0]) and torch.equal(indices, want[1])


SHEET = torch.cat([cloud(1, 150)[..., :2], 0.3 * cloud(1, 150)[..., :1].sin()], -1)
CLUSTERS = {
    "surface": (SHEET, SHEET + 0.01 * cloud(1, 150, 1), 64),
    "two clouds, other size": (cloud(2, 61), cloud(2, 77, 1), 9),
    "means say little": (cloud(1, 40), cloud(1, 50, 1), 40),
    "one neighbour": (cloud(1, 35), cloud(1, 33, 1), 1),
    "the same": (SHEET, SHEET, 32),
    "all equal": (torch.ones(1, 20, 3), torch.ones(1, 37, 3), 5),
    "a lattice and itself moved": (LATTICE, LATTICE.flip(1) + 0.25, 27),
    "far from the origin": (SHEET + 1000, SHEET + 1000.01, 16),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_cluster_distance_is_the_nearest_of_all_rows(kernels, case):
    points, reconstruction, k = CLUSTERS[case]
    (batch, n, _), m = points.shape, reconstruction.shape[1]
    near_points, near_reconstruction = (torch.empty(batch, count, k, dtype=torch.int32) for count in (n, m))
    means, around_means = guarded(3 * batch * (n + m))
    out, around = guarded(batch, n)
    sizes = (*(ctypes.c_int64(i) for i in (batch, n, m)), k)
    room = (pointer(near_points), pointer(near_reconstruction), pointer(means))
    kernels.cluster_distance(pointer(points), pointer(reconstruction), *sizes, *room, pointer(out))
    check_around(around, around_means)
    rows, others = clusters(points, k).double(), clusters(reconstruction, k).double()
    want = torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").amin(-1).square()
    assert torch.allclose(out.double(), want, rtol=1e-5, atol=1e-9)  # 1e-5: of 3k squares summed in float32


PATCHES = {
    "a third of 100": (100, 33, "gaussian", "sink"),
    "drawn kinds": (300, 10, "gaussian", None),
    "uniform": (300, 64, "uniform", "bulge"),
    "damage": (257, 20, "gaussian", "damage"),
    "one point": (50, 1, "uniform", "sink"),
    "all points": (70, 70, "gaussian", "bulge"),
}


@pytest.mark.parametrize("case", PATCHES)
def test_patches_move_as_the_definition_says(kernels, case):
    count, moved, draw, kind = PATCHES[case]
    good = cloud(4, count, 3) / 3
    check_patches(kernels, good, moved, draw, kind)


def test_a_patch_of_equally_far_points_takes_the_first(kernels):
    # A lattice seen from a corner, an edge or a face: many points at the same distance.
    check_patches(kernels, (LATTICE / 2.5 - 1).repeat(6, 1, 1), 40, "gaussian", None)


def check_patches(kernels, good: torch.Tensor, moved: int, draw: str, kind: str | None) -> None:
    batch, count, _ = good.shape
    seeds = torch.arange(batch) + 2**35
    defective, around = guarded(batch, count, 3)
    mask = torch.zeros(batch, count, dtype=torch.bool)
    options = ctypes.c_float(0.1), draw == "gaussian", -1 if kind is None else KINDS.index(kind)
    sizes = ctypes.c_int64(batch), count, moved
    kernels.displace_patch(pointer(good), pointer(seeds), *sizes, *options, pointer(defective), pointer(mask))
    check_around(around)
    want, wanted = displace_patch_definition(good, seeds, moved, 0.1, draw, kind)
    assert torch.equal(mask, wanted) and torch.allclose(defective, want, atol=2e-6)
    assert torch.equal(defective[~mask], good[~mask])
