"""The operations on the CPU through ``r3dad._cpu``: checks, outputs, and pointers handed over.

Results depend neither on the number of threads (``torch.get_num_threads()``) nor on the order of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from r3dad import _cpu

_MAX_K = 512
_MAX_HEARD = 64
_PRECISIONS = ("float32", "bfloat16", "int8")  # in the order of csrc/cpu/kernels.h


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    flat = (x for arg in args for x in (arg if isinstance(arg, (list, tuple)) else (arg,)))
    return [x for x in flat if isinstance(x, Tensor)]


def _finite(*tensors: Tensor) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)


def _knn_limits(query: Tensor, reference: Tensor, k: int) -> str | None:
    if k > _MAX_K:
        return f"k={k} > {_MAX_K}"
    if max(query.shape[1], reference.shape[1]) >= 2**31:
        return "more than 2^31 points"
    return None if _finite(query, reference) else "points are not all finite"


def _slope_limits(negative_slope: float) -> str | None:
    return f"negative_slope={negative_slope} > 1" if negative_slope > 1 else None


def _message_limits(theirs: Tensor, *args: Tensor) -> str | None:
    if theirs.shape[1] < _cpu.lanes() or args[-1].shape[1] > _MAX_HEARD:
        return f"needs at least {_cpu.lanes()} channels and at most {_MAX_HEARD} neighbours"
    return None


_LIMITS: dict[str, Callable[..., str | None]] = {
    "knn": _knn_limits,
    "knn_tree": lambda points, *_: None if _finite(points) else "points are not all finite",
    "cluster_distance": _knn_limits,
    "encode": lambda points, *_: None if _finite(points) else "points are not all finite",
    "concat_squash": lambda *args: _slope_limits(args[5]),
    "concat_squash_backward": lambda *args: None,
    "reverse_diffusion": lambda *args: _slope_limits(args[10]),
    "messages": _message_limits,
    "messages_backward": lambda grad, *args: _message_limits(*args),
    "neighbour_mean": lambda *args: None,
}


def why_not(op: str, *args: Any) -> str | None:
    """Why the CPU kernels cannot take these arguments, in words; None when they can."""
    for tensor in _tensors(args):
        if tensor.device.type != "cpu":
            return f"needs tensors on the CPU, got {tensor.device}"
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            return f"needs float32, got {tensor.dtype}"
        if tensor.layout != torch.strided:
            return f"needs dense tensors, got {tensor.layout}"
    return _LIMITS[op](*args)


def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See :func:`r3dad.ops.knn`; bit for bit equal to its definition."""
    same = query.data_ptr() == reference.data_ptr() and query.stride() == reference.stride()
    reference = reference.contiguous()
    query = reference if same and query.shape == reference.shape else query.contiguous()
    batch, queries, _ = query.shape
    distances = query.new_empty((batch, queries, k))
    indices = query.new_empty((batch, queries, k), dtype=torch.int64)
    _cpu.knn(
        *(query.data_ptr(), reference.data_ptr(), batch, queries, reference.shape[1], k),
        *(distances.data_ptr(), indices.data_ptr(), torch.get_num_threads()),
    )
    return distances, indices


class KnnTree:
    """The tree of a cloud [R, 3] that many searches share."""

    def __init__(self, points: Tensor, like: KnnTree | None = None) -> None:
        """points: finite; like: of the same points in other places, whose order is kept."""
        points = points.contiguous()
        self._count = len(points)
        if isinstance(like, KnnTree):
            self._tree = like._tree.moved(points.data_ptr())
        else:
            self._tree = _cpu.KnnTree(points.data_ptr(), len(points), torch.get_num_threads())

    def knn(self, query: Tensor | KnnTree, k: int) -> tuple[Tensor, Tensor]:
        """As :func:`knn` of one cloud, for a query [Q, 3], float32, or another tree's points, 1 <= k <= min(R, 512): both [Q, k].

        Raises:
            ValueError: a query that is not finite.
        """
        count = query._count if isinstance(query, KnnTree) else len(query)
        distances, indices = torch.empty(count, k), torch.empty(count, k, dtype=torch.int64)
        out = (k, distances.data_ptr(), indices.data_ptr(), torch.get_num_threads())
        if isinstance(query, KnnTree):
            self._tree.knn_of(query._tree, *out)
        else:
            if not _finite(query):
                raise ValueError("knn: query points must be finite")
            query = query.contiguous()
            self._tree.knn(query.data_ptr(), count, *out)
        return distances, indices


def knn_tree(points: Tensor, like: KnnTree | None = None) -> KnnTree:
    """See :class:`r3dad.nearest.ScipyTree`."""
    return KnnTree(points, like)


