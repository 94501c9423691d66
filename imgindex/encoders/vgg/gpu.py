"""VGG-16 on a GPU, by torch: in a precision, with batches that fit into its memory."""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.devices import GPU_STREAMS, choose_gpu_precision, default_batch_size
from imgindex.encoders.output import finish
from imgindex.encoders.vgg.cuda import cudnn_without_tf32, fastest_network
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.vgg.network import Network, VggNetwork
from imgindex.encoders.weights import load_weights
from imgindex.errors import DeviceUnavailable, is_out_of_memory
from imgindex.recipe import Recipe
from imgindex.types import Engine, Pixels, Vectors

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(slots=True)
class Stream:
    """What computes one batch at a time: the network on a device, and on CUDA a stream of its own.

    scale, shift: turn a row of pixels, 0…255 in the images' own channel order, into the input of the network.
    """

    network: Network
    device: torch.device
    scale: Tensor
    shift: Tensor
    cuda_stream: torch.cuda.Stream | None = None


class VggGpuEncoder:
    """Encodes images with the VGG-16 of a recipe on a GPU; implements `Encoder`.

    device: cuda, for all GPUs, cuda:N or mps. A batch that does not fit into the device's memory is halved, and so are
    all later ones.

    Raises DeviceUnavailable, WeightsUnavailable or WeightsMismatch when it is made.
    """

    def __init__(self, recipe: Recipe, weights: WeightsFile, engine: Engine, device: str) -> None:
        self.recipe, self.device = recipe, device
        self._weights, self._engine = weights, engine
        self.precision = choose_gpu_precision(engine.precision, device)
        self.batch_size = engine.batch_size or default_batch_size(device, self.precision, recipe.side)
        self._dtype = DTYPES[self.precision]
        network = VggNetwork(recipe.layer)
        network.load_state_dict(state_dict(weights, recipe.layer), assign=True)
        network = network.eval().to(self._dtype).to(memory_format=torch.channels_last)
        self._idle_streams: queue.SimpleQueue[Stream] = queue.SimpleQueue()
        devices = working_devices(torch.device(device))
        self.streams = (GPU_STREAMS if device.startswith("cuda") else 1) * len(devices)
        for working in devices:
            self._open_streams(network if len(devices) == 1 else copy.deepcopy(network), working)

    def encode(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) of uint8 images (n, side, side, 3).

        At most `streams` calls compute at the same time; further ones wait. Raises DeviceUnavailable when even a single
        image does not fit into the device's memory.
        """
        try:
            return self._forward(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                hint = "free memory there, or compute elsewhere with `device=cpu`"
                raise DeviceUnavailable(
                    f"{self.device} does not have enough memory for a single image", hint=hint
                ) from error
        # Outside the except block: there the traceback would keep the failed batch's tensors alive.
        half = (len(batch) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        log.warning("%s is out of memory: continuing with batches of %d", self.device, self.batch_size)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return np.concatenate([self.encode(batch[:half]), self.encode(batch[half:])])

    def fp32(self) -> VggGpuEncoder:
        """Return an encoder that computes the same in fp32; this one if its precision is fp32."""
        if self.precision == "fp32":
            return self
        return VggGpuEncoder(self.recipe, self._weights, replace(self._engine, precision="fp32"), self.device)

    @torch.inference_mode()
    def _forward(self, batch: Pixels) -> Vectors:
        with self._borrow_stream() as stream:
            pixels = torch.from_numpy(batch)
            if stream.cuda_stream is not None:
                pixels = pixels.pin_memory()
            pixels = pixels.to(stream.device, non_blocking=stream.cuda_stream is not None)
            outputs = stream.network.head(stream.network.maps(self._normalised(pixels, stream))).float()
            # This waits for its own stream only: meanwhile another one computes the next batch.
            return finish(cast(Vectors, outputs.cpu().numpy()), self.recipe)

    def _normalised(self, pixels: Tensor, stream: Stream) -> Tensor:
        """Return the input (n, 3, side, side) of the network for pixels (n, side, side, 3).

        Rows of RGB pixels are the memory format channels_last, so nothing is transposed.
        """
        rows = torch.addcmul(stream.shift, pixels.flatten(2).float(), stream.scale)
        return rows.to(self._dtype).view(pixels.shape).permute(0, 3, 1, 2)

    def _open_streams(self, network: VggNetwork, device: torch.device) -> None:
        chosen: Network = network.to(device)
        if device.type == "cuda":
            chosen = fastest_network(network, self.batch_size, self.recipe.side)
        order = slice(None, None, -1) if self.recipe.channels == "bgr" else slice(None)
        mean, std = torch.tensor(self.recipe.mean[order]), torch.tensor(self.recipe.std[order])
        scale = (1 / (255 * std)).repeat(self.recipe.side).to(device)
        shift = (-mean / std).repeat(self.recipe.side).to(device)
        for _ in range(GPU_STREAMS if device.type == "cuda" else 1):
            cuda_stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
            self._idle_streams.put(Stream(chosen, device, scale, shift, cuda_stream))

    @contextlib.contextmanager
    def _borrow_stream(self) -> Iterator[Stream]:
        """Take an idle stream, and return it afterwards; wait while there is none."""
        stream = self._idle_streams.get()
        try:
            if stream.cuda_stream is None:
                yield stream
            else:
                with torch.cuda.stream(stream.cuda_stream), cudnn_without_tf32():
                    yield stream
        finally:
            self._idle_streams.put(stream)


def working_devices(device: torch.device) -> list[torch.device]:
    """Return the devices that share the work: every GPU for cuda without a number, otherwise the device alone."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def state_dict(weights: WeightsFile, layer: str) -> dict[str, Tensor]:
    """Return the weights as a state dict. Those that are mapped cannot be written to, which torch warns of: copied."""
    arrays = load_weights(weights, shapes(layer))
    return {name: torch.from_numpy(array if array.flags.writeable else array.copy()) for name, array in arrays.items()}
