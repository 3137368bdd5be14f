"""k nearest neighbours and the distance of clusters in Triton, both exact.

knn: two kernels. ``knn_candidates`` walks over the reference twice: first it keeps the minimum of GROUPS groups of points, whose k-th
smallest bounds the k-th neighbour from above; then it notes every point within the bound, some k of them. ``knn_select`` sorts the
noted ones by distance, then index, as one 64-bit key (a squared distance is not negative, so its bits are ordered as it is). A query
with more candidates than there is room for (exact ties, lattices) is sorted chunk by chunk instead. Distances are computed without
fused multiply-adds, in the definition's order.

cluster_distance: ``cluster_shortlist`` multiplies rows of clusters (tf32 in three parts, near float32) and keeps, per query and column
class (reference index modulo REFERENCES), the nearest and the distance of the second nearest; ``cluster_rescore`` computes by direct
difference every candidate that the rounding of the product leaves in question, and a whole cloud when a class held two of them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r3dad.kernels import configurations
from r3dad.kernels.configurations import padded

_MOST = 128  # neighbours; keys of a query are sorted in registers
_ROUNDING = (
    2.0**-14
)  # of a squared distance by the product, per squared norm: 192 terms, truncating accumulation, on both of a pair


@triton.jit
def _squared(q0, q1, q2, reference_ptr, at, inside):
    """Squared distances [QUERIES, len(at)], in the order of the definition; far where there is no point."""
    d0 = q0[:, None] - tl.load(reference_ptr + at * 3, mask=inside, other=0.0)[None, :]
    d1 = q1[:, None] - tl.load(reference_ptr + at * 3 + 1, mask=inside, other=0.0)[None, :]
    d2 = q2[:, None] - tl.load(reference_ptr + at * 3 + 2, mask=inside, other=0.0)[None, :]
    return tl.where(inside[None, :], d0 * d0 + d1 * d1 + d2 * d2, float("inf"))


@triton.jit
def _key(distance, index):
    """Ordered as (distance, index)."""
    return (distance.to(tl.int32, bitcast=True).to(tl.int64) << 32) | index.to(tl.int64)


# One compilation for all sizes of clouds and batches.
@triton.jit(do_not_specialize=["Q", "R"])
def knn_candidates(
    query_ptr, reference_ptr, keys_ptr, counts_ptr, Q, R, K: tl.constexpr,
    QUERIES: tl.constexpr, GROUPS: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """keys [B, Q, ROOM] int64, in no order, and how many there would be, counts [B, Q] int32."""
    tiles = tl.cdiv(Q, QUERIES)
    cloud = (tl.program_id(0) // tiles).to(tl.int64)
    query = (tl.program_id(0) % tiles) * QUERIES + tl.arange(0, QUERIES)
    real = query < Q
    row = cloud * Q + query
    q0 = tl.load(query_ptr + row * 3, mask=real, other=0.0)
    q1 = tl.load(query_ptr + row * 3 + 1, mask=real, other=0.0)
    q2 = tl.load(query_ptr + row * 3 + 2, mask=real, other=0.0)
    reference = reference_ptr + cloud * R * 3
    group = tl.arange(0, GROUPS)
    nearest = tl.full((QUERIES, GROUPS), float("inf"), tl.float32)
    for first in range(0, R, GROUPS):
        at = first + group
        nearest = tl.minimum(nearest, _squared(q0, q1, q2, reference, at, at < R))
    bound = tl.sum(tl.where(group[None, :] == K - 1, tl.sort(nearest, 1), 0.0), 1)
    count = tl.zeros((QUERIES,), tl.int32)
    for first in range(0, R, GROUPS):
        at = first + group
        distance = _squared(q0, q1, q2, reference, at, at < R)
        taken = ((distance <= bound[:, None]) & (at < R)[None, :]).to(tl.int32)
        place = count[:, None] + tl.cumsum(taken, 1) - 1
        to = keys_ptr + row[:, None] * ROOM + place
        tl.store(to, _key(distance, at[None, :]), mask=(taken > 0) & (place < ROOM) & real[:, None])
        count += tl.sum(taken, 1)
    tl.store(counts_ptr + row, count, mask=real)


@triton.jit(do_not_specialize=["Q", "R"])
def knn_select(
    query_ptr, reference_ptr, keys_ptr, counts_ptr, distances_ptr, indices_ptr, Q, R, K: tl.constexpr,
    QUERIES: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """distances [B, Q, K] and indices [B, Q, K] int64, ascending."""
    FAR: tl.constexpr = 0x7FFFFFFFFFFFFFFF
    tiles = tl.cdiv(Q, QUERIES)
    cloud = (tl.program_id(0) // tiles).to(tl.int64)
    query = (tl.program_id(0) % tiles) * QUERIES + tl.arange(0, QUERIES)
    real = query < Q
    row = cloud * Q + query
    column = tl.arange(0, ROOM)
    count = tl.load(counts_ptr + row, mask=real, other=0)
    noted = column[None, :] < tl.minimum(count, ROOM)[:, None]
    keys = tl.sort(tl.load(keys_ptr + row[:, None] * ROOM + column[None, :], mask=noted, other=FAR), 1)
    if tl.max(count, 0) > ROOM:
        q0 = tl.load(query_ptr + row * 3, mask=real, other=0.0)
        q1 = tl.load(query_ptr + row * 3 + 1, mask=real, other=0.0)
        q2 = tl.load(query_ptr + row * 3 + 2, mask=real, other=0.0)
        HALF: tl.constexpr = ROOM // 2  # at least K: the first half holds the best so far
        keys = tl.full((QUERIES, ROOM), FAR, tl.int64)
        for first in range(0, R, HALF):
            at = first + column - HALF
            new = (column >= HALF) & (at < R)
            distance = _squared(q0, q1, q2, reference_ptr + cloud * R * 3, at, new)
            keys = tl.where((column < HALF)[None, :], keys, tl.where(new[None, :], _key(distance, at[None, :]), FAR))
            keys = tl.sort(keys, 1)
    to = row[:, None] * K + column[None, :]
    wanted = real[:, None] & (column < K)[None, :]
    tl.store(distances_ptr + to, (keys >> 32).to(tl.int32).to(tl.float32, bitcast=True), mask=wanted)
    tl.store(indices_ptr + to, keys & 0xFFFFFFFF, mask=wanted)


@configurations.on_device
def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``knn_definition``, for finite coordinates."""
    query, reference = query.contiguous(), reference.contiguous()
    (batch, queries, _), points = query.shape, reference.shape[1]
    distances = torch.empty((batch, queries, k), dtype=query.dtype, device=query.device)
    indices = torch.empty((batch, queries, k), dtype=torch.int64, device=query.device)
    if batch * queries == 0:
        return distances, indices
    wide = padded(k)
    room, groups = 2 * wide, 4 * wide
    keys = torch.empty((batch, queries, room), dtype=torch.int64, device=query.device)
    counts = torch.empty((batch, queries), dtype=torch.int32, device=query.device)
    config = configurations.choose("knn_candidates", "float32", query.device)
    # A fused multiply-add would round differently from the definition, and exact ties would fall apart.
    options = {"num_warps": config.warps, "num_stages": config.stages, "enable_fp_fusion": False}
    knn_candidates[(batch * triton.cdiv(queries, config.sizes["QUERIES"]),)](
        query, reference, keys, counts, queries, points, k, **config.sizes, GROUPS=groups, ROOM=room, **options
    )
    config = configurations.choose("knn_select", "float32", query.device)
    options |= {"num_warps": config.warps, "num_stages": config.stages}
    knn_select[(batch * triton.cdiv(queries, config.sizes["QUERIES"]),)](
        query, reference, keys, counts, distances, indices, queries, points, k, **config.sizes, ROOM=room, **options
    )
    return distances, indices


