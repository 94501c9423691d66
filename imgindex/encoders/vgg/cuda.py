"""What belongs to NVIDIA GPUs alone: streams that compute as one CUDA graph, pinned memory, and their errors."""

from __future__ import annotations

import logging
import threading
from typing import cast

import torch
from torch import Tensor

from imgindex.encoders.vgg.network import VggNetwork
from imgindex.errors import DeviceUnavailable, is_out_of_memory
from imgindex.types import Pixels, Vectors

log = logging.getLogger(__name__)

# What cuDNN's caller in torch raises when each algorithm that it tries fails, and so also when no memory is left for
# any: it does not pass on why.
NO_ENGINE = "unable to find an engine to execute this computation"
# Memory below which that means that there is too little.
LITTLE_MEMORY = 1 << 30
# How the messages of torch begin where a GPU, its driver or its libraries fail.
CUDA_ERRORS = ("CUDA error", "CUDA driver", "CUBLAS_", "cuDNN error", "CUDNN_", "re-initialize CUDA", NO_ENGINE)
# What to do about some of them, by words that they contain.
WAYS_OUT = {
    "no kernel image": "install a torch that was made for this GPU",
    "busy or unavailable": "end the program that uses this GPU alone",
    "driver": "install a newer driver",
    "forked subprocess": "start the process by `spawn` instead of `fork`",
}
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
            with torch.cuda.stream(self._stream):
                self._pixels = torch.empty((size, side, side, 3), dtype=torch.uint8, device=network.device)
                self._pixels.copy_(torch.arange(3 * side, dtype=torch.uint8, device=network.device).view(side, 3))
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


def pinned_batch(count: int, side: int) -> Pixels:
    """Return memory for pictures (count, side, side, 3) from which a GPU copies by itself.

    torch keeps it for the next batch when this array is gone.
    """
    return cast(Pixels, torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=True).numpy())


def is_out_of_gpu_memory(error: BaseException, device: torch.device) -> bool:
    """Whether an error means that an NVIDIA GPU cannot give more memory, or that this process cannot get more."""
    return is_out_of_memory(error) or (NO_ENGINE in str(error) and free_memory(device) < LITTLE_MEMORY)


def free_memory(device: torch.device) -> int:
    """Return how many bytes torch can still take on a GPU: of what is free, and of what this process may have."""
    free, total = torch.cuda.mem_get_info(device)
    # torch before 2.6 does not tell the limit.
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)(device)
    return int(min(free, max(0.0, share * total - torch.cuda.memory_reserved(device))))


def is_cuda_error(error: BaseException) -> bool:
    """Whether a GPU, its driver or one of its libraries failed, rather than the program."""
    return any(words in str(error) for words in CUDA_ERRORS)


def unusable(device: str, error: BaseException) -> DeviceUnavailable:
    """Return the error of imgindex for one that torch raised on a device, with a way out."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    ways = [way for words, way in WAYS_OUT.items() if words in str(error)]
    hint = ", or ".join([*ways[:1], "compute elsewhere with `device=cpu`"])
    return DeviceUnavailable(f"{device}: {reason}", hint=hint)
