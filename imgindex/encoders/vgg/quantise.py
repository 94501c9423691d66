"""Weights of VGG-16 in int8: neighbouring layers are equalised, and each output channel has its own scale.

A layer's activations share one scale, so a channel whose numbers are small is rounded coarsely. In a network of ReLUs a
channel can be divided by any positive number if the next layer's weights for it are multiplied by the same number.
Equalising chooses these numbers so that the channels' ranges become alike (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019; here between activations and the weights that read them, as in
Xiao et al., "SmoothQuant", 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgindex.types import Vectors

# How much of the difference between the ranges of channels moves from the activations to the weights.
STRENGTH = 0.5
# A channel that is never active is treated as if it reached this.
LEAST_ACTIVATION, LEAST_WEIGHT = 1e-3, 1e-6
# Weights that are rounded at once.
BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with a ReLU after it: the weight (out, in, 3, 3) and the bias (out,), float32."""

    weight: Vectors
    bias: Vectors


def equalised(
    convolutions: Sequence[Convolution],
    maxima: Sequence[Vectors],
    *,
    map: Callable[..., Iterable[Any]] = map,
) -> tuple[list[Convolution], list[float]]:
    """Return convolutions that compute the same with equalised channels, and the greatest number after each.

    maxima: the greatest number in each channel (out,) after each convolution. The last layer's output stays as it is.
    map: the built-in one, or that of a pool of threads.
    """
    scales = [*map(_scale, maxima[:-1], convolutions[1:]), np.ones_like(maxima[-1])]
    before = [np.ones(convolutions[0].weight.shape[1], np.float32), *scales[:-1]]
    greatest = [
        float(max((found / scale).max(), LEAST_ACTIVATION)) for found, scale in zip(maxima, scales, strict=True)
    ]
    return list(map(_scaled, convolutions, before, scales)), greatest


def _scale(reached: Vectors, following: Convolution) -> Vectors:
    """Return what a layer's channels (out,) are divided by, and the next layer's weights for them multiplied by."""
    # In two steps, each over whole rows of memory.
    read = np.abs(following.weight).max(axis=0).max(axis=(1, 2))
    scale = np.maximum(reached, LEAST_ACTIVATION) ** STRENGTH / np.maximum(read, LEAST_WEIGHT) ** (1 - STRENGTH)
    unit: Vectors = (scale / scale.mean()).astype(np.float32)
    return unit


def _scaled(convolution: Convolution, before: Vectors, after: Vectors) -> Convolution:
    """Return a convolution whose inputs are divided by `before` (in,), and its outputs by `after` (out,)."""
    weight = convolution.weight * (before[None, :] / after[:, None])[:, :, None, None]
    return Convolution(weight, convolution.bias / after)


def rounded(weight: Vectors, limit: int) -> tuple[np.ndarray, Vectors]:
    """Return a weight (out, …) in whole steps, int8 from -limit to limit, and the size of a step for each output."""
    rows = weight.reshape(len(weight), -1)
    scales = np.empty(len(rows), np.float32)
    steps = np.empty(rows.shape, np.int8)
    # In blocks that fit into the cache: fc1 has 411 MB, and each step of this would take as much memory again.
    block = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        scales[start : start + block] = np.maximum(np.abs(part).max(axis=1), np.finfo(np.float32).tiny) / limit
        in_steps = np.round(part / scales[start : start + block, None])
        steps[start : start + block] = np.clip(in_steps, -limit, limit)
    return steps.reshape(weight.shape), scales
