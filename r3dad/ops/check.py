"""Argument checks shared by the operations: a wrong call is a ValueError that names the op, the argument and what was expected."""

from __future__ import annotations

from torch import Tensor

FLOATS = ("torch.float32", "torch.float64", "torch.float16", "torch.bfloat16")


def shape(op: str, name: str, tensor: Tensor, expected: str, *sizes: int | None) -> None:
    """``sizes`` are the wanted sizes, None for any; ``expected`` is how the docstring writes them."""
    if tensor.dim() != len(sizes) or any(want is not None and got != want for got, want in zip(tensor.shape, sizes)):
        raise ValueError(f"{op}: {name} must be {expected}, got {list(tensor.shape)}")


def floating(op: str, *tensors: Tensor, only: tuple[str, ...] = FLOATS) -> None:
    """All tensors of one floating dtype out of ``only``, on one device."""
    if str(tensors[0].dtype) not in only or any(t.dtype != tensors[0].dtype for t in tensors):
        raise ValueError(
            f"{op}: expected one dtype of {', '.join(only)}, got {', '.join(str(t.dtype) for t in tensors)}"
        )
    if any(t.device != tensors[0].device for t in tensors):
        raise ValueError(f"{op}: tensors on different devices: {', '.join(str(t.device) for t in tensors)}")


def clouds(op: str, name: str, tensor: Tensor) -> None:
    """[B, N, 3]."""
    shape(op, name, tensor, "[B, N, 3]", None, None, 3)


def index(op: str, tensor: Tensor, points: int | None = None) -> None:
    """[points, k] int64, k >= 1."""
    shape(op, "index", tensor, "[Q, k]" if points is None else f"[{points}, k]", points, None)
    if str(tensor.dtype) != "torch.int64" or tensor.shape[1] < 1:
        raise ValueError(f"{op}: index must be int64 with k >= 1, got {tensor.dtype} {list(tensor.shape)}")


def neighbours(op: str, k: int, available: int) -> None:
    """1 <= k <= number of points to choose from."""
    if not 1 <= k <= available:
        raise ValueError(f"{op}: k must be between 1 and the number of points ({available}), got {k}")
