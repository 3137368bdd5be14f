"""The Triton pointwise layers against the definitions; run by test_triton.py, in the interpreter or on a GPU."""

from __future__ import annotations

import pytest
import torch
from support import DEVICE, doubled, draw, error, install_bfloat16

from r3dad.kernels import pointwise_triton as kernel
from r3dad.ops.concat_squash import concat_squash_backward_definition, concat_squash_definition
from r3dad.ops.encode import encode_definition

install_bfloat16()
DTYPES = {"float32": (torch.float32, 2e-6), "bfloat16": (torch.bfloat16, 1e-3), "float16": (torch.float16, 1e-4)}
SHAPES = {
    "first layer": (2, 70, 3, 128),
    "last layer": (2, 65, 128, 3),
    "odd": (3, 97, 33, 77),
    "wide": (1, 64, 256, 130),
    "one point": (1, 1, 5, 7),
    "no points": (2, 0, 5, 7),
    "no clouds": (0, 4, 5, 7),
}


def layer(shape, dtype, seed=0):
    """x, weight, bias, gate, shift."""
    batch, points, inputs, outputs = shape
    r = draw(seed)
    arguments = r(batch, points, inputs), r(outputs, inputs) / inputs**0.5, r(outputs), r(batch, outputs).sigmoid()
    return [t.to(dtype) for t in (*arguments, r(batch, outputs))]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_equal_the_definitions(shape, name):
    dtype, floor = DTYPES[name]
    args = layer(SHAPES[shape], dtype)
    assert kernel.why_not("concat_squash", *args, 0.01) is None
    got = kernel.concat_squash(*args, 0.01)
    exact = concat_squash_definition(*doubled(args), 0.01)
    assert got.shape == exact.shape and got.dtype == dtype
    output = exact.to(dtype)
    backward = (draw(9)(*exact.shape).to(dtype), *args[:4], output, 0.01)
    gradients = kernel.concat_squash_backward(*backward)
    exact_gradients = concat_squash_backward_definition(*doubled(backward))
    plain_gradients = concat_squash_backward_definition(*backward)
    plain = concat_squash_definition(*args, 0.01)
    names = ("output", "dx", "dweight", "dbias", "dgate", "dshift")
    for what, ours, theirs, true in zip(
        names, (got, *gradients), (plain, *plain_gradients), (exact, *exact_gradients), strict=True
    ):
        assert ours.shape == true.shape and ours.dtype == dtype
        if true.numel():
            a, b = error(ours, true), error(theirs, true)
            print(f"{shape}, {name}, {what}: {a:.1e}, plain PyTorch {b:.1e}")
            assert a <= 2 * b + floor, what


def test_without_activation():
    args = layer((1, 20, 16, 3), torch.float32)
    got, want = kernel.concat_squash(*args, 1.0), concat_squash_definition(*args, 1.0)
    assert torch.allclose(got, want, atol=1e-5)


def test_strided_arguments():
    x, weight, bias, gate, shift = layer((2, 20, 16, 24), torch.float32)
    got = kernel.concat_squash(x.mT.contiguous().mT, weight.T.contiguous().T, bias, gate, shift, 0.01)
    assert torch.equal(got, kernel.concat_squash(x, weight, bias, gate, shift, 0.01))


def encoder(widths, batch, points, seed=0):
    """points, weights, biases."""
    r = draw(seed)
    sizes = (3, *widths)
    weights = [r(m, k) * (2 / k) ** 0.5 for k, m in zip(sizes, sizes[1:])]
    return r(batch, points, 3), weights, [0.1 * r(m) for m in widths]


@pytest.mark.parametrize(
    "widths, batch, points",
    [
        ((128, 128, 256, 512, 256, 128, 256), 1, 70),
        ((16, 32, 16, 64, 8), 3, 33),
        ((20, 7, 40, 50, 30, 5), 2, 65),
        ((16, 16, 16, 16, 16), 1, 1),
        ((16, 16, 16, 16, 16), 0, 4),
    ],
)
def test_encode_equals_the_definition(widths, batch, points):
    args = encoder(widths, batch, points)
    got = kernel.encode(*args)
    exact = encode_definition(*doubled(args))
    assert got.shape == exact.shape
    if batch:
        ours, theirs = error(got, exact), error(encode_definition(*args), exact)
        print(f"encode {widths}: {ours:.1e}, plain PyTorch {theirs:.1e}")
        assert ours <= 2 * theirs + 2e-6


def test_encode_of_points_that_all_lie_below_zero():
    """Padding a tile with zeros would show in a maximum of negative values."""
    points, weights, biases = encoder((16, 16, 16, 16, 16), 1, 5)
    biases[3] = biases[3] - 1000
    assert torch.allclose(kernel.encode(points, weights, biases), encode_definition(points, weights, biases), rtol=1e-5)


def test_says_why_not():
    args = layer((1, 4, 5, 7), torch.float64)
    assert "float64" in kernel.why_not("concat_squash", *args, 0.01)
    assert "float64" in kernel.why_not("concat_squash_backward", args[0], *args, 0.01)
    points, weights, biases = encoder((16, 16, 16, 600, 16), 1, 4)
    assert "600" in kernel.why_not("encode", points, weights, biases)
    assert kernel.why_not("encode", points.to(DEVICE), weights[:3] * 2, biases) is None
