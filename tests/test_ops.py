"""Every row of the backend table over every case, and the definitions against float64 loops.

Rule: the error against float64 is at most twice that of plain PyTorch in the same precision, plus a floor. Outputs are filled with NaN
beforehand. A row is skipped only with its own reason; ``R3DAD_REQUIRE=cpu,...`` makes that a failure.
"""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
import torch

from r3dad import backends, ops, philox
from r3dad.ops.cluster_distance import cluster_distance_definition, clusters
from r3dad.ops.concat_squash import concat_squash_backward_definition, concat_squash_definition
from r3dad.ops.encode import encode_definition
from r3dad.ops.knn import knn_definition
from r3dad.ops.messages import messages_backward_definition, messages_definition
from r3dad.ops.neighbour_mean import neighbour_mean_definition
from r3dad.ops.reverse_diffusion import quantised_product, quantised_weight, reverse_diffusion_definition

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


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torus(count: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """[B, N, 3]: points on a surface."""
    u, v = torch.rand(2, batch, count, generator=rng(seed)) * 2 * torch.pi
    return torch.stack([(1 + 0.4 * v.cos()) * u.cos(), (1 + 0.4 * v.cos()) * u.sin(), 0.4 * v.sin()], -1)


def lattice(n: int) -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(float(n))] * 3, indexing="ij")
    return torch.stack(axes, -1).reshape(1, -1, 3)


# ---- cases: op -> name -> arguments ---------------------------------------------------------------------------------------------------


def squash_case(b: int, n: int, k: int, m: int, slope: float = 0.01) -> tuple:
    g = rng(b + n + k + m)
    x, weight, bias = (
        torch.randn(b, n, k, generator=g),
        torch.randn(m, k, generator=g) / k**0.5,
        torch.randn(m, generator=g),
    )
    return x, weight, bias, torch.rand(b, m, generator=g), torch.randn(b, m, generator=g), slope


def squash_backward_case(*sizes: int, slope: float = 0.01) -> tuple:
    x, weight, bias, gate, shift, _ = squash_case(*sizes)
    y = concat_squash_definition(x, weight, bias, gate, shift, slope)
    return torch.randn(y.shape, generator=rng(1)), x, weight, bias, gate, y, slope


def encode_case(batch: int, n: int, widths: tuple[int, ...] = (128, 128, 256, 512, 256, 128, 256)) -> tuple:
    g = rng(n)
    weights = [torch.randn(m, k, generator=g) / k**0.5 for k, m in zip((3, *widths), widths)]
    return torch.randn(batch, n, 3, generator=g), weights, [torch.randn(m, generator=g) for m in widths]


PAPER = (128, 256, 512, 256, 128, 3)


def reverse_case(
    batch: int,
    n: int,
    steps: int,
    widths: tuple[int, ...] = PAPER,
    features: int = 0,
    sigma: float = 0.05,
    precision: str = "float32",
    slope: float = 0.01,
) -> tuple:
    g = rng(n)
    inputs = (3 + features, *widths)
    weights = [torch.randn(m, k, generator=g) / k**0.5 for k, m in zip(inputs, widths)]
    biases = [0.1 * torch.randn(m, generator=g) for m in widths]
    gate_time, shift_time = (torch.randn(steps, sum(widths), generator=g) for _ in range(2))
    gate_shape, shift_shape = (torch.randn(batch, sum(widths), generator=g) for _ in range(2))
    coefficients = torch.tensor([1.01, -0.3, sigma]).repeat(steps, 1)
    seeds = torch.tensor([7 + 2**40 * i for i in range(batch)], dtype=torch.int64)
    condition = torch.randn(batch, n, features, generator=g) if features else None
    tables = (gate_time, gate_shape, 0.1 * shift_time, 0.1 * shift_shape, coefficients)
    return weights, biases, *tables, torch.randn(batch, n, 3, generator=g), seeds, condition, slope, precision


