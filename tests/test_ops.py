"""Every row of the backend table over every case, gradients and wrong calls.

Rule: the error against float64 is at most twice that of plain PyTorch in the same precision, plus a floor. Outputs are filled with NaN
beforehand. A row is skipped only with its own reason; ``R3DAD_REQUIRE=cpu,...`` makes that a failure.
"""

from __future__ import annotations

import functools
import os

import pytest
import torch

from r3dad import backends, ops
from r3dad.ops.cluster_distance import cluster_distance_definition, clusters
from r3dad.ops.concat_squash import concat_squash_backward_definition, concat_squash_definition
from r3dad.ops.encode import encode_definition
from r3dad.ops.knn import knn_definition
from r3dad.ops.messages import messages_backward_definition, messages_definition
from r3dad.ops.neighbour_mean import neighbour_mean_definition
from r3dad.ops.reverse_diffusion import reverse_diffusion_definition
from tests.op_cases import (
    CASES,
    double,
    encode_case,
    mapped,
    mean_case,
    messages_case,
    reverse_case,
    squash_case,
    torus,
)

DEFINITIONS = {
    "concat_squash": concat_squash_definition,
    "concat_squash_backward": concat_squash_backward_definition,
    "encode": encode_definition,
    "reverse_diffusion": reverse_diffusion_definition,
    "knn": knn_definition,
    "cluster_distance": cluster_distance_definition,
    "messages": messages_definition,
    "messages_backward": messages_backward_definition,
    "neighbour_mean": neighbour_mean_definition,
}
FLOOR = 1e-6  # of the largest value


@pytest.fixture(autouse=True)
def nan_in_fresh_memory():
    torch.use_deterministic_algorithms(True)  # also fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)


def on_backend(op: str, backend: str, args: tuple):
    """The row's result on the CPU; skipped with the row's reason."""
    if backend in ("cuda", "triton") and torch.cuda.is_available():
        args = mapped(args, lambda t: t.cuda())
    reason = backends.why_not(op, backend, *args)
    if reason is not None:
        if backend in os.environ.get("R3DAD_REQUIRE", "").split(","):
            pytest.fail(f"{backend} is required: {reason}")
        pytest.skip(reason)
    with backends.use_backend(backend):
        name, function = backends.choose(op, *args)
    assert name == backend
    return mapped(function(*args), lambda t: t.cpu())


ROWS = [
    pytest.param(
        op,
        backend,
        case,
        id=f"{op}-{backend}-{case}".replace(" ", "_"),
        marks=[pytest.mark.slow] * (backend == "keops"),
    )
    for op in DEFINITIONS
    for backend in backends.TABLE[op]
    if backend != "torch"
    for case in CASES[op]
]


