"""The CUDA kernels' logic, run lane by lane on the host: the same source that nvcc compiles."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from r3dad.ops.knn import knn_definition

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("cuda") / "emulated.so"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        ["g++", *flags, f"-I{ROOT / 'csrc'}", str(ROOT / "tests" / "cuda" / "emulated.cpp"), "-o", str(library)],
        check=True,
    )
    return ctypes.CDLL(str(library))


def guarded(*shape: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor within a larger one of -7, and that one: a write beside it shows."""
    count = torch.Size(shape).numel()
    whole = torch.full((count + 128,), -7, dtype=dtype)
    return whole[64 : 64 + count].view(shape), whole


def knn(kernels: ctypes.CDLL, query: torch.Tensor, reference: torch.Tensor, k: int):
    batch, queries, _ = query.shape
    distances, around = guarded(batch, queries, k, dtype=torch.float32)
    indices, around_indices = guarded(batch, queries, k, dtype=torch.int64)
    pointer, long = (lambda t: ctypes.c_void_p(t.data_ptr())), ctypes.c_int64
    query, reference = query.contiguous(), reference.contiguous()
    sizes = (long(batch * queries), long(queries), reference.shape[1], k)
    kernels.knn(pointer(query), pointer(reference), *sizes, pointer(distances), pointer(indices))
    for whole in (around, around_indices):
        assert (whole[:64] == -7).all() and (whole[-64:] == -7).all()
    return distances, indices


def cloud(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, count, 3, generator=torch.Generator().manual_seed(seed))


LATTICE = torch.cartesian_prod(*[torch.arange(6.0)] * 3)[None]
CASES = {
    "64 of 300": (cloud(1, 9), cloud(1, 300, 1), 64),
    "two clouds, ragged": (cloud(2, 7), cloud(2, 45, 1), 5),
    "all of them, not a power of two": (cloud(1, 3), cloud(1, 37, 1), 37),
    "512 of 600": (cloud(1, 2), cloud(1, 600, 1), 512),
    "one of one": (cloud(3, 5), cloud(3, 1, 1), 1),
    "lattice, exact ties": (LATTICE[:, 80:100], LATTICE, 10),
    "all equal": (torch.zeros(1, 3, 3), torch.zeros(1, 70, 3), 33),
    "far from the origin": (cloud(1, 6) + 1000, cloud(1, 90, 1) + 1000, 17),
}


@pytest.mark.parametrize("case", CASES)
def test_knn_equals_the_definition_bit_for_bit(kernels, case):
    query, reference, k = CASES[case]
    got, want = knn(kernels, query, reference, k), knn_definition(query, reference, k)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
