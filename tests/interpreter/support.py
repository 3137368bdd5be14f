"""What the checks share: the interpreter made fit for bfloat16, and random problems."""

from __future__ import annotations

import os

import numpy as np
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


def install_bfloat16() -> None:
    """Make the interpreter multiply bfloat16 in ``tl.dot`` as numbers and round float32 to it as a GPU does.

    Unpatched (Triton 3.6 to 3.9) it multiplies the 16-bit patterns as integers, and truncates, both without an error.
    """
    if not INTERPRETED:
        return
    import triton.language as tl
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    if getattr(builder, "_r3dad_bfloat16", False):
        return
    dot, convert_float = builder.create_dot, interpreter._convert_float

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = np.ascontiguousarray(handle.data).view(np.uint16).astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def convert(data, source, target, mode):
        if source != tl.float32 or target != tl.bfloat16:
            return convert_float(data, source, target, mode)
        value = np.ascontiguousarray(data)
        bits = value.view(np.uint32)
        rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return np.where(np.isnan(value), np.uint16(0x7FC0), rounded).astype(np.uint16)

    builder.create_dot = lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest)
    builder._r3dad_bfloat16 = True
    interpreter._convert_float = convert


def install_fast_sort() -> None:
    """Let the interpreter reduce by exclusive or, the heart of ``tl.sort``, in numpy instead of element by element: 50 times faster."""
    if not INTERPRETED:
        return
    from triton.runtime import interpreter

    generic = interpreter.ReduceOps.generic_reduce
    if generic.__name__ == "reduce":
        return

    def reduce(self, values):
        if self.combine_fn.fn.__name__ != "_xor_combine":
            return generic(self, values)
        data = np.bitwise_xor.reduce(values[0].handle.data, axis=self.axis, keepdims=self.keep_dims)
        return [self.to_tensor(data, values[0].dtype)]

    interpreter.ReduceOps.generic_reduce = reduce


def draw(seed: int):
    """(*shape) -> standard normal float32 on the device, a function of ``seed`` and the order of calls."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator).to(DEVICE)


def doubled(value):
    """The same arguments in float64: what errors are measured against."""
    if isinstance(value, (list, tuple)):
        return [doubled(v) for v in value]
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def error(value, exact) -> float:
    """Largest absolute difference, over the largest exact value."""
    scale = float(exact.abs().max()) or 1.0
    return float((value.double() - exact).abs().max()) / scale