@triton.jit(do_not_specialize=["N", "R"])
def cluster_shortlist(
    query_ptr, reference_ptr, norms_ptr, distance_ptr, index_ptr, second_ptr, N, R, WIDTH: tl.constexpr,
    QUERIES: tl.constexpr, REFERENCES: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """query [B, N, WIDTH], reference [B, R, WIDTH], norms [B, R] squared, of the reference. Per query and column class, [B, N, REFERENCES]:
    the smallest |r|^2 - 2 q r, its index, and the second smallest."""
    tiles = tl.cdiv(N, QUERIES)
    cloud = (tl.program_id(0) // tiles).to(tl.int64)
    query = (tl.program_id(0) % tiles) * QUERIES + tl.arange(0, QUERIES)
    real = query < N
    row = cloud * N + query
    column = tl.arange(0, REFERENCES)
    best = tl.full((QUERIES, REFERENCES), 3.0e38, tl.float32)
    second = best
    index = tl.zeros((QUERIES, REFERENCES), tl.int32)
    for first in range(0, R, REFERENCES):
        at = first + column
        other = cloud * R + at
        product = tl.zeros((QUERIES, REFERENCES), tl.float32)
        for k in range(0, WIDTH, IN):
            i = k + tl.arange(0, IN)
            q = tl.load(query_ptr + row[:, None] * WIDTH + i[None, :], mask=real[:, None], other=0.0)
            r = tl.load(reference_ptr + other[None, :] * WIDTH + i[:, None], mask=(at < R)[None, :], other=0.0)
            product = tl.dot(q, r, product, input_precision="tf32x3")
        norm = tl.load(norms_ptr + other, mask=at < R, other=3.0e38)
        distance = norm[None, :] - 2.0 * product
        second = tl.minimum(second, tl.maximum(best, distance))
        index = tl.where(distance < best, at[None, :], index)
        best = tl.minimum(best, distance)
    to = row[:, None] * REFERENCES + column[None, :]
    tl.store(distance_ptr + to, best, mask=real[:, None])
    tl.store(index_ptr + to, index, mask=real[:, None])
    tl.store(second_ptr + to, second, mask=real[:, None])


@triton.jit
def _direct(query, reference, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    d = tl.load(query + i, mask=i < WIDTH, other=0.0) - tl.load(reference + i, mask=i < WIDTH, other=0.0)
    return tl.sum(d * d, 0)


@triton.jit(do_not_specialize=["N", "R"])
def cluster_rescore(
    query_ptr, reference_ptr, slack_ptr, distance_ptr, index_ptr, second_ptr, out_ptr, N, R,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, REFERENCES: tl.constexpr,
):  # fmt: skip
    """One query a program; slack [B, N]: by how much two of its products may be in the wrong order. out [B, N]."""
    row = tl.program_id(0).to(tl.int64)
    cloud = row // N
    query = query_ptr + row * WIDTH
    reference = reference_ptr + cloud * R * WIDTH
    column = tl.arange(0, REFERENCES)
    distance = tl.load(distance_ptr + row * REFERENCES + column)
    second = tl.load(second_ptr + row * REFERENCES + column)
    index = tl.load(index_ptr + row * REFERENCES + column)
    limit = tl.min(distance, 0) + tl.load(slack_ptr + row)
    result = float("inf")
    if tl.min(second, 0) <= limit:
        r = 0
        while r < R:
            result = tl.minimum(result, _direct(query, reference + tl.cast(r, tl.int64) * WIDTH, WIDTH, BLOCK))
            r += 1
    else:
        left = tl.sum((distance <= limit).to(tl.int32), 0)
        while left > 0:
            at = tl.min(tl.where(distance <= limit, index, 0x7FFFFFFF), 0)
            result = tl.minimum(result, _direct(query, reference + at.to(tl.int64) * WIDTH, WIDTH, BLOCK))
            distance = tl.where(index == at, 3.0e38, distance)
            left -= 1
    tl.store(out_ptr + row, result)


def _clusters(points: Tensor, centre: Tensor, k: int, width: int) -> Tensor:
    """[B, N, width]: the coordinates of each point's k nearest neighbours from ``centre``, then zeros."""
    batch, count, _ = points.shape
    index = knn(points, points, k)[1].reshape(batch, count * k, 1).expand(-1, -1, 3)
    rows = torch.zeros((batch, count, width), dtype=points.dtype, device=points.device)
    rows[..., : 3 * k] = (points - centre).gather(1, index).reshape(batch, count, 3 * k)
    return rows


@configurations.on_device
def cluster_distance(points: Tensor, reconstruction: Tensor, k: int) -> Tensor:
    """As ``cluster_distance_definition``, for finite coordinates."""
    (batch, count, _), others = points.shape, reconstruction.shape[1]
    out = torch.empty((batch, count), dtype=points.dtype, device=points.device)
    if out.numel() == 0:
        return out
    config = configurations.choose("cluster_shortlist", "float32", points.device)
    inputs, classes = config.sizes["IN"], config.sizes["REFERENCES"]
    width = -(-3 * k // inputs) * inputs
    centre = reconstruction.mean(1, keepdim=True)  # short rows: the product of long ones loses digits
    query, reference = _clusters(points, centre, k, width), _clusters(reconstruction, centre, k, width)
    norms = reference.square().sum(-1)
    slack = _ROUNDING * (query.square().sum(-1) + norms.amax(1, keepdim=True))
    distance, second = torch.empty((2, batch, count, classes), dtype=points.dtype, device=points.device)
    index = torch.empty((batch, count, classes), dtype=torch.int32, device=points.device)
    cluster_shortlist[(batch * triton.cdiv(count, config.sizes["QUERIES"]),)](
        query, reference, norms, distance, index, second, count, others, width,
        **config.sizes, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    cluster_rescore[(batch * count,)](
        query, reference, slack, distance, index, second, out, count, others,
        width, triton.next_power_of_2(width), classes, num_warps=1,
    )  # fmt: skip
    return out


def why_not(op: str, *args: object) -> str | None:
    """Why the arguments of ``knn`` or ``cluster_distance`` are not for these kernels, or None."""
    points, k = args[0], args[2]
    assert isinstance(points, Tensor) and isinstance(k, int)
    if points.dtype != torch.float32:
        return f"takes float32, got {points.dtype}"
    if k > _MOST:
        return f"takes k up to {_MOST}, got {k}"
    return configurations.why_not_device(points.device)
