"""What each point of a cloud hears from its neighbours: one round of messages of the learned scorer."""

from __future__ import annotations

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


def messages_definition(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Tensor:
    """Plain PyTorch, block by block."""
    heard = [own.new_empty((0, 2 * own.shape[1]))]
    for mine, at, n, apart, j in zip(*(t.split(BLOCK) for t in (own, points, normals, spacing, index))):
        offset = (take(points, j) - at[:, None]) / apart[:, None, None]
        along = (offset * n[:, None]).sum(-1)
        flat = (offset.square().sum(-1) - along.square()).clamp_min(0).sqrt()
        alike = (take(normals, j) * n[:, None]).sum(-1)
        edges = torch.stack([flat, along, along.abs(), alike], -1).clamp(-6, 6)
        said = take(theirs, j) + mine[:, None] + torch.nn.functional.linear(edges, edge)
        said = torch.nn.functional.silu(said, inplace=not torch.is_grad_enabled())
        heard.append(torch.cat([said.mean(1), said.amax(1)], 1))
    return torch.cat(heard)


@torch.library.custom_op("r3dad::messages", mutates_args=())
def _messages(
    theirs: Tensor, own: Tensor, edge: Tensor, points: Tensor, normals: Tensor, spacing: Tensor, index: Tensor
) -> Tensor:
    return backends.run("messages", theirs, own, edge, points, normals, spacing, index)


@_messages.register_fake
def _(theirs, own, edge, points, normals, spacing, index):
    return own.new_empty((own.shape[0], 2 * own.shape[1]))


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    """Autograd of the definition: the messages are made again, not kept."""
    theirs, own, edge, points, normals, spacing, index = ctx.saved_tensors
    with torch.enable_grad():
        theirs, own, edge = (t.detach().requires_grad_() for t in (theirs, own, edge))
        heard = messages_definition(theirs, own, edge, points, normals, spacing, index)
        return *torch.autograd.grad(heard, (theirs, own, edge), grad), None, None, None, None


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
