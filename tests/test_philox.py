"""Philox against a plain-integer loop of the SC 2011 paper, and its laws."""

import math

import numpy as np
import pytest
import torch

from r3dad import philox


def philox_loop(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 % 2**32, (p0 >> 32) ^ c[3] ^ k[1], p0 % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def test_known_answers_of_the_reference_implementation():
    # kat_vectors of Random123, philox4x32 10 rounds.
    zero = philox_loop([0] * 4, [0] * 2)
    assert zero == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = philox_loop([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2)
    assert ones == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 7, 2**63 - 1, -1])
def test_bits_equal_the_loop(seed):
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, (4, 20), dtype=np.int64)
    got = philox.philox4x32(tuple(torch.from_numpy(w) for w in words), torch.tensor(seed))
    key = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    for i in range(20):
        assert [int(g[i]) for g in got] == philox_loop([int(w[i]) for w in words], key)


def test_normal_is_box_muller_of_uniform_and_standard():
    seeds = torch.tensor([3, 4])
    u, z = philox.uniform(seeds, 50_000, 5), philox.normal(seeds, 50_000, 5)
    assert u.min() > 0 and u.max() <= 1
    assert z[1, 7, 1] == pytest.approx(
        math.sqrt(-2 * math.log(u[1, 7, 0])) * math.sin(2 * math.pi * u[1, 7, 1]), abs=1e-5
    )
    assert z.mean((0, 1)).abs().max() < 0.015
    assert (z.var((0, 1)) - 1).abs().max() < 0.02


def test_noise_belongs_to_seed_point_step_and_stream_alone():
    a = philox.normal(torch.tensor([11, 12]), 30, 2)
    assert torch.equal(a.flip(0), philox.normal(torch.tensor([12, 11]), 30, 2))
    assert torch.equal(a[:, :10], philox.normal(torch.tensor([11, 12]), 10, 2))
    assert not torch.equal(a, philox.normal(torch.tensor([11, 12]), 30, 3))
    assert not torch.equal(a, philox.normal(torch.tensor([11, 12]), 30, 2, stream=1))