def knn_cases() -> dict[str, tuple]:
    g = rng(5)
    line = torch.cat([torch.rand(1, 300, 1, generator=g), torch.zeros(1, 300, 2)], -1)
    plane = torch.cat([torch.rand(1, 500, 2, generator=g), torch.zeros(1, 500, 1)], -1)
    wide = torch.rand(1, 700, 6, generator=g)[..., ::2]  # not contiguous
    spread = torch.cat([torch.rand(1, 300, 3, generator=g) * 1e-3, torch.rand(1, 90, 3, generator=g) * 50], 1)
    zeros = torch.cat([torus(500), torch.zeros(1, 400, 3)], 1)
    clouds = {
        "surface": (torus(900), 64),
        "batch": (torus(257, 3), 16),
        "one point": (torus(1), 1),
        "all points asked": (torus(70), 70),
        "k 512": (torus(1100), 512),
        "lattice ties": (lattice(9), 27),
        "duplicates": (torus(90).repeat_interleave(4, 1), 13),
        "all equal": (torch.ones(1, 700, 3), 65),
        "many at the origin": (zeros, 33),
        "line": (line, 20),
        "plane": (plane, 20),
        "clusters and strays": (spread, 40),
        "far from the origin": (torus(400) + 1e6, 31),
        "tiny": (torus(300) * 1e-6, 8),
        "huge": (torus(300) * 1e6, 8),
        "overflow": (torus(200) * 1e25, 5),
        "not contiguous": (wide, 16),
    }
    cases = {name: (cloud, cloud, k) for name, (cloud, k) in clouds.items()}
    # The last neighbour is one of two at the same distance, and no other two are.
    for name, sides in (("smaller index first", [10.0, -10.0]), ("smaller index last", [-10.0, 10.0])):
        along = torch.tensor([*range(1, 10), *sides, *range(20, 400)], dtype=torch.float32)
        ends = torch.stack([along, torch.zeros_like(along), torch.zeros_like(along)], -1)[None]
        cases[f"tie at the end, {name}"] = (torch.zeros(1, 1, 3), ends.flip(1), 10)
        cases[f"tie at the end, {name}, many queries"] = (torch.zeros(1, 100, 3), ends, 10)
    cases["other queries"] = (torch.rand(2, 333, 3, generator=g) * 3 - 1.5, torus(800, 2), 16)
    cases["few queries"] = (torch.rand(2, 5, 3, generator=g), torus(800, 2), 100)
    cases["more queries than points"] = (torch.rand(1, 900, 3, generator=g), torus(130), 7)
    cases["no cloud"] = (torch.zeros(0, 5, 3), torch.zeros(0, 9, 3), 4)
    cases["no query"] = (torch.zeros(2, 0, 3), torch.zeros(2, 9, 3), 4)
    return cases


def cluster_cases() -> dict[str, tuple]:
    surface = torus(600, 2)
    moved = surface + 0.01 * torch.randn(surface.shape, generator=rng(3))
    # Rows of far neighbours say little by their means: the products find the nearest row.
    noise = torch.randn(1, 400, 3, generator=rng(4))
    return {
        "surface": (surface, moved, 64),
        "other size": (torus(500), torus(333, seed=1), 16),
        "k 1": (torus(200), torus(150, seed=2), 1),
        "k 300": (noise, torch.randn(1, 350, 3, generator=rng(6)), 300),
        "same": (surface, surface, 32),
        "all equal": (torch.ones(1, 200, 3), torch.ones(1, 170, 3), 64),
        "far from the origin": (torus(300) + 1e6, torus(300, seed=1) + 1e6, 32),
        "tiny": (torus(200) * 1e-6, torus(200, seed=1) * 1e-6, 20),
        "huge": (torus(200) * 1e6, torus(200, seed=1) * 1e6, 20),
        "one point": (torus(1), torus(1, seed=1), 1),
        "not contiguous": (torch.rand(1, 300, 6, generator=rng(7))[..., ::2], torus(200), 9),
        "no cloud": (torch.zeros(0, 5, 3), torch.zeros(0, 6, 3), 2),
    }


def messages_case(n: int, width: int, k: int, stride: int = 1) -> tuple:
    """Every ``stride``-th neighbour; itself first."""
    g = rng(n + width + k)
    theirs, own = torch.randn(2, n, width, generator=g) * 2
    points = torus(n)[0] if n else torch.zeros(0, 3)
    normals = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    near = knn_definition(points[None], points[None], k * stride)[1][0] if n else torch.zeros(0, k, dtype=torch.int64)
    spacing = 0.05 + 0.1 * torch.rand(n, generator=g)
    return theirs, own, torch.randn(width, 4, generator=g), points, normals, spacing, near[:, ::stride]


