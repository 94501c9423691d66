"""Weights in int8: equalising changes no output of the network, and rounding stays within half a step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from imgindex.encoders.vgg.quantise import Convolution, equalised, rounded
from imgindex.types import Vectors

WIDTHS = (3, 8, 6, 5)


@pytest.fixture
def convolutions() -> list[Convolution]:
    random = np.random.default_rng(4)
    found = []
    for before, width in itertools.pairwise(WIDTHS):
        # Channels of very different size, and one that is never active.
        scale = 10.0 ** random.integers(-2, 3, width)
        weight = random.standard_normal((width, before, 3, 3)) * scale[:, None, None, None]
        bias = random.standard_normal(width) * scale
        weight[0], bias[0] = 0, -1
        found.append(Convolution(weight.astype(np.float32), bias.astype(np.float32)))
    return found


def outputs(convolutions: list[Convolution]) -> list[Vectors]:
    """The numbers after each ReLU for a patch of 7 × 7 pixels, without padding."""
    maps = np.random.default_rng(5).random((WIDTHS[0], 7, 7))
    found = []
    for one in convolutions:
        windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
        maps = np.maximum(np.einsum("ihwkl,oikl->ohw", windows, one.weight) + one.bias[:, None, None], 0)
        found.append(maps)
    return found


def test_equalised_convolutions_compute_the_same(convolutions: list[Convolution]) -> None:
    before = outputs(convolutions)
    changed, greatest = equalised(convolutions, [maps.max(axis=(1, 2)) for maps in before])
    after = outputs(changed)
    np.testing.assert_allclose(after[-1], before[-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(greatest[:-1], [maps.max() for maps in after[:-1]], rtol=1e-4)


def test_equalised_channels_are_more_alike(convolutions: list[Convolution]) -> None:
    before = outputs(convolutions)
    changed, _ = equalised(convolutions, [maps.max(axis=(1, 2)) for maps in before])

    def spread(maps: Vectors) -> float:
        greatest = maps.max(axis=(1, 2))
        active = greatest[greatest > 0]
        return float(active.max() / active.min())

    assert spread(outputs(changed)[0]) < spread(before[0]) / 3


@pytest.mark.parametrize("limit", [127, 63])
def test_a_rounded_weight_is_within_half_a_step(convolutions: list[Convolution], limit: int) -> None:
    weight = convolutions[1].weight
    steps, scales = rounded(weight, limit)
    assert steps.dtype == np.int8
    assert np.abs(steps).max() == limit
    # Each channel with a weight uses all steps.
    assert (np.abs(steps).max(axis=(1, 2, 3))[1:] == limit).all()
    error = np.abs(steps * scales[:, None, None, None] - weight)
    assert (error <= 0.5001 * scales[:, None, None, None]).all()
    assert not steps[0].any()
