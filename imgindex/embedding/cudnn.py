"""VGG-16's convolutions on an NVIDIA GPU: cuDNN adds the bias and applies the ReLU while it writes a convolution.

In half precision the layers of `vgg.FeatureExtractor` wait for memory: each bias and each ReLU reads and writes all
again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from imgindex.embedding.fused import agree
from imgindex.embedding.vgg import ALL, Extractor, FeatureExtractor

ROUNDS = 3


class CudnnExtractor:
    """Computes what a FeatureExtractor on a GPU does, up to rounding."""

    shallow_batch = deep_batch = ALL

    def __init__(self, network: FeatureExtractor) -> None:
        self._network = network

    def shallow(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) of channels_last pictures (n, 3, side, side)."""
        return _fused(self._network.layers[0], pictures)

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling of those after the third."""
        return _fused(self._network.layers[1], maps)

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector for the maps of each picture, not normalised."""
        return self._network.head(maps)


def _fused(layers: nn.Sequential, maps: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            maps = torch.cudnn_convolution_relu(maps, layer.weight, layer.bias, [1, 1], [1, 1], [1, 1], 1)
        elif isinstance(layer, nn.MaxPool2d):
            maps = layer(maps)
    return maps


def fastest(network: FeatureExtractor, batch_size: int, side: int) -> Extractor:
    """Return the network or its fused twin, whichever takes a batch faster on this GPU.

    The twin must exist in this torch and agree with the network, which is also what is taken where a batch does not
    fit into memory.
    """
    twin = CudnnExtractor(network)
    batch = next(network.features.parameters()).new_zeros((batch_size, 3, side, side))
    batch = batch.contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode(), exactly():
            if agree(twin, network) and _seconds(twin, batch) < _seconds(network, batch):
                return twin
    except (AttributeError, RuntimeError):
        torch.cuda.empty_cache()
    return network


@contextmanager
def exactly() -> Iterator[None]:
    """Let cuDNN try its algorithms and keep the fastest one for each layer, but none that rounds fp32 to TF32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield


def _seconds(extractor: Extractor, batch: Tensor) -> float:
    extractor.deep(extractor.shallow(batch))  # when algorithms are tried
    seconds = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize(batch.device)
        started = time.perf_counter()
        extractor.deep(extractor.shallow(batch))
        torch.cuda.synchronize(batch.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