def heard_case(args: tuple) -> tuple:
    """With a gradient of the result before them."""
    n, width = args[0].shape
    return torch.randn(n, 2 * width, generator=rng(n)), *args


def mean_case(values: int, points: int, columns: int, k: int, stride: int = 1) -> tuple:
    g = rng(points + columns + k)
    index = torch.randint(values, (points, k), generator=g)
    return (
        torch.randn(values, columns, generator=g),
        index[:, ::stride],
        torch.rand(points, k, generator=g)[:, ::stride],
    )


def with_strides(args: tuple) -> tuple:
    """The same values, no tensor contiguous."""
    return tuple(
        [with_strides((x,))[0] for x in a]
        if isinstance(a, list)
        else torch.stack([a, a], -1)[..., 0]
        if isinstance(a, torch.Tensor)
        else a
        for a in args
    )


CASES: dict[str, dict[str, tuple]] = {
    "concat_squash": {
        "first layer": squash_case(2, 37, 3, 128),
        "whole tiles": squash_case(1, 224, 128, 256),
        "last layer": squash_case(3, 130, 128, 3, 1.0),
        "one point": squash_case(1, 1, 5, 7, 0.0),
        "odd": squash_case(2, 113, 63, 100, 0.3),
        "wide": squash_case(1, 30, 1100, 40),
        "no cloud": squash_case(0, 4, 3, 5),
        "no point": squash_case(2, 0, 3, 5),
        "not contiguous": with_strides(squash_case(2, 50, 16, 24)),
    },
    "concat_squash_backward": {
        "first layer": squash_backward_case(2, 37, 3, 128),
        "whole tiles": squash_backward_case(9, 256, 128, 64),
        "last layer": squash_backward_case(3, 130, 128, 3, slope=1.0),
        "one point": squash_backward_case(1, 1, 5, 7, slope=0.0),
        "odd": squash_backward_case(2, 311, 63, 100, slope=0.3),
        "no cloud": squash_backward_case(0, 4, 3, 5),
        "no point": squash_backward_case(2, 0, 3, 5),
        "not contiguous": with_strides(squash_backward_case(2, 50, 16, 24)),
    },
    "encode": {
        "paper": encode_case(2, 200),
        "one point": encode_case(1, 1),
        "many clouds": encode_case(130, 13),
        "odd": encode_case(3, 130, (33, 20, 70, 5, 9)),
        "large": encode_case(1, 5000, (16, 16, 32, 64, 8)),
        "no cloud": encode_case(0, 5),
        "not contiguous": with_strides(encode_case(2, 50, (16, 16, 32, 64, 8))),
    },
    "reverse_diffusion": {
        f"{name} {precision}": reverse_case(*sizes, precision=precision, **options)
        for precision in ("float32", "bfloat16", "int8")
        for name, (sizes, options) in {
            "paper": ((1, 64, 5), {}),
            "condition": ((2, 57, 3), {"features": 36}),
            "deterministic": ((1, 20, 4), {"sigma": 0.0}),
            "two layers": ((2, 5, 2), {"widths": (32, 3)}),
            "odd widths": ((3, 29, 3), {"widths": (130, 7, 33, 3), "features": 1}),
            "wide": ((1, 31, 2), {"widths": (600, 1100, 40, 3), "features": 300}),
            "one point": ((1, 1, 3), {"widths": (48, 20, 3), "slope": 0.0}),
            "no step": ((1, 10, 0), {}),
            "no cloud": ((0, 5, 2), {"widths": (16, 3)}),
            "no point": ((2, 0, 2), {"widths": (16, 3)}),
        }.items()
    }
    | {"not contiguous": with_strides(reverse_case(2, 50, 2, (16, 24, 3), features=3))},
    "knn": knn_cases(),
    "cluster_distance": cluster_cases(),
    "messages": {
        "scorer": messages_case(700, 40, 16),
        "every second of 32": messages_case(300, 40, 16, 2),
        "whole registers": messages_case(100, 64, 16),
        "odd": messages_case(77, 53, 7),
        "one register": messages_case(50, 16, 1),
        "many neighbours": messages_case(90, 33, 64),
        "one point": messages_case(1, 20, 1),
        "no point": messages_case(0, 40, 16),
        "not contiguous": with_strides(messages_case(60, 24, 9)),
        "far apart": (*messages_case(60, 24, 9)[:5], torch.full((60,), 1e-4), messages_case(60, 24, 9)[6]),
        "large": tuple(50 * t if i < 2 else t for i, t in enumerate(messages_case(60, 24, 9))),
    },
    "messages_backward": {
        "scorer": heard_case(messages_case(700, 40, 16)),
        "every second of 32": heard_case(messages_case(300, 40, 16, 2)),
        "whole registers": heard_case(messages_case(100, 64, 16)),
        "odd": heard_case(messages_case(77, 53, 7)),
        "one register": heard_case(messages_case(50, 16, 1)),
        "many neighbours": heard_case(messages_case(90, 33, 64)),
        "one point": heard_case(messages_case(1, 20, 1)),
        "no point": heard_case(messages_case(0, 40, 16)),
        "not contiguous": with_strides(heard_case(messages_case(60, 24, 9))),
        "large": heard_case(tuple(50 * t if i < 2 else t for i, t in enumerate(messages_case(60, 24, 9)))),
        "neighbours that say the same": heard_case(
            (*messages_case(60, 24, 9)[:6], torch.arange(60)[:, None].repeat(1, 9))
        ),
    },
    "neighbour_mean": {
        "ten columns": mean_case(900, 700, 10, 32),
        "every second": mean_case(300, 300, 6, 32, 2),
        "many columns": mean_case(100, 50, 70, 5),
        "one": mean_case(1, 1, 1, 1),
        "no point": mean_case(5, 0, 3, 4),
        "no weight": (*mean_case(50, 40, 3, 4)[:2], torch.zeros(40, 4)),
        "not contiguous": with_strides(mean_case(60, 50, 3, 4)),
    },
}


