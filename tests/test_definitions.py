"""The definitions of the operations against loops written from the paper, in float64."""

import numpy as np
import pytest
import torch

from r3dad import philox
from r3dad.ops.cluster_distance import cluster_distance_definition
from r3dad.ops.concat_squash import concat_squash_definition
from r3dad.ops.encode import encode_definition
from r3dad.ops.knn import knn_definition
from r3dad.ops.messages import messages_definition
from r3dad.ops.neighbour_mean import neighbour_mean_definition
from r3dad.ops.reverse_diffusion import quantised_product, quantised_weight, reverse_diffusion_definition
from tests.op_cases import double, encode_case, lattice, mean_case, messages_case, reverse_case, squash_case, torus


def test_knn_definition_equals_a_loop():
    query, reference = torus(20).double(), lattice(4).double()
    distances, indices = knn_definition(query, reference, 9)
    for i, q in enumerate(query[0].numpy()):
        squared = ((reference[0].numpy() - q) ** 2).sum(1)
        order = np.lexsort((np.arange(len(squared)), squared))[:9]
        assert indices[0, i].tolist() == order.tolist()
        assert np.allclose(distances[0, i], squared[order])


def test_cluster_distance_definition_equals_a_loop():
    points, other, k = torus(30).double(), torus(25, seed=1).double(), 4

    def rows(cloud):
        out = []
        for p in cloud:
            order = np.argsort(((cloud - p) ** 2).sum(1), kind="stable")[:k]
            out.append(cloud[order].ravel())
        return np.array(out)

    q, r = rows(points[0].numpy()), rows(other[0].numpy())
    wanted = [min(((a - b) ** 2).sum() for b in r) for a in q]
    assert np.allclose(cluster_distance_definition(points, other, k)[0], wanted)


def test_concat_squash_definition_equals_a_loop():
    x, weight, bias, gate, shift, slope = double(squash_case(2, 3, 4, 5, 0.1))
    got = concat_squash_definition(x, weight, bias, gate, shift, slope)
    for b in range(2):
        for n in range(3):
            for m in range(5):
                y = (float(weight[m] @ x[b, n]) + bias[m]) * gate[b, m] + shift[b, m]
                assert got[b, n, m] == pytest.approx(float(y if y > 0 else slope * y))


def test_encode_definition_equals_a_loop():
    points, weights, biases = double(encode_case(2, 7, (5, 6, 7, 8, 4, 3)))
    got = encode_definition(points, weights, biases)
    for b in range(2):
        best = np.full(8, -np.inf)
        for p in points[b].numpy():
            h = p
            for layer in range(4):
                h = weights[layer].numpy() @ h + biases[layer].numpy()
                h = np.maximum(h, 0) if layer < 3 else h
            best = np.maximum(best, h)
        h = np.maximum(weights[4].numpy() @ best + biases[4].numpy(), 0)
        assert np.allclose(got[b], weights[5].numpy() @ h + biases[5].numpy())


def test_messages_definition_equals_a_loop():
    theirs, own, edge, points, normals, spacing, index = double(messages_case(12, 5, 3))
    got = messages_definition(theirs, own, edge, points, normals, spacing, index)
    for i in range(12):
        said = []
        for j in index[i].tolist():
            offset = ((points[j] - points[i]) / spacing[i]).numpy()
            along = offset @ normals[i].numpy()
            across = np.linalg.norm(offset - along * normals[i].numpy())
            e = np.clip([across, along, abs(along), float(normals[i] @ normals[j])], -6, 6)
            x = theirs[j].numpy() + own[i].numpy() + edge.numpy() @ e
            said.append(x / (1 + np.exp(-x)))
        assert np.allclose(got[i], np.concatenate([np.mean(said, 0), np.max(said, 0)]), atol=1e-6)


def test_neighbour_mean_definition_equals_a_loop():
    values, index, weights = double(mean_case(20, 9, 3, 4))
    weights[3] = 0
    got = neighbour_mean_definition(values, index, weights)
    for i in range(9):
        total = sum(w * values[j] for w, j in zip(weights[i], index[i]))
        assert torch.allclose(got[i], total / max(float(weights[i].sum()), 1e-6))


def test_bytes_lose_at_most_half_a_step_per_factor():
    g = torch.Generator().manual_seed(3)
    h, weight = torch.randn(40, 33, generator=g).double(), torch.randn(20, 33, generator=g).double()
    h[0], weight[0] = 0, 0
    integers, scale = quantised_weight(weight)
    assert integers.abs().max() == 127 and torch.equal(integers, integers.round())
    assert ((integers * scale[:, None] - weight).abs() <= 0.5001 * scale[:, None]).all()
    step = (h.amax(1).clamp_min(0) - h.amin(1).clamp_max(0)) / 255
    bound = h.abs() @ (0.5 * scale)[:, None].expand(20, 33).T + 0.5 * step[:, None] * (
        integers.abs() * scale[:, None]
    ).sum(1)
    assert ((quantised_product(h, integers, scale) - h @ weight.T).abs() <= 1.001 * bound).all()


def test_reverse_diffusion_definition_equals_a_loop():
    args = double(reverse_case(2, 4, 3, (6, 5, 3), features=2))
    weights, biases, gate_time, gate_shape, shift_time, shift_shape, coefficients, start, seeds, condition, slope, _ = (
        args
    )
    got = reverse_diffusion_definition(*args)
    for b in range(2):
        for n in range(4):
            x = start[b, n].numpy()
            for s, (ca, cb, sigma) in enumerate(coefficients.tolist()):
                h, at = np.concatenate([x, condition[b, n].numpy()]), 0
                for layer, (weight, bias) in enumerate(zip(weights, biases)):
                    part = slice(at, at + len(bias))
                    gate = 1 / (1 + np.exp(-(gate_time[s, part] + gate_shape[b, part]).numpy()))
                    h = (weight.numpy() @ h + bias.numpy()) * gate + (
                        shift_time[s, part] + shift_shape[b, part]
                    ).numpy()
                    h = np.where((h > 0) | (layer == 2), h, slope * h)
                    at += len(bias)
                x = ca * x + cb * (x + h) + sigma * philox.normal(seeds, 4, s + 1)[b, n].double().numpy()
            assert np.allclose(got[b, n], x, atol=1e-12)
