"""What each point of a cloud hears from its neighbours: one round of messages of the learned scorer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from r3dad import backends
from r3dad.ops import check

BLOCK = 512
"""Points whose messages are in memory at once: they stay in the cache."""
EDGE = 4


def take(values: Tensor, index: Tensor) -> Tensor:
    """values [N, W] at index [Q, k] -> [Q, k, W]; ten times the speed of indexing on the way back."""
    return values.index_select(0, index.reshape(-1)).view(*index.shape, values.shape[1])


def _before(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Block by block: neighbours [n, k], how they lie [n, k, 4], and what they say before the activation [n, k, W]."""
    for mine, at, n, apart, j in zip(*(t.split(BLOCK) for t in (own, points, normals, spacing, index))):
        offset = (take(points, j) - at[:, None]) / apart[:, None, None]
        along = (offset * n[:, None]).sum(-1)
        flat = (offset.square().sum(-1) - along.square()).clamp_min(0).sqrt()
        alike = (take(normals, j) * n[:, None]).sum(-1)
        edges = torch.stack([flat, along, along.abs(), alike], -1).clamp(-6, 6)
        yield j, edges, take(theirs, j) + mine[:, None] + torch.nn.functional.linear(edges, edge)


def messages_definition(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Tensor:
    """Plain PyTorch, block by block."""
    heard = [own.new_empty((0, 2 * own.shape[1]))]
    for _, _, said in _before(theirs, own, edge, points, normals, spacing, index):
        said = torch.nn.functional.silu(said, inplace=not torch.is_grad_enabled())
        heard.append(torch.cat([said.mean(1), said.amax(1)], 1))
    return torch.cat(heard)


def messages_backward_definition(
    grad: Tensor,
    theirs: Tensor,
    own: Tensor,
    edge: Tensor,
    points: Tensor,
    normals: Tensor,
    spacing: Tensor,
    index: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of theirs, own and edge, given that of the result: the messages are made again, not kept.

    Neighbours that say the same share the gradient of the maximum, as in PyTorch.
    """
    of_theirs, of_own, of_edge = torch.zeros_like(theirs), [own[:0]], torch.zeros_like(edge)
    blocks = _before(theirs, own, edge, points, normals, spacing, index)
    for (j, edges, x), (mean, most) in zip(blocks, (g.chunk(2, 1) for g in grad.split(BLOCK))):
        gate = x.sigmoid()
        said = x * gate
        top = said == said.amax(1, keepdim=True)
        back = mean[:, None] / j.shape[1] + top * (most / top.sum(1))[:, None]
        back = back * (gate + said * (1 - gate))
        of_theirs.index_add_(0, j.reshape(-1), back.flatten(0, 1))
        of_own.append(back.sum(1))
        of_edge += back.flatten(0, 1).T @ edges.flatten(0, 1)
    return of_theirs, torch.cat(of_own), of_edge


@torch.library.custom_op("r3dad::messages", mutates_args=())
def _messages(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Tensor:
    return backends.run("messages", theirs, own, edge, points, normals, spacing, index)


@_messages.register_fake
def _(theirs, own, edge, points, normals, spacing, index):
    return own.new_empty((own.shape[0], 2 * own.shape[1]))


@torch.library.custom_op("r3dad::messages_backward", mutates_args=())
def _messages_backward(
    grad: Tensor,
    theirs: Tensor,
    own: Tensor,
    edge: Tensor,
    points: Tensor,
    normals: Tensor,
    spacing: Tensor,
    index: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return backends.run("messages_backward", grad, theirs, own, edge, points, normals, spacing, index)


@_messages_backward.register_fake
def _(grad, theirs, own, edge, points, normals, spacing, index):
    return tuple(t.new_empty(t.shape) for t in (theirs, own, edge))


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    # The gradient of a sum arrives expanded, with stride 0.
    return *_messages_backward(grad.contiguous(), *ctx.saved_tensors), None, None, None, None


_messages.register_autograd(_backward, setup_context=_save)


def messages(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Tensor:
    """Mean and maximum over the k neighbours j of each point i of ``silu(theirs[j] + own[i] + edge e)``, where ``e`` says how j lies.

    ``e``: distance across i's normal, along it, the size of that, and how alike the normals are (their product); lengths in units of
    i's spacing, all within -6..6.

    Args:
        theirs: [N, W] floating; own: [N, W]; edge: [W, 4]; same dtype and device.
        points, normals: [N, 3]; spacing: [N], positive.
        index: [N, k] int64, k >= 1.

    Returns:
        [N, 2 W]: means, then maxima. Differentiable in the first three arguments.

    Raises:
        ValueError: a shape or dtype is not as above.
    """
    op, n, width = "messages", own.shape[0], own.shape[-1]
    check.shape(op, "own", own, "[N, W]", None, None)
    check.shape(op, "theirs", theirs, f"[{n}, {width}]", n, width)
    check.shape(op, "edge", edge, f"[{width}, {EDGE}]", width, EDGE)
    check.shape(op, "points", points, f"[{n}, 3]", n, 3)
    check.shape(op, "normals", normals, f"[{n}, 3]", n, 3)
    check.shape(op, "spacing", spacing, f"[{n}]", n)
    check.index(op, index, n)
    check.floating(op, own, theirs, edge, points, normals, spacing)
    return _messages(theirs, own, edge, points, normals, spacing, index)