def mapped(args, change):
    """``change`` on every tensor."""
    if isinstance(args, (list, tuple)):
        return type(args)(mapped(a, change) for a in args)
    return change(args) if isinstance(args, torch.Tensor) else args


def double(args):
    """In float64 throughout."""
    args = tuple(
        "float32" if isinstance(a, str) else a for a in args
    )  # the precision of products: none lower than the rest
    return mapped(args, lambda t: t.double() if t.is_floating_point() else t)


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


# ---- definitions against loops --------------------------------------------------------------------------------------------------------


def test_knn_definition_equals_a_loop():
    query, reference = torus(20).double(), lattice(4).double()
    distances, indices = knn_definition(query, reference, 9)
    for i, q in enumerate(query[0].numpy()):
        squared = ((reference[0].numpy() - q) ** 2).sum(1)
        order = np.lexsort((np.arange(len(squared)), squared))[:9]
        assert indices[0, i].tolist() == order.tolist()
        assert np.allclose(distances[0, i], squared[order])


def test_cluster_distance_definition_equals_a_loop():
    points, other, k = torus(30).double(), torus(25, seed=1).double(), 4

    def rows(cloud):
        out = []
        for p in cloud:
            order = np.argsort(((cloud - p) ** 2).sum(1), kind="stable")[:k]
            out.append(cloud[order].ravel())
        return np.array(out)

    q, r = rows(points[0].numpy()), rows(other[0].numpy())
    wanted = [min(((a - b) ** 2).sum() for b in r) for a in q]
    assert np.allclose(cluster_distance_definition(points, other, k)[0], wanted)


def test_concat_squash_definition_equals_a_loop():
    x, weight, bias, gate, shift, slope = double(squash_case(2, 3, 4, 5, 0.1))
    got = concat_squash_definition(x, weight, bias, gate, shift, slope)
    for b in range(2):
        for n in range(3):
            for m in range(5):
                y = (float(weight[m] @ x[b, n]) + bias[m]) * gate[b, m] + shift[b, m]
                assert got[b, n, m] == pytest.approx(float(y if y > 0 else slope * y))