def cluster_distance(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    """See :func:`r3dad.ops.cluster_distance`."""
    points, reconstruction = points.contiguous(), reconstruction.contiguous()
    batch, n, _ = points.shape
    distances = points.new_empty((batch, n))
    _cpu.cluster_distance(
        *(points.data_ptr(), reconstruction.data_ptr(), batch, n, reconstruction.shape[1], k),
        *(distances.data_ptr(), torch.get_num_threads()),
    )
    return distances


def nearest_row(query: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """For rows of clusters [B, Q, 3k] and [B, R, 3k], float32 and finite: squared distance to the nearest row and its index, [B, Q]."""
    query, reference = query.contiguous(), reference.contiguous()
    batch, queries, width = query.shape
    distances = query.new_empty((batch, queries))
    indices = query.new_empty((batch, queries), dtype=torch.int64)
    _cpu.nearest_row(
        *(query.data_ptr(), reference.data_ptr(), batch, queries, reference.shape[1], width // 3),
        *(distances.data_ptr(), indices.data_ptr(), torch.get_num_threads()),
    )
    return distances, indices


def messages(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Tensor:
    """See :func:`r3dad.ops.messages`; nothing per neighbour is stored."""
    # Kept in a list: a contiguous copy must outlive the call.
    held = [t.contiguous() for t in (theirs, own, edge.T, points, normals, spacing)]
    n, width = own.shape
    out = own.new_empty((n, 2 * width))
    _cpu.messages(
        *(*(t.data_ptr() for t in held), index.data_ptr(), *index.stride(), n, width, index.shape[1]),
        *(out.data_ptr(), torch.get_num_threads()),
    )
    return out


def messages_backward(
    grad: Tensor,
    theirs: Tensor,
    own: Tensor,
    edge: Tensor,
    points: Tensor,
    normals: Tensor,
    spacing: Tensor,
    index: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`r3dad.ops.messages.messages_backward_definition`; the messages are made again, on one thread."""
    held = [t.contiguous() for t in (grad, theirs, own, edge.T, points, normals, spacing)]
    n, width = own.shape
    out = own.new_zeros((n, width)), own.new_zeros((n, width)), own.new_zeros((edge.shape[1], width))
    _cpu.messages_backward(
        *(*(t.data_ptr() for t in held), index.data_ptr(), *index.stride(), n, width, index.shape[1]),
        *(t.data_ptr() for t in out),
    )
    return out[0], out[1], out[2].T.contiguous()


def neighbour_mean(values: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """See :func:`r3dad.ops.neighbour_mean`."""
    n, columns = values.shape
    # Whole registers of columns.
    padded = torch.nn.functional.pad(values, (0, -columns % _cpu.lanes())).contiguous()
    out = values.new_empty((len(index), columns))
    _cpu.neighbour_mean(
        *(
            padded.data_ptr(),
            n,
            padded.shape[1],
            columns,
            index.data_ptr(),
            *index.stride(),
            weights.data_ptr(),
            *weights.stride(),
        ),
        *(len(index), index.shape[1], out.data_ptr(), torch.get_num_threads()),
    )
    return out


_POINTWISE = 4  # layers of the encoder before the maximum over points


def encode(points: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """See :func:`r3dad.ops.encode`; the widest activation exists for a tile of points only."""
    points = points.contiguous()
    weights, biases = [w.contiguous() for w in weights], [b.contiguous() for b in biases]
    out = points.new_empty((points.shape[0], weights[-1].shape[0]))
    _cpu.encode(
        *(points.data_ptr(), points.shape[0], points.shape[1], _POINTWISE, [3, *(w.shape[0] for w in weights)]),
        *([w.data_ptr() for w in weights], [b.data_ptr() for b in biases], out.data_ptr(), torch.get_num_threads()),
    )
    return out


def concat_squash(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor, negative_slope: float
) -> Tensor:
    """See :func:`r3dad.ops.concat_squash`."""
    x, weight, bias, gate, shift = (t.contiguous() for t in (x, weight, bias, gate, shift))
    batch, points, width = x.shape
    y = x.new_empty((batch, points, weight.shape[0]))
    _cpu.concat_squash(
        *(x.data_ptr(), weight.data_ptr(), bias.data_ptr(), gate.data_ptr(), shift.data_ptr(), negative_slope),
        *(batch, points, width, weight.shape[0], y.data_ptr(), torch.get_num_threads()),
    )
    return y


def concat_squash_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, output: Tensor, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias, gate, shift; see :mod:`r3dad.ops.concat_squash`."""
    grad, x, weight, bias, gate, output = (t.contiguous() for t in (grad, x, weight, bias, gate, output))
    batch, points, width = x.shape
    out = tuple(torch.empty_like(t) for t in (x, weight, bias, gate, gate))
    _cpu.concat_squash_backward(
        *(t.data_ptr() for t in (grad, x, weight, bias, gate, output)),
        *(negative_slope, batch, points, width, weight.shape[0]),
        *(*(t.data_ptr() for t in out), torch.get_num_threads()),
    )
    return out  # type: ignore[return-value]


def reverse_diffusion(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate_time: Tensor,
    gate_shape: Tensor,
    shift_time: Tensor,
    shift_shape: Tensor,
    coefficients: Tensor,
    start: Tensor,
    seeds: Tensor,
    condition: Tensor | None,
    negative_slope: float,
    precision: str,
) -> Tensor:
    """See :func:`r3dad.ops.reverse_diffusion`.

    ``bfloat16`` products need AVX512-BF16, ``int8`` ones AVX512-VNNI; elsewhere they are float32, which is closer.
    """
    batch, points, _ = start.shape
    # Kept in a list: a contiguous copy must outlive the call.
    held = [
        t.contiguous()
        for t in (*weights, *biases, gate_time, shift_time, coefficients, start, gate_shape, shift_shape, seeds)
    ]
    condition = None if condition is None or condition.shape[2] == 0 else condition.contiguous()
    out = torch.empty_like(held[2 * len(weights) + 3])
    address = [t.data_ptr() for t in held]
    layers = len(weights)
    gate_time_at, shift_time_at, coefficients_at, *shape_at = address[2 * layers :]
    start_at, gate_shape_at, shift_shape_at, seeds_at = shape_at
    _cpu.reverse_diffusion(
        *(address[:layers], address[layers : 2 * layers], [weights[0].shape[1], *(w.shape[0] for w in weights)]),
        *(coefficients.shape[0], gate_time_at, shift_time_at, coefficients_at, negative_slope, batch, points),
        *(start_at, 0 if condition is None else condition.data_ptr(), gate_shape_at, shift_shape_at, seeds_at),
        *(_PRECISIONS.index(precision), out.data_ptr(), torch.get_num_threads()),
    )
    return out
