"""KeOps against the definitions, and when it is taken. Each k is a compilation of seconds, so the quick run has one."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
import torch

from r3dad import backends, ops
from r3dad.ops.cluster_distance import cluster_distance_definition
from r3dad.ops.knn import knn_definition

needs_keops = pytest.mark.skipif(
    not (shutil.which(os.environ.get("CXX", "g++"))), reason="KeOps compiles at run time and finds no C++ compiler"
)


def clouds(batch, queries, points, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(batch, n, 3, generator=generator, dtype=torch.float64).to(dtype) for n in (queries, points))


@needs_keops
def test_knn_and_cluster_distance_equal_the_definitions():
    pytest.importorskip("pykeops")
    query, reference = clouds(2, 50, 70)
    lattice = torch.cartesian_prod(*[torch.arange(5.0)] * 3)[None]
    with backends.use_backend("keops"):
        for a, b in ((query, reference), (lattice, lattice), (query[:, :0], reference)):
            distances, indices = ops.knn(a, b, 7)
            want = knn_definition(a, b, 7)
            assert torch.allclose(distances, want[0], rtol=1e-6) and torch.equal(indices, want[1])
        got = ops.cluster_distance(query, reference, 7)
    exact = cluster_distance_definition(query.double(), reference.double(), 7)
    assert torch.allclose(got.double(), exact, rtol=1e-5)


@needs_keops
@pytest.mark.slow
@pytest.mark.parametrize("k, dtype", [(64, torch.float32), (1, torch.float32), (5, torch.float64)])
def test_other_sizes_and_types(k, dtype):
    pytest.importorskip("pykeops")
    query, reference = clouds(1, 300, 400, dtype)
    with backends.use_backend("keops"):
        distances, indices = ops.knn(query, reference, k)
        got = ops.cluster_distance(query, reference, k)
    want = knn_definition(query, reference, k)
    assert torch.allclose(distances, want[0], rtol=1e-6) and torch.equal(indices, want[1])
    exact = cluster_distance_definition(query.double(), reference.double(), k)
    assert torch.allclose(got.double(), exact, rtol=1e-5)


def test_is_taken_when_asked_for_or_when_clouds_are_large(monkeypatch):
    query, reference = clouds(1, 10, 10)
    assert "taken unasked from" in backends.why_not("knn", "keops", query, reference, 3)
    with backends.use_backend(knn="keops"):
        assert "taken unasked" not in (backends.why_not("knn", "keops", query, reference, 3) or "")
        assert "taken unasked" in backends.why_not("cluster_distance", "keops", query, reference, 3)
    monkeypatch.setattr(backends, "_KEOPS_PAIRS", 100)
    assert "taken unasked" not in (backends.why_not("knn", "keops", query, reference, 3) or "")


def test_says_what_is_missing(monkeypatch):
    query, reference = clouds(1, 10, 10)
    with backends.use_backend("keops"):
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert "C++ compiler" in backends.why_not("knn", "keops", query, reference, 3)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert "not installed" in backends.why_not("knn", "keops", query, reference, 3)


def test_naming_the_table_imports_no_keops():
    query, reference = clouds(1, 4, 4)
    loaded = "pykeops" in sys.modules
    ops.knn(query, reference, 2)
    assert ("pykeops" in sys.modules) == loaded