def test_encode_definition_equals_a_loop():
    points, weights, biases = double(encode_case(2, 7, (5, 6, 7, 8, 4, 3)))
    got = encode_definition(points, weights, biases)
    for b in range(2):
        best = np.full(8, -np.inf)
        for p in points[b].numpy():
            h = p
            for layer in range(4):
                h = weights[layer].numpy() @ h + biases[layer].numpy()
                h = np.maximum(h, 0) if layer < 3 else h
            best = np.maximum(best, h)
        h = np.maximum(weights[4].numpy() @ best + biases[4].numpy(), 0)
        assert np.allclose(got[b], weights[5].numpy() @ h + biases[5].numpy())


def test_messages_definition_equals_a_loop():
    theirs, own, edge, points, normals, spacing, index = double(messages_case(12, 5, 3))
    got = messages_definition(theirs, own, edge, points, normals, spacing, index)
    for i in range(12):
        said = []
        for j in index[i].tolist():
            offset = ((points[j] - points[i]) / spacing[i]).numpy()
            along = offset @ normals[i].numpy()
            across = np.linalg.norm(offset - along * normals[i].numpy())
            e = np.clip([across, along, abs(along), float(normals[i] @ normals[j])], -6, 6)
            x = theirs[j].numpy() + own[i].numpy() + edge.numpy() @ e
            said.append(x / (1 + np.exp(-x)))
        assert np.allclose(got[i], np.concatenate([np.mean(said, 0), np.max(said, 0)]), atol=1e-6)


def test_neighbour_mean_definition_equals_a_loop():
    values, index, weights = double(mean_case(20, 9, 3, 4))
    weights[3] = 0
    got = neighbour_mean_definition(values, index, weights)
    for i in range(9):
        total = sum(w * values[j] for w, j in zip(weights[i], index[i]))
        assert torch.allclose(got[i], total / max(float(weights[i].sum()), 1e-6))


def test_bytes_lose_at_most_half_a_step_per_factor():
    g = torch.Generator().manual_seed(3)
    h, weight = torch.randn(40, 33, generator=g).double(), torch.randn(20, 33, generator=g).double()
    h[0], weight[0] = 0, 0
    integers, scale = quantised_weight(weight)
    assert integers.abs().max() == 127 and torch.equal(integers, integers.round())
    assert ((integers * scale[:, None] - weight).abs() <= 0.5001 * scale[:, None]).all()
    step = (h.amax(1).clamp_min(0) - h.amin(1).clamp_max(0)) / 255
    bound = h.abs() @ (0.5 * scale)[:, None].expand(20, 33).T + 0.5 * step[:, None] * (
        integers.abs() * scale[:, None]
    ).sum(1)
    assert ((quantised_product(h, integers, scale) - h @ weight.T).abs() <= 1.001 * bound).all()


def test_reverse_diffusion_definition_equals_a_loop():
    args = double(reverse_case(2, 4, 3, (6, 5, 3), features=2))
    weights, biases, gate_time, gate_shape, shift_time, shift_shape, coefficients, start, seeds, condition, slope, _ = (
        args
    )
    got = reverse_diffusion_definition(*args)
    for b in range(2):
        for n in range(4):
            x = start[b, n].numpy()
            for s, (ca, cb, sigma) in enumerate(coefficients.tolist()):
                h, at = np.concatenate([x, condition[b, n].numpy()]), 0
                for layer, (weight, bias) in enumerate(zip(weights, biases)):
                    part = slice(at, at + len(bias))
                    gate = 1 / (1 + np.exp(-(gate_time[s, part] + gate_shape[b, part]).numpy()))
                    h = (weight.numpy() @ h + bias.numpy()) * gate + (
                        shift_time[s, part] + shift_shape[b, part]
                    ).numpy()
                    h = np.where((h > 0) | (layer == 2), h, slope * h)
                    at += len(bias)
                x = ca * x + cb * (x + h) + sigma * philox.normal(seeds, 4, s + 1)[b, n].double().numpy()
            assert np.allclose(got[b, n], x, atol=1e-12)


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
