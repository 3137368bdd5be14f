"""The CUDA kernels run lane by lane on the host, from the source that nvcc compiles, behind the same Python."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

import r3dad
from benchmarks import resources_cuda
from r3dad.ops.cluster_distance import clusters
from r3dad.ops.knn import knn_definition
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition
from r3dad.synth.patch_gen import displace_patch_definition
from tests.cuda import module
from tests.op_cases import PAPER, reverse_case

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
WRAPPERS = ("cuda_device", "nearest_cuda", "patches_cuda", "reverse_diffusion_cuda")
ROOM = 64  # elements on either side of what the wrappers allocate


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return module.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda(compiled, monkeypatch):
    """The wrappers over the emulated module; what they allocate lies within sevens that must stay."""
    compiled.last_warp_first(False)
    monkeypatch.setattr(r3dad, "_cuda", compiled, raising=False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    wholes = []

    def guarded(*shape, dtype, device):
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, torch.Size)) else shape
        count = torch.Size(shape).numel()
        wholes.append(torch.full((count + 2 * ROOM,), 7, dtype=torch.uint8 if dtype == torch.bool else dtype))
        inner = wholes[-1][ROOM : ROOM + count]
        if dtype.is_floating_point:
            inner.fill_(float("nan"))
        return inner.view(dtype).view(shape)

    loaded = {}
    for name in WRAPPERS:
        monkeypatch.delitem(sys.modules, f"r3dad.kernels.{name}", raising=False)
        loaded[name] = importlib.import_module(f"r3dad.kernels.{name}")
        monkeypatch.setattr(loaded[name], "torch", Patched(torch, empty=guarded))
    yield SimpleNamespace(**{name.removesuffix("_cuda"): wrapper for name, wrapper in loaded.items()})
    for whole in wholes:
        assert (whole[:ROOM] == 7).all() and (whole[-ROOM:] == 7).all()
    for name in WRAPPERS:  # another test finds them as they are without the emulation
        sys.modules.pop(f"r3dad.kernels.{name}", None)


class Patched:
    """A module with some functions replaced."""

    def __init__(self, original, **replaced):
        self.__dict__.update(replaced, _original=original)

    def __getattr__(self, name):
        return getattr(self._original, name)


def cloud(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, count, 3, generator=torch.Generator().manual_seed(seed))


LATTICE = torch.cartesian_prod(*[torch.arange(6.0)] * 3)[None]
KNN = {
    "64 of 300": (cloud(1, 9), cloud(1, 300, 1), 64),
    "two clouds, ragged": (cloud(2, 7), cloud(2, 45, 1), 5),
    "all of them, not a power of two": (cloud(1, 3), cloud(1, 37, 1), 37),
    "512 of 600": (cloud(1, 2), cloud(1, 600, 1), 512),
    "one of one": (cloud(3, 5), cloud(3, 1, 1), 1),
    "lattice, exact ties": (LATTICE[:, 80:100], LATTICE, 10),
    "all equal": (torch.zeros(1, 3, 3), torch.zeros(1, 70, 3), 33),
    "more equal ones than can be noted": (
        torch.zeros(1, 2, 3),
        torch.cat([cloud(1, 9), torch.zeros(1, 800, 3)], 1),
        21,
    ),
    "more groups than one round": (cloud(1, 5), cloud(1, 1030, 1), 100),
    "k above the groups": (cloud(1, 2), cloud(1, 400, 1), 300),
    "far from the origin": (cloud(1, 6) + 1000, cloud(1, 90, 1) + 1000, 17),
}


@pytest.mark.parametrize("case", KNN)
def test_knn_equals_the_definition_bit_for_bit(cuda, case):
    got, want = cuda.nearest.knn(*KNN[case]), knn_definition(*KNN[case])
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


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
def test_cluster_distance_is_the_nearest_of_all_rows(cuda, case):
    points, reconstruction, k = CLUSTERS[case]
    got = cuda.nearest.cluster_distance(points, reconstruction, k)
    rows, others = clusters(points, k).double(), clusters(reconstruction, k).double()
    want = torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").amin(-1).square()
    assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-9)  # 1e-5: of 3k squares summed in float32


PATCHES = {
    "a third of 100": (100, 33, "gaussian", "sink"),
    "drawn kinds": (300, 10, "gaussian", None),
    "uniform": (300, 64, "uniform", "bulge"),
    "damage": (257, 20, "gaussian", "damage"),
    "one point": (50, 1, "uniform", "sink"),
    "all points": (70, 70, "gaussian", "bulge"),
}


@pytest.mark.parametrize("case", PATCHES)
def test_patches_move_as_the_definition_says(cuda, case):
    count, *options = PATCHES[case]
    check_patches(cuda, cloud(4, count, 3) / 3, *options)


def test_a_patch_of_equally_far_points_takes_the_first(cuda):
    # A lattice seen from a corner, an edge or a face: many points at the same distance.
    check_patches(cuda, (LATTICE / 2.5 - 1).repeat(6, 1, 1), 40, "gaussian", None)


def check_patches(cuda, good: torch.Tensor, moved: int, draw: str, kind: str | None) -> None:
    args = good, torch.arange(len(good)) + 2**35, moved, 0.1, draw, kind
    (defective, mask), (want, wanted) = cuda.patches.displace_patch(*args), displace_patch_definition(*args)
    assert torch.equal(mask, wanted) and torch.allclose(defective, want, atol=2e-6)
    assert torch.equal(defective[~mask], good[~mask])


REVERSE = {
    "one layer between, odd widths": (reverse_case(2, 37, 2, (20, 130, 3)), 64),
    "widest, condition": (reverse_case(1, 9, 2, (40, 512, 100, 3), features=5), 32),
    "four layers between, deterministic": (reverse_case(3, 33, 3, (128, 64, 200, 30, 7, 3), sigma=0.0), 32),
    "slope zero, one point": (reverse_case(1, 1, 3, (256, 256, 256, 3), slope=0.0), 128),
    "two tiles of 128": (reverse_case(1, 150, 1, (384, 128, 128, 3)), 128),
    "paper, a tile of 64": (reverse_case(1, 64, 2, PAPER), 64),
    "no step": (reverse_case(1, 10, 0), 0),
}


@pytest.mark.parametrize("case", REVERSE)
def test_the_reverse_process_equals_the_definition(cuda, case):
    args, tile = REVERSE[case]
    check_reverse(cuda, args, tile)


CLUSTERS_OF = {
    "one layer between, odd widths": (reverse_case(2, 37, 2, (20, 130, 3)), 64, 2),
    "widest, condition": (reverse_case(1, 9, 2, (40, 512, 100, 3), features=5), 64, 1),
    "four layers between, deterministic": (reverse_case(3, 33, 3, (128, 64, 200, 30, 7, 3), sigma=0.0), 64, 4),
    "slope zero, one point, all blocks but one empty": (reverse_case(1, 1, 6, (128, 128, 3), slope=0.0), 64, 8),
    "three chunks of 128, the last layer in two of 256": (reverse_case(1, 150, 1, (256, 384, 512, 3)), 128, 2),
    "paper, a tile of 64": (reverse_case(1, 64, 2, PAPER), 64, 1),
    "paper, two tiles of 128": (reverse_case(1, 140, 2, PAPER), 128, 2),
    "no step": (reverse_case(1, 10, 0), 64, 2),
}


@pytest.mark.parametrize("case", CLUSTERS_OF)
def test_the_reverse_process_in_clusters_equals_the_definition(compiled, cuda, case):
    # Copies land at once and products run late, or the other way round: both must give the same bits.
    results = []
    for early in (True, False):
        compiled.copies_early(early)
        results.append(check_reverse(cuda, *CLUSTERS_OF[case]))
    assert torch.equal(*results)


def check_reverse(cuda, args: tuple, *variant: int) -> torch.Tensor:
    args = (*args[:-1], "bfloat16")
    got = cuda.reverse_diffusion.reverse_diffusion(*args, *variant)
    exact = reverse_diffusion_definition(
        *[[t.double() for t in a] if isinstance(a, list) else a for a in args[:2]],
        *[a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args[2:-1]],
        "float32",
    )
    plain = reverse_diffusion_definition(*args)
    error, allowed = ((t.double() - exact).abs().max() for t in (got, plain))
    assert error <= 2 * allowed + 1e-6 * exact.abs().max(), (float(error), float(allowed))
    return got


def test_the_reverse_process_does_not_depend_on_tile_and_batch(cuda):
    args = (*reverse_case(2, 70, 2, (128, 256, 128, 3))[:-1], "bfloat16")
    results = [cuda.reverse_diffusion.reverse_diffusion(*args, tile) for tile in (32, 64, 128)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    for i in (3, 5, 7, 8):  # gate_shape, shift_shape, start, seeds
        args = (*args[:i], args[i][1:], *args[i + 1 :])
    assert torch.equal(cuda.reverse_diffusion.reverse_diffusion(*args, 32), results[0][1:])


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    "widths", [(128, 256, 128, 3), (128, 128, 3)]
)  # more pieces of weights in a step than slots, and fewer
def test_clusters_do_not_depend_on_tile_size_of_cluster_and_order(compiled, cuda, early, widths):
    args = (*reverse_case(2, 70, 5, widths)[:-1], "bfloat16")
    compiled.copies_early(early)
    want = cuda.reverse_diffusion.reverse_diffusion(*args, 64, 1)
    for last, tile, cluster in ((True, 64, 1), (False, 64, 4), (True, 64, 2), (False, 128, 2), (True, 128, 4)):
        compiled.last_warp_first(last)
        got = cuda.reverse_diffusion.reverse_diffusion(*args, tile, cluster)
        assert torch.equal(got, want), (last, tile, cluster)


def test_both_orders_of_warps_give_the_same_bits(compiled, cuda):
    args = (*reverse_case(1, 40, 2, (128, 256, 384, 3))[:-1], "bfloat16")
    patch = cloud(2, 90) / 3, torch.tensor([1, 2]), 20, 0.1, "gaussian", None
    results = []
    for last in (False, True):
        compiled.last_warp_first(last)
        results.append((cuda.reverse_diffusion.reverse_diffusion(*args, 32), cuda.patches.displace_patch(*patch)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_the_shared_memory_of_a_tile_is_what_the_page_says(compiled):
    for tile, cluster in ((32, 0), (64, 0), (128, 0), (64, 2), (128, 2)):
        found = (ctypes.c_int * 1)()
        compiled.reverse_bytes((ctypes.c_int * 5)(*resources_cuda.WIDTHS), 4, tile, cluster, found)
        own = resources_cuda.cluster_bytes if cluster else resources_cuda.reverse_bytes
        assert found[0] == own(tile)


def test_what_the_kernels_do_not_take_is_said_in_words(cuda, monkeypatch):
    points = cloud(1, 10)
    args = list(reverse_case(1, 10, 1))
    assert cuda.nearest.why_not("knn", points.double(), points.double(), 3) == "takes float32, got torch.float64"
    assert cuda.nearest.why_not("knn", points, points, 600) == "takes k up to 512, got 600"
    assert "moves up to 2048" in cuda.patches.why_not("displace_patch", points, None, 3000)
    assert cuda.reverse_diffusion.why_not("reverse_diffusion", *args) == "multiplies in bfloat16, got float32"
    args[-1] = "bfloat16"
    wide = [[torch.zeros(513, 3), torch.zeros(8, 513), torch.zeros(3, 8)], *args[1:]]
    assert "up to 512 wide, got 513" in cuda.reverse_diffusion.why_not("reverse_diffusion", *wide)
    assert "takes 3 to 10 layers, got 2" in cuda.reverse_diffusion.why_not("reverse_diffusion", args[0][:2], *args[1:])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert cuda.nearest.why_not("knn", points, points, 3) == "needs compute capability 8.0, got 7.5"
    args = (*reverse_case(1, 10, 1)[:-1], "bfloat16")
    with pytest.raises(ValueError, match="in clusters needs compute capability 9.0, got 7.5"):
        cuda.reverse_diffusion.reverse_diffusion(*args, 64, 2)
    monkeypatch.setattr(r3dad._cuda, "build_info", lambda: {"archs": "80-real"})
    with pytest.raises(ValueError, match="to be built for 90a"):
        cuda.reverse_diffusion.reverse_diffusion(*args, 64, 2)
    monkeypatch.setattr(r3dad._cuda, "devices", lambda: 0)
    assert cuda.patches.why_not("displace_patch", points, None, 3) == "finds no usable GPU"
