"""VggEncoder: the network on a device, in a precision, with batches that fit into its memory."""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.devices import (
    DTYPES,
    choose_device,
    choose_precision,
    default_batch_size,
    is_out_of_memory,
    stream_count,
    working_devices,
)
from imgindex.encoders.vgg.cpu import fused_network
from imgindex.encoders.vgg.cuda import cudnn_without_tf32, fastest_network
from imgindex.encoders.vgg.network import Network, VggNetwork
from imgindex.encoders.weights import load_weights
from imgindex.errors import DeviceUnavailable
from imgindex.recipe import Recipe
from imgindex.types import Engine, Pixels, Vectors

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stream:
    """What computes one batch at a time: the network on a device, and on a GPU a CUDA stream of its own.

    scale, shift: turn a row of pixels, 0…255 in the images' own channel order, into the input of the network.
    """

    network: Network
    device: torch.device
    scale: Tensor
    shift: Tensor
    cuda_stream: torch.cuda.Stream | None = None


class VggEncoder:
    """Encodes images with the VGG-16 of a recipe; implements `Encoder`.

    A batch that does not fit into the device's memory is halved, and so are all later ones.

    Raises DeviceUnavailable, WeightsUnavailable or WeightsMismatch when it is made.
    """

    def __init__(self, recipe: Recipe, weights: WeightsFile, engine: Engine) -> None:
        self.recipe = recipe
        self._weights, self._engine = weights, engine
        self.device = choose_device(engine.device)
        self.precision = choose_precision(engine.precision, self.device)
        self.batch_size = engine.batch_size or default_batch_size(self.device, self.precision, recipe.side)
        self._dtype = DTYPES[self.precision]
        self._threads = torch.get_num_threads()
        network = VggNetwork(recipe.layer)
        network.load_state_dict(load_weights(weights, network.shapes()), assign=True)
        network = network.eval().to(self._dtype).to(memory_format=torch.channels_last)
        self._idle_streams: queue.SimpleQueue[Stream] = queue.SimpleQueue()
        devices = working_devices(self.device)
        self.streams = stream_count(self.device) * len(devices)
        for device in devices:
            self._open_streams(network if len(devices) == 1 else copy.deepcopy(network), device)

    @classmethod
    def check_weights(cls, recipe: Recipe, weights: WeightsFile) -> None:
        """Raise WeightsMismatch unless the weights hold every tensor that the recipe needs."""
        load_weights(weights, VggNetwork(recipe.layer).shapes())

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
                hint = "free memory there, or compute elsewhere with --device cpu"
                raise DeviceUnavailable(
                    f"{self.device} does not have enough memory for a single image", hint=hint
                ) from error
        # Outside the except block: there the traceback would keep the failed batch's tensors alive.
        half = (len(batch) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        log.warning("%s is out of memory: continuing with batches of %d", self.device, self.batch_size)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        first, second = self.encode(batch[:half]), self.encode(batch[half:])
        return cast(Vectors, torch.cat([torch.from_numpy(first), torch.from_numpy(second)]).numpy())

    def fp32(self) -> VggEncoder:
        """Return an encoder that computes the same in fp32; this one if its precision is fp32."""
        if self.precision == "fp32":
            return self
        return VggEncoder(self.recipe, self._weights, replace(self._engine, precision="fp32"))

    @torch.inference_mode()
    def _forward(self, batch: Pixels) -> Vectors:
        with self._borrow_stream(len(batch)) as stream:
            pixels = torch.from_numpy(batch)
            if stream.cuda_stream is not None:
                pixels = pixels.pin_memory().to(stream.device, non_blocking=True)
            network = stream.network
            maps = []
            for group in _even_parts(pixels, network.deep_batch):
                parts = (part.to(stream.device) for part in _even_parts(group, network.shallow_batch))
                shallow_maps = [network.shallow(self._normalised(part, stream)) for part in parts]
                maps.append(network.deep(torch.cat(shallow_maps)))
            vectors = normalise(network.head(torch.cat(maps)).float(), self.recipe.norm)
            # This waits for its own stream only: meanwhile another one computes the next batch.
            return cast(Vectors, vectors.cpu().numpy())

    def _normalised(self, pixels: Tensor, stream: Stream) -> Tensor:
        """Return the input (n, 3, side, side) of the network for pixels (n, side, side, 3).

        Rows of RGB pixels are the memory format channels_last, so nothing is transposed.
        """
        rows = torch.addcmul(stream.shift, pixels.flatten(2).float(), stream.scale)
        return rows.to(self._dtype).view(pixels.shape).permute(0, 3, 1, 2)

    def _open_streams(self, network: VggNetwork, device: torch.device) -> None:
        chosen: Network = network.to(device)
        if device.type == "cpu":
            chosen = fused_network(network, self.batch_size, self.recipe.side) or network
        elif device.type == "cuda":
            chosen = fastest_network(network, self.batch_size, self.recipe.side)
        order = slice(None, None, -1) if self.recipe.channels == "bgr" else slice(None)
        mean, std = torch.tensor(self.recipe.mean[order]), torch.tensor(self.recipe.std[order])
        scale = (1 / (255 * std)).repeat(self.recipe.side).to(device)
        shift = (-mean / std).repeat(self.recipe.side).to(device)
        for _ in range(stream_count(device)):
            cuda_stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
            self._idle_streams.put(Stream(chosen, device, scale, shift, cuda_stream))

    @contextlib.contextmanager
    def _borrow_stream(self, images: int) -> Iterator[Stream]:
        """Take an idle stream, and return it afterwards; wait while there is none.

        On a CPU a whole batch is computed with the stream's share of the threads. A smaller batch, such as a query, may
        use all of them.
        """
        stream = self._idle_streams.get()
        try:
            if stream.cuda_stream is not None:
                with torch.cuda.stream(stream.cuda_stream), cudnn_without_tf32():
                    yield stream
            elif self.streams > 1 and images >= self.batch_size:
                torch.set_num_threads(max(1, self._threads // self.streams))
                try:
                    yield stream
                finally:
                    # The number also becomes the default of threads that are started later.
                    torch.set_num_threads(self._threads)
            else:
                yield stream
        finally:
            self._idle_streams.put(stream)


def _even_parts(batch: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split a batch into parts of about that size, without a small remainder."""
    parts = max(1, round(len(batch) / size))
    return torch.split(batch, -(-len(batch) // parts))


def normalise(vectors: Tensor, norm: str) -> Tensor:
    """Return vectors of length 1 for the norm l2 (a zero vector stays zero), and unchanged vectors for none."""
    return torch.nn.functional.normalize(vectors, dim=1) if norm == "l2" else vectors
