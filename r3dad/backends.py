"""Which implementation runs an operation: one static table, a choice, and the reasons.

A row of the table is ``"module:function"``, imported on first use; rows stand in order of preference. The module answers
``why_not(op, *args) -> str | None``: a reason in words why it cannot take these arguments, or None. The definition (``torch``) can always.

``R3DAD_BACKEND`` or :func:`use_backend` ask for a backend by name; when it cannot, that is an error that lists every reason.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

TABLE: dict[str, dict[str, str]] = {
    "concat_squash": {
        "triton": "r3dad.kernels.pointwise_triton:concat_squash",
        "cpu": "r3dad.kernels.compiled:concat_squash",
        "torch": "r3dad.ops.concat_squash:concat_squash_definition",
    },
    "concat_squash_backward": {
        "triton": "r3dad.kernels.pointwise_triton:concat_squash_backward",
        "cpu": "r3dad.kernels.compiled:concat_squash_backward",
        "torch": "r3dad.ops.concat_squash:concat_squash_backward_definition",
    },
    "reverse_diffusion": {
        "triton": "r3dad.kernels.reverse_diffusion_triton:reverse_diffusion",
        "cuda": "r3dad.kernels.reverse_diffusion_cuda:reverse_diffusion",
        "cpu": "r3dad.kernels.compiled:reverse_diffusion",
        "torch": "r3dad.ops.reverse_diffusion:reverse_diffusion_definition",
    },
    "encode": {
        "triton": "r3dad.kernels.pointwise_triton:encode",
        "cpu": "r3dad.kernels.compiled:encode",
        "torch": "r3dad.ops.encode:encode_definition",
    },
    "knn": {
        "cuda": "r3dad.kernels.nearest_cuda:knn",
        "triton": "r3dad.kernels.nearest_triton:knn",
        "cpu": "r3dad.kernels.compiled:knn",
        "keops": "r3dad.kernels.nearest_keops:knn",
        "torch": "r3dad.ops.knn:knn_definition",
    },
    "knn_tree": {
        "cpu": "r3dad.kernels.compiled:knn_tree",
        "torch": "r3dad.nearest:ScipyTree",
    },
    "cluster_distance": {
        "cuda": "r3dad.kernels.nearest_cuda:cluster_distance",
        "triton": "r3dad.kernels.nearest_triton:cluster_distance",
        "cpu": "r3dad.kernels.compiled:cluster_distance",
        "keops": "r3dad.kernels.nearest_keops:cluster_distance",
        "torch": "r3dad.ops.cluster_distance:cluster_distance_definition",
    },
    "messages": {
        "cpu": "r3dad.kernels.compiled:messages",
        "torch": "r3dad.ops.messages:messages_definition",
    },
    "messages_backward": {
        "cpu": "r3dad.kernels.compiled:messages_backward",
        "torch": "r3dad.ops.messages:messages_backward_definition",
    },
    "neighbour_mean": {
        "cpu": "r3dad.kernels.compiled:neighbour_mean",
        "torch": "r3dad.ops.neighbour_mean:neighbour_mean_definition",
    },
    "displace_patch": {
        "cuda": "r3dad.kernels.patches_cuda:displace_patch",
        "torch": "r3dad.synth.patch_gen:displace_patch_definition",
    },
}
BACKENDS = ("cuda", "triton", "keops", "cpu", "torch")


_GPU = ("cuda", "triton")
_KEOPS_PAIRS = 1 << 30  # from here on the seconds that KeOps compiles are worth it


class BackendError(RuntimeError):
    """The backend asked for by name cannot run the operation; the message lists every backend's reason."""


def _parse(text: str) -> dict[str, str]:
    """``"torch"`` -> {"*": "torch"}; ``"knn=torch,encode=cpu"`` -> one entry per operation."""
    asked: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        op, _, backend = item.rpartition("=")
        if backend not in BACKENDS or (op and op not in TABLE):
            raise BackendError(
                f"R3DAD_BACKEND={text!r}: {item!r} is not BACKEND or OP=BACKEND; backends: {', '.join(BACKENDS)}; ops: {', '.join(TABLE)}"
            )
        asked[op or "*"] = backend
    return asked


_asked: ContextVar[dict[str, str] | None] = ContextVar("r3dad_backend", default=None)


@contextlib.contextmanager
def use_backend(backend: str | None = None, **per_op: str) -> Iterator[None]:
    """Ask for a backend by name within a ``with`` block, for all operations or per operation (``use_backend(knn="torch")``).

    Asked for all, it holds for the operations that have such a backend; the others take their own order.

    Raises:
        BackendError: the name is unknown, or (when an operation is called) the backend cannot run it.
    """
    parts = ([backend] if backend else []) + [f"{op}={name}" for op, name in per_op.items()]
    token = _asked.set(_parse(",".join(parts)))
    try:
        yield
    finally:
        _asked.reset(token)


def asked_for(op: str) -> str | None:
    """The backend that the user asked for by name, if any: the ``with`` block first, then ``R3DAD_BACKEND``."""
    asked = _asked.get()
    if asked is None:
        asked = _parse(os.environ.get("R3DAD_BACKEND", ""))
    everywhere = asked.get("*")
    return asked.get(op, everywhere if everywhere in TABLE[op] else None)


@functools.cache
def _load(row: str) -> tuple[Callable[..., Any], Callable[..., str | None]]:
    module_name, _, function = row.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, function), getattr(module, "why_not", lambda op, *args: None)


def _on_gpu(args: tuple[Any, ...]) -> bool:
    flat = (x for arg in args for x in (arg if isinstance(arg, (list, tuple)) else (arg,)))
    return any(getattr(x, "is_cuda", False) for x in flat)


def why_not(op: str, backend: str, *args: Any) -> str | None:
    """Why ``backend`` cannot run ``op`` on these arguments, in words; None when it can."""
    row = TABLE[op].get(backend)
    if row is None:
        return f"no {backend} implementation of {op}"
    if (
        backend in _GPU
        and not _on_gpu(args)
        and not (backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1")
    ):
        return "needs tensors on a GPU"  # said before importing a library that is of no use then
    if backend == "keops" and asked_for(op) != "keops" and args[0].shape[1] * args[1].shape[1] < _KEOPS_PAIRS:
        return f"compiles for seconds; taken unasked from {_KEOPS_PAIRS} pairs of points on"
    try:
        _, reason = _load(row)
    except ImportError as error:
        return f"not importable: {error}"
    return reason(op, *args) if backend != "torch" else None


def choose(op: str, *args: Any) -> tuple[str, Callable[..., Any]]:
    """The backend that runs ``op`` on these arguments, and its function.

    Raises:
        BackendError: a backend was asked for by name and cannot.
    """
    name = asked_for(op)
    for backend in TABLE[op] if name is None else (name,):
        if why_not(op, backend, *args) is None:
            return backend, _load(TABLE[op][backend])[0]
    reasons = "; ".join(f"{b}: {why_not(op, b, *args) or 'can'}" for b in TABLE[op] | {name or "torch": ""})
    raise BackendError(f"{op}: backend {name!r} was asked for and cannot run it ({reasons})")


def run(op: str, *args: Any) -> Any:
    """Run ``op`` on the backend that :func:`choose` names."""
    return choose(op, *args)[1](*args)
