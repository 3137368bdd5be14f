"""The compiled CPU kernels: every instruction set of this machine, threads, batch order, noise, odd arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r3dad import backends, ops, philox

_cpu = pytest.importorskip("r3dad._cpu", reason="the native kernels are not built")

from r3dad.kernels import compiled  # noqa: E402  (needs the module above)
from tests.op_cases import CASES, double, lattice, mapped, reverse_case, torus  # noqa: E402
from tests.test_ops import DEFINITIONS  # noqa: E402
from tests.test_ops import test_backend_equals_the_definition as check_row  # noqa: E402
from tests.test_ops import test_cpu_neighbours_are_the_definitions_bit_for_bit as check_bits  # noqa: E402

ISAS = _cpu.available_isas()
CPU_CASES = [(op, case) for op in DEFINITIONS for case in CASES[op]]


@pytest.fixture(params=ISAS)
def isa(request):
    before = _cpu.isa()
    _cpu.use_isa(request.param)
    torch.use_deterministic_algorithms(True)  # fresh memory holds NaN
    yield request.param
    torch.use_deterministic_algorithms(False)
    _cpu.use_isa(before)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("op", DEFINITIONS)
def test_every_instruction_set_equals_the_definition(isa, op):
    for case in CASES[op]:
        check_row(op, "cpu", case)
        if op == "knn":
            check_bits(case)


def test_the_instruction_set_is_chosen_by_variable_and_a_wrong_name_is_explained():
    code = "from r3dad import _cpu; print(_cpu.isa())"
    for name in ISAS:
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "R3DAD_CPU_ISA": name}, capture_output=True, text=True
        )
        assert run.stdout.strip() == name, run.stderr
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "R3DAD_CPU_ISA": "avx1024"}, capture_output=True, text=True
    )
    assert run.returncode != 0 and "R3DAD_CPU_ISA: 'avx1024' is not one of" in run.stderr and "base" in run.stderr
    with pytest.raises(ValueError, match="is not one of the instruction sets"):
        _cpu.use_isa("")


def test_build_info_names_what_was_built():
    info = _cpu.build_info()
    assert set(ISAS) <= set(info["isas"].split(",")) and info["compiler"] and "-O" in info["flags"]
    assert _cpu.isa() in ISAS


def test_the_instruction_set_taken_unasked_is_never_intels_slow_dot_product():
    intel = Path("/proc/cpuinfo").exists() and "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    unasked = [name for name in ISAS if not (intel and name == "avx512bf16")]
    env = {name: value for name, value in os.environ.items() if name != "R3DAD_CPU_ISA"}
    run = subprocess.run(
        [sys.executable, "-c", "from r3dad import _cpu; print(_cpu.isa())"], env=env, capture_output=True, text=True
    )
    assert run.stdout.strip() == unasked[-1], run.stderr


needs_tiles = pytest.mark.skipif("amxbf16" not in ISAS, reason="no tile registers (AMX) here, or none built")


@needs_tiles
def test_where_linux_refuses_tiles_the_next_instruction_set_is_taken():
    # It refuses while a thread's alternate signal stack is too small for their 8 kB.
    code = """
import ctypes
from r3dad import _cpu
class Stack(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
room = ctypes.create_string_buffer(4096)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(room), 0, 4096)), None) == 0
print(_cpu.available_isas()[-1])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == [name for name in ISAS if name != "amxbf16"][-1], run.stderr


@needs_tiles
@pytest.mark.parametrize("widths", [(33, 65, 31, 3), (128, 544, 96, 3), (5, 3), (7, 1, 3)])
@pytest.mark.parametrize("points", [1, 31, 33, 129])
def test_tiles_take_any_sizes(widths, points, threads):
    args = reverse_case(2, points, 3, widths, features=5, precision="bfloat16")
    before, results = _cpu.isa(), {}
    try:
        for isa in ("amxbf16", "avx512"):
            _cpu.use_isa(isa)
            for count in (1, 3):
                threads(count)
                results[isa, count] = compiled.reverse_diffusion(*args)
    finally:
        _cpu.use_isa(before)
    assert torch.equal(results["amxbf16", 1], results["amxbf16", 3])
    assert torch.allclose(results["amxbf16", 1], results["avx512", 1], rtol=0.02, atol=0.02)


def run_cpu(op: str, args: tuple):
    assert compiled.why_not(op, *args) is None
    result = getattr(compiled, op)(*args)
    return [result] if isinstance(result, torch.Tensor) else list(result)


@pytest.mark.parametrize("op, case", CPU_CASES)
def test_results_do_not_depend_on_the_number_of_threads(op, case, threads):
    args = CASES[op][case]
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(run_cpu(op, args))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("case", CASES["knn"])
def test_a_kept_tree_finds_what_a_search_finds(isa, case, threads):
    query, reference, k = CASES["knn"][case]
    threads(2)
    for cloud, other in zip(query, reference):
        for wanted in (k, 1):
            exact, order = DEFINITIONS["knn"](cloud[None], other[None], wanted)
            tree = compiled.knn_tree(other)
            asked = [
                cloud,
                *([moved(cloud)] if len(cloud) else []),
                *([compiled.knn_tree(cloud)] if len(cloud) else []),
                *([tree] if cloud is other else []),
            ]
            for q in asked:
                for kept in (tree, moved(other)):
                    distances, indices = kept.knn(q, wanted)
                    assert torch.equal(distances, exact[0]) and torch.equal(indices, order[0])


def moved(cloud: torch.Tensor):
    """A tree whose order is that of the same points in quite other places."""
    return compiled.knn_tree(cloud, compiled.knn_tree(cloud[:, [2, 0, 1]] * torch.tensor([3.0, -1.0, 1.0])))


