"""What belongs to NVIDIA GPUs alone: streams that compute as one CUDA graph, and pinned memory."""

from __future__ import annotations

import logging
import threading
from typing import cast

import torch
from torch import Tensor

from imgindex.encoders.cuda_errors import is_out_of_gpu_memory
from imgindex.encoders.vgg.network import VggNetwork
from imgindex.types import Pixels, Vectors

log = logging.getLogger(__name__)

# torch captures one graph at a time in a process.
_OPENING = threading.Lock()


class CudaStream:
    """Computes batches of at most `size` pictures on a GPU, one batch after the other, beside other streams.

    Every batch has the same shape: the places behind a smaller one keep the pictures of an earlier batch. So cuDNN
    chooses its algorithms once, when the stream is opened, and a vector does not depend on how many others are computed
    with it. All that a batch takes is one copy to the GPU, one CUDA graph, and one copy back; the memory of these is
    allocated once.

    Raises RuntimeError, as torch does, when it is made and the GPU cannot be used or has too little memory.
    """

    def __init__(self, network: VggNetwork, side: int, size: int) -> None:
        self.size = size
        self._network = network
        with _OPENING, torch.cuda.device(network.device), torch.inference_mode():
            self._stream = torch.cuda.Stream(network.device)  # type: ignore[no-untyped-call]
            # There the weights were copied to the GPU.
            self._stream.wait_stream(torch.cuda.default_stream(network.device))
            with torch.cuda.stream(self._stream):
                self._pixels = torch.empty((size, side, side, 3), dtype=torch.uint8, device=network.device)
                # Any pictures, with colours that differ.
                self._pixels.copy_(torch.arange(3 * side, device=network.device).remainder(251).view(side, 3))
                self._padded = network.new_input(size, side)
                # cuDNN and the kernels are loaded here, and algorithms chosen, which cannot be done while a graph is
                # captured. This thread captures it too, because cuDNN's choices belong to a thread.
                expected = self._compute()
                # Numbers in pinned memory reach it without a further copy. torch keeps such memory for its next use.
                self._host = torch.empty(expected.shape, dtype=expected.dtype, pin_memory=True)
            # Waiting for a blocking event leaves the core to a decoder.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._graph, self._outputs = self._captured(expected)

    def outputs(self, batch: Pixels) -> Vectors:
        """Return the network's outputs, float32 (n, dimension), of uint8 images (n, side, side, 3), n ≤ size."""
        count = len(batch)
        with torch.cuda.device(self._network.device), torch.cuda.stream(self._stream), torch.inference_mode():
            # Memory of `pinned_batch` is copied by the GPU while this thread goes on, other memory at once.
            self._pixels[:count].copy_(torch.from_numpy(batch), non_blocking=True)
            if self._graph is None:
                self._outputs = self._compute()
            else:
                self._graph.replay()
            self._host[:count].copy_(self._outputs[:count], non_blocking=True)
            self._done.record()
        # For this stream only: meanwhile another one computes the next batch.
        self._done.synchronize()
        return cast(Vectors, self._host[:count].numpy().copy())

    def _compute(self) -> Tensor:
        return self._network.outputs(self._pixels, self._padded)

    def _captured(self, expected: Tensor) -> tuple[torch.cuda.CUDAGraph | None, Tensor]:
        """Return a graph that computes a batch, and its outputs; None where that fails or gives other numbers.

        Without a graph, the same kernels are launched one by one: about forty for each batch.
        """
        # torch gives back the memory of the computation before, and takes that of the graph.
        graph = torch.cuda.CUDAGraph()
        try:
            # Other streams may go on: only what this thread does must be a part of the graph.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = self._compute()
            with torch.cuda.stream(self._stream):
                graph.replay()
                if torch.equal(outputs, expected):
                    return graph, outputs
            log.info("no CUDA graph: it gave other numbers")
        except RuntimeError as error:
            if is_out_of_gpu_memory(error, self._network.device):
                raise
            log.info("no CUDA graph: %s", error)
            # A capture that failed may leave its stream unusable.
            self._stream = torch.cuda.Stream(self._network.device)  # type: ignore[no-untyped-call]
        return None, expected


def empty_cache() -> None:
    """Give back the memory of the GPUs that torch keeps and does not use, but not while a graph is captured."""
    with _OPENING:
        torch.cuda.empty_cache()


def pinned_batch(count: int, side: int) -> Pixels:
    """Return memory for pictures (count, side, side, 3) from which a GPU copies by itself.

    torch keeps it for the next batch when this array is gone.
    """
    return cast(Pixels, torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=True).numpy())
