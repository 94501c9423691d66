"""The embedder: the network on a device, in a precision, with batches that fit into its memory."""

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

from imgindex.embedding.cudnn import exactly, fastest
from imgindex.embedding.device import (
    DTYPES,
    choose_device,
    choose_precision,
    default_batch_size,
    lane_count,
    out_of_memory,
    same_devices,
)
from imgindex.embedding.fused import fuse
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.vgg import Extractor, FeatureExtractor
from imgindex.embedding.weights import WeightsFile, load
from imgindex.errors import DeviceUnavailable
from imgindex.types import Engine, Pixels, Vectors

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Lane:
    """What one batch at a time computes with: the network on a device, and a stream of its own on a GPU.

    scale and shift take a row of pixels, 0…255 in the pictures' own channel order, to what the network expects.
    """

    network: Extractor
    device: torch.device
    scale: Tensor
    shift: Tensor
    stream: torch.cuda.Stream | None = None


class VggEmbedder:
    """Embeds prepared pictures by the recipe's network; implements `Embedder`.

    Batches that do not fit into the device's memory are halved, and stay so.

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
        network = FeatureExtractor(recipe.cut)
        network.load_state_dict(load(weights, network.shapes()), assign=True)
        network = network.eval().to(self._dtype).to(memory_format=torch.channels_last)
        self._lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        devices = same_devices(self.device)
        self.lanes = lane_count(self.device) * len(devices)
        for device in devices:
            self._open_lanes(network if len(devices) == 1 else copy.deepcopy(network), device)

    def embed(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) for uint8 pictures (n, side, side, 3); `lanes` threads may do so.

        Raises DeviceUnavailable when even a single picture does not fit into the device's memory.
        """
        try:
            return self._forward(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                hint = "free memory there, or compute elsewhere with --device cpu"
                raise DeviceUnavailable(f"{self.device} has no memory for a single picture", hint=hint) from error
        # Outside the except block: there the traceback would keep the failed batch's tensors alive.
        half = (len(batch) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        log.warning("%s is out of memory: going on with batches of %d", self.device, self.batch_size)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        first, second = self.embed(batch[:half]), self.embed(batch[half:])
        return cast(Vectors, torch.cat([torch.from_numpy(first), torch.from_numpy(second)]).numpy())

    def exact(self) -> VggEmbedder:
        """Return an embedder that computes the same in fp32, this one if it does."""
        if self.precision == "fp32":
            return self
        return VggEmbedder(self.recipe, self._weights, replace(self._engine, precision="fp32"))

    @torch.inference_mode()
    def _forward(self, batch: Pixels) -> Vectors:
        with self._lane(len(batch)) as lane:
            pixels = torch.from_numpy(batch)
            if lane.stream is not None:
                pixels = pixels.pin_memory().to(lane.device, non_blocking=True)
            network = lane.network
            maps = []
            for group in _pieces(pixels, network.deep_batch):
                parts = (part.to(lane.device) for part in _pieces(group, network.shallow_batch))
                maps.append(network.deep(torch.cat([network.shallow(self._normalised(part, lane)) for part in parts])))
            vectors = normalise(network.head(torch.cat(maps)).float(), self.recipe.norm)
            # Waits for this lane alone: meanwhile the next batch is computed in another one.
            return cast(Vectors, vectors.cpu().numpy())

    def _normalised(self, pixels: Tensor, lane: Lane) -> Tensor:
        """Return pictures (n, 3, side, side) as the network wants them.

        Rows of RGB pixels are what channels_last means, so this transposes nothing.
        """
        rows = torch.addcmul(lane.shift, pixels.flatten(2).float(), lane.scale)
        return rows.to(self._dtype).view(pixels.shape).permute(0, 3, 1, 2)

    def _open_lanes(self, network: FeatureExtractor, device: torch.device) -> None:
        chosen: Extractor = network.to(device)
        if device.type == "cpu":
            chosen = fuse(network, self.batch_size, self.recipe.side) or network
        elif device.type == "cuda":
            chosen = fastest(network, self.batch_size, self.recipe.side)
        order = slice(None, None, -1) if self.recipe.channels == "bgr" else slice(None)
        mean, std = torch.tensor(self.recipe.mean[order]), torch.tensor(self.recipe.std[order])
        scale = (1 / (255 * std)).repeat(self.recipe.side).to(device)
        shift = (-mean / std).repeat(self.recipe.side).to(device)
        for _ in range(lane_count(device)):
            stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
            self._lanes.put(Lane(chosen, device, scale, shift, stream))

    @contextlib.contextmanager
    def _lane(self, pictures: int) -> Iterator[Lane]:
        """Take a lane; on a processor a whole batch has its share of the threads, a smaller one may have them all."""
        lane = self._lanes.get()
        try:
            if lane.stream is not None:
                with torch.cuda.stream(lane.stream), exactly():
                    yield lane
            elif self.lanes > 1 and pictures >= self.batch_size:
                torch.set_num_threads(max(1, self._threads // self.lanes))
                try:
                    yield lane
                finally:
                    # It is also what threads begin with that are started later.
                    torch.set_num_threads(self._threads)
            else:
                yield lane
        finally:
            self._lanes.put(lane)


def _pieces(pixels: Tensor, length: int) -> tuple[Tensor, ...]:
    """Cut a batch into pieces of about that length, with no small rest."""
    pieces = max(1, round(len(pixels) / length))
    return torch.split(pixels, -(-len(pixels) // pieces))


def normalise(vectors: Tensor, norm: str) -> Tensor:
    """Return vectors of length 1 for the norm l2 (a zero vector stays zero), as they are for none."""
    return torch.nn.functional.normalize(vectors, dim=1) if norm == "l2" else vectors