def test_a_kept_tree_refuses_a_query_that_is_not_finite():
    with pytest.raises(ValueError, match="must be finite"):
        compiled.knn_tree(torus(200)[0]).knn(torch.full((1, 3), float("nan")), 1)


@pytest.mark.parametrize("op, case", [("knn", "batch"), ("cluster_distance", "surface"), ("encode", "many clouds")])
def test_results_do_not_depend_on_the_order_of_the_batch(op, case, threads):
    threads(2)
    args = CASES[op][case]
    for a, b in zip(run_cpu(op, args), run_cpu(op, flipped(args))):
        assert torch.equal(a.flip(0), b)


def test_the_reverse_process_does_not_depend_on_the_order_of_the_batch(threads):
    threads(2)
    args = list(reverse_case(3, 40, 3, (16, 24, 3), features=2))
    first = compiled.reverse_diffusion(*args)
    for i in (3, 5, 7, 8, 9):  # gate_shape, shift_shape, start, seeds, condition
        args[i] = args[i].flip(0)
    assert torch.equal(first.flip(0), compiled.reverse_diffusion(*args))


def flipped(args: tuple) -> tuple:
    """Clouds in reverse order; weights of a list stay."""
    return tuple(a if isinstance(a, list) else mapped(a, lambda t: t.flip(0)) for a in args)


@pytest.mark.parametrize("seed", [0, 5, 2**32 + 7, 2**63 - 1, -1])
def test_philox_words_equal_those_of_python(seed):
    words = philox.philox4x32(tuple(torch.tensor(v) for v in (77, 3, 2, 0)), torch.tensor(seed))
    assert _cpu.philox_words(77, 3, 2, seed % 2**64) == tuple(int(w) for w in words)


def test_noise_of_the_kernels_equals_philox_normal(isa):
    # A network of zeros, x <- 0 x + 0 e + 1 z: what remains is the noise of the last step.
    args = list(reverse_case(2, 3000, 2, (4, 3)))
    args[6] = torch.tensor([[0.0, 0.0, 1.0]] * 2)
    args[8] = torch.tensor([12345678901234, -7])
    got, wanted = compiled.reverse_diffusion(*args), philox.normal(args[8], 3000, 2)
    assert torch.allclose(got, wanted, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_coarse_products_lose_no_more_than_plain_ones(isa, precision):
    args = reverse_case(1, 200, 20)
    exact = DEFINITIONS["reverse_diffusion"](*double(args))
    low = (*args[:-1], precision)
    plain = (DEFINITIONS["reverse_diffusion"](*low) - exact).square().mean()
    assert (compiled.reverse_diffusion(*low) - exact).square().mean() <= 1.05 * plain


def test_nearest_rows_equal_float64_with_and_without_structure(isa):
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 150, 192, generator=g), torch.randn(1, 333, 192, generator=g)
    around = torus(400), torus(300, seed=1)
    surface = tuple(c[0][compiled.knn(c, c, 64)[1][0]].flatten(1)[None] for c in around)
    repeated = noise[0], noise[0].repeat(1, 3, 1)
    far = tuple(n + 100 for n in noise)
    for query, reference in (noise, surface, repeated, far, (torch.ones(1, 90, 192), torch.ones(1, 200, 192))):
        distances, indices = compiled.nearest_row(query, reference)
        squared = torch.cdist(query.double(), reference.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        best = squared.amin(2)
        assert torch.allclose(distances.double(), best, rtol=1e-5, atol=1e-12)
        chosen = squared.gather(2, indices[..., None])[..., 0]
        assert (chosen <= best * (1 + 2e-6)).all()
        if reference is repeated[1]:
            assert (indices < 150).all()  # ties go to the smaller index


def test_a_call_from_many_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    cloud = torus(700)
    wanted = compiled.knn(cloud, cloud, 20)[1]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: compiled.knn(cloud, cloud, 20)[1], range(12)):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize(
    "op, args, reason",
    [
        ("knn", (torus(600), torus(600), 513), "k=513 > 512"),
        ("knn", (torus(9).half(), torus(9).half(), 2), "needs float32, got torch.float16"),
        ("knn", (torus(9) / 0, torus(9), 2), "not all finite"),
        ("knn", (torus(9).to("meta"), torus(9).to("meta"), 2), "needs tensors on the CPU, got meta"),
        ("knn", (torus(9)[0].to_sparse()[None], torus(9), 2), "needs dense tensors"),
        ("concat_squash", (*CASES["concat_squash"]["odd"][:5], 1.5), "negative_slope=1.5 > 1"),
        ("reverse_diffusion", (*reverse_case(1, 4, 1, slope=2.0),), "negative_slope=2.0 > 1"),
    ],
)
def test_why_not_says_it_in_words(op, args, reason):
    assert reason in backends.why_not(op, "cpu", *args)


@pytest.mark.slow
def test_a_million_points_grow_nearly_linearly(threads):
    import resource
    import time

    threads(1)
    seconds = []
    for count in (62_500, 1_000_000):
        cloud = torus(count)
        started = time.thread_time()
        distances, indices = compiled.knn(cloud, cloud, 16)
        seconds.append(time.thread_time() - started)
    assert seconds[1] / seconds[0] < 16 * 2.5
    some = torch.arange(0, 1_000_000, 50_021)
    squared = (cloud[0, some][:, None] - cloud[0][None]).square().sum(-1)
    assert torch.equal(distances[0, some], squared.topk(16, largest=False).values)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4e6  # kB


def test_ties_of_a_large_lattice_are_quick_and_right():
    cloud = lattice(16)
    got = ops.knn(cloud, cloud, 7)
    wanted = DEFINITIONS["knn"](cloud, cloud, 7)
    assert torch.equal(got[1], wanted[1])