@functools.cache
def truth(op: str, case: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The definition in the case's precision and in float64."""
    args = CASES[op][case]
    plain = DEFINITIONS[op](*args)
    if op == "cluster_distance" and plain.numel():
        # The clusters are those of the float32 neighbours; their distance is what is rounded.
        exact = torch.stack([d.amin(1) for d in row_distances(*args)])
    else:
        exact = DEFINITIONS[op](*double(args))
    return listed(plain), listed(exact)


def listed(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)


@pytest.mark.parametrize("op, backend, case", ROWS)
def test_backend_equals_the_definition(op, backend, case):
    got = on_backend(op, backend, CASES[op][case])
    if op == "knn":
        return check_neighbours(got, case)
    for g, p, e in zip(listed(got), *truth(op, case), strict=True):
        assert g.shape == p.shape and g.dtype == p.dtype
        assert torch.isfinite(g).all()
        if g.numel():
            allowed = 2 * (p.double() - e).abs().max() + FLOOR * e.abs().max()
            assert (g.double() - e).abs().max() <= allowed


def row_distances(points, reconstruction, k):
    """[B, N, R] squared, in float64."""
    rows = clusters(points, k).double(), clusters(reconstruction, k).double()
    return torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist").square()


def check_neighbours(got, case: str):
    query, reference, k = CASES["knn"][case]
    distances, indices = got
    wanted, order = truth("knn", case)[0]
    assert distances.shape == wanted.shape and indices.shape == order.shape and indices.dtype == torch.int64
    if not wanted.numel():
        return
    assert ((indices >= 0) & (indices < reference.shape[1])).all()
    assert all(len(set(row.tolist())) == k for row in indices.flatten(0, 1))
    scale = wanted[wanted.isfinite()].max()
    torch.testing.assert_close(distances, wanted, rtol=1e-6, atol=float(1e-6 * scale))
    if torch.equal(indices, order):
        return
    # Indices may differ only where the distances are equal up to rounding.
    squared = (query.double()[:, :, None] - reference.double()[:, None]).square().sum(-1)
    mine, theirs = squared.gather(2, indices), squared.gather(2, order)
    assert torch.allclose(mine, theirs, rtol=1e-6, atol=float(1e-6 * scale))


@pytest.mark.parametrize("case", CASES["knn"])
def test_cpu_neighbours_are_the_definitions_bit_for_bit(case):
    distances, indices = on_backend("knn", "cpu", CASES["knn"][case])
    wanted, order = truth("knn", case)[0]
    assert torch.equal(distances, wanted) and torch.equal(indices, order)


# ---- operators ------------------------------------------------------------------------------------------------------------------------

CHECKED = {
    "knn": (ops.knn, (torus(40), torus(30), 5)),
    "cluster_distance": (ops.cluster_distance, (torus(40), torus(30), 5)),
    "encode": (ops.encode, encode_case(2, 9, (8, 8, 8, 8, 4))),
    "reverse_diffusion": (ops.reverse_diffusion, reverse_case(1, 9, 2, (8, 8, 3))),
    "concat_squash": (ops.concat_squash, squash_case(2, 9, 4, 8)),
    "messages": (ops.messages, messages_case(30, 16, 4)),
    "neighbour_mean": (ops.neighbour_mean, mean_case(30, 20, 3, 4)),
}


@pytest.mark.parametrize("name", CHECKED)
def test_opcheck(name):
    function, args = CHECKED[name]
    operator = getattr(torch.ops.r3dad, name).default
    if name == "concat_squash":
        args = mapped(args, lambda t: t.clone().requires_grad_())
    if name == "messages":
        args = (*mapped(args[:3], lambda t: t.clone().requires_grad_()), *args[3:])
    torch.library.opcheck(operator, args)


def test_concat_squash_gradients_of_the_definition():
    x, weight, bias, gate, shift, _ = double(squash_case(2, 3, 4, 5))
    inputs = [t.requires_grad_() for t in (x, weight, bias, gate, shift)]
    for slope in (0.1, 1.0):
        assert torch.autograd.gradcheck(lambda *t, s=slope: ops.concat_squash(*t, s), inputs)


def test_concat_squash_gradients_equal_autograd_of_the_definition():
    args = squash_case(2, 40, 6, 10, 0.2)
    mine, plain = ([t.clone().requires_grad_() for t in args[:5]] for _ in range(2))
    ops.concat_squash(*mine, 0.2).square().sum().backward()
    concat_squash_definition(*plain, 0.2).square().sum().backward()
    for m, p in zip(mine, plain):
        torch.testing.assert_close(m.grad, p.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_messages_are_those_of_autograd_through_the_definition(dtype):
    args = messages_case(1100, 24, 8)
    args[6][:9] = torch.arange(9)[:, None]  # neighbours that say the same
    args = mapped(args, lambda t: t.to(dtype) if t.is_floating_point() else t)
    gradients = []
    for function in (ops.messages, messages_definition):
        learned = [t.clone().requires_grad_() for t in args[:3]]
        function(*learned, *args[3:]).square().sum().backward()
        gradients.append([t.grad for t in learned])
    small = dtype == torch.float64
    for mine, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-10 if small else 1e-4, atol=1e-10 if small else 1e-3)


def test_a_sum_as_loss_gives_expanded_gradients():
    args = [t.requires_grad_() for t in squash_case(1, 5, 3, 4)[:5]]
    ops.concat_squash(*args).sum().backward()
    assert torch.isfinite(args[0].grad).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ops.knn(torus(5), torus(5), 6), "k must be between 1 and the number of points (5), got 6"),
        (lambda: ops.knn(torus(5), torus(5), 0), "k must be"),
        (lambda: ops.knn(torus(5)[..., :2], torus(5), 1), "query must be [B, N, 3]"),
        (lambda: ops.knn(torus(5), torus(5, 2), 1), "reference must be [B, R, 3]"),
        (lambda: ops.knn(torus(5), torus(5).double(), 1), "expected one dtype"),
        (lambda: ops.knn(torus(5).long(), torus(5).long(), 1), "expected one dtype"),
        (lambda: ops.cluster_distance(torus(9), torus(5), 6), "k must be between 1 and the number of points (5)"),
        (lambda: ops.encode(torch.zeros(1, 0, 3), *encode_case(1, 5)[1:]), "at least one point"),
        (lambda: ops.concat_squash(*squash_case(1, 2, 3, 4)[:5], -1.0), "negative_slope must be >= 0"),
        (
            lambda: ops.messages(*messages_case(9, 16, 2)[:5], torch.ones(8), messages_case(9, 16, 2)[6]),
            "spacing must be [9]",
        ),
        (lambda: ops.messages(*messages_case(9, 16, 2)[:6], torch.zeros(9, 2)), "index must be int64"),
        (lambda: ops.neighbour_mean(*mean_case(9, 8, 2, 3)[:2], torch.ones(8, 2)), "weights must be [8, 3]"),
        (lambda: ops.reverse_diffusion(*reverse_case(1, 4, 1)[:-1], "int4"), "precision must be one of"),
    ],
)
def test_wrong_calls_name_op_and_argument(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [9, -1, 2**40])
def test_an_index_out_of_range_is_an_error_before_anything_is_read_by_it(wrong):
    values, index, weights = mean_case(9, 8, 2, 3)
    index[2, 1] = wrong
    heard = list(messages_case(9, 16, 2))
    heard[6][4, 1] = wrong
    back = torch.ops.r3dad.messages_backward
    calls = (
        lambda: ops.neighbour_mean(values, index, weights),
        lambda: ops.messages(*heard),
        lambda: back(torch.ones(9, 32), *heard),
    )
    for call in calls:
        with pytest.raises((IndexError, RuntimeError), match="index"):
            call()


def test_float64_and_non_finite_points_take_the_definition():
    for bad in (torus(50).double(), torus(50).index_fill(1, torch.tensor(3), float("nan"))):
        assert backends.choose("knn", bad, bad, 3)[0] == "torch"
        assert ops.knn(bad, bad, 3)[1].shape == (1, 50, 3)
    with backends.use_backend("cpu"), pytest.raises(backends.BackendError, match="needs float32"):
        ops.knn(torus(9).double(), torus(9).double(), 2)
