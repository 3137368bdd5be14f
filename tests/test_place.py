"""Displacement at a place: the decoder learns the way back to the surface, and any sampler gives it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from r3dad import philox
from r3dad.place import UNIT, PlaceField, examples
from r3dad.surface import Surface


@pytest.fixture(scope="module")
def surface() -> Surface:
    """A ball of radius 0.3."""
    v = np.random.default_rng(0).normal(size=(6000, 3))
    return Surface.build([0.3 * v / np.linalg.norm(v, axis=1, keepdims=True)], 4000)


@pytest.fixture(scope="module")
def field(surface) -> PlaceField:
    return PlaceField.fit(surface, iterations=250)


def test_points_off_the_surface_are_sent_back(surface, field):
    points = examples(surface, 2000, seed=9)[0]
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    back = (0.3 / radius - 1) * points
    far = np.linalg.norm(back, axis=1) > 0.005
    assert np.median(np.linalg.norm(back - field.displacement(points), axis=1)[far]) < 0.3 * np.median(
        np.abs(back[far]).max(1)
    )
    signed = field.signed(-field.displacement(points), surface.find(points)[1])
    assert (np.sign(signed) == np.sign(radius[:, 0] - 0.3))[far].mean() > 0.95


def test_samplers_agree_and_seeds_repeat(surface, field):
    points = examples(surface, 500, seed=3)[0]
    one = field.displacement(points)
    assert np.array_equal(one, field.displacement(points))
    assert not np.array_equal(one, field.displacement(points, seed=1))
    few = PlaceField(surface, field.decoder, field.frequencies, steps=4).displacement(points)
    assert np.abs(few - one).mean() < 0.1 * UNIT
    # The operation against the decoder itself, one step written out: x0 = net(x_T).
    start = torch.from_numpy(points).float()[None]
    t = torch.tensor([field._schedule.steps])
    x = philox.normal(torch.tensor([0]), len(points), 0)
    with torch.no_grad():
        clean = field.decoder(x, field._schedule.betas[t].float(), None, field._place(start)) - x
    bar = field._schedule.alpha_bars[t]
    assert bar < 0.01
    np.testing.assert_allclose(one, UNIT * clean[0].numpy(), atol=1e-4 * UNIT)


def test_a_fit_repeats_and_its_state_comes_back(surface, field):
    again = PlaceField.fit(surface, iterations=5)
    same = PlaceField.fit(surface, iterations=5)
    points = examples(surface, 50, seed=1)[0]
    assert np.array_equal(again.displacement(points), same.displacement(points))
    loaded = PlaceField.from_state(surface, field.state(), steps=1)
    assert np.array_equal(loaded.displacement(points), field.displacement(points))
    assert len(field.displacement(np.zeros((0, 3)))) == 0
