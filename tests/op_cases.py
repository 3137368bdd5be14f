"""Arguments of every operation for the tests: op -> name -> arguments, at the paper's sizes and at odd ones."""

import torch

from r3dad.ops.concat_squash import concat_squash_definition
from r3dad.ops.knn import knn_definition


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torus(count: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """[B, N, 3]: points on a surface."""
    u, v = torch.rand(2, batch, count, generator=rng(seed)) * 2 * torch.pi
    return torch.stack([(1 + 0.4 * v.cos()) * u.cos(), (1 + 0.4 * v.cos()) * u.sin(), 0.4 * v.sin()], -1)


def lattice(n: int) -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(float(n))] * 3, indexing="ij")
    return torch.stack(axes, -1).reshape(1, -1, 3)


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
