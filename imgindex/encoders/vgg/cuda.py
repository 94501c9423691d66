"""VGG-16's convolutions on an NVIDIA GPU: cuDNN adds the bias and applies the ReLU while it writes a convolution.

In half precision the layers of `VggNetwork` wait for memory, because each bias and each ReLU reads and writes a whole
activation again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from imgindex.encoders.vgg.network import Network, VggNetwork, gives_same_results

ROUNDS = 3


class CudnnNetwork:
    """Computes the same as a `VggNetwork` on a GPU, up to rounding."""

    def __init__(self, network: VggNetwork) -> None:
        self._network = network

    def maps(self, images: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling of channels_last images."""
        maps = images
        for layer in self._network.features:
            if isinstance(layer, nn.Conv2d):
                maps = torch.cudnn_convolution_relu(maps, layer.weight, layer.bias, [1, 1], [1, 1], [1, 1], 1)
            elif isinstance(layer, nn.MaxPool2d):
                maps = layer(maps)
        return maps

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector, not normalised, for the maps of each image."""
        return self._network.head(maps)


def fastest_network(network: VggNetwork, batch_size: int, side: int) -> Network:
    """Return the network or its cuDNN form, whichever takes less time for a batch on this GPU.

    The network itself is returned where this version of torch lacks the operator, where the results differ, and where a
    batch does not fit into memory.
    """
    candidate = CudnnNetwork(network)
    batch = next(network.features.parameters()).new_zeros((batch_size, 3, side, side))
    batch = batch.contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode(), cudnn_without_tf32():
            if gives_same_results(candidate, network) and _seconds(candidate, batch) < _seconds(network, batch):
                return candidate
    except (AttributeError, RuntimeError):
        torch.cuda.empty_cache()
    return network


@contextmanager
def cudnn_without_tf32() -> Iterator[None]:
    """Let cuDNN try its algorithms and keep the fastest for each layer, except those that round fp32 to TF32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield


def _seconds(network: Network, batch: Tensor) -> float:
    network.maps(batch)  # cuDNN tries its algorithms in the first pass
    seconds = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize(batch.device)
        started = time.perf_counter()
        network.maps(batch)
        torch.cuda.synchronize(batch.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
