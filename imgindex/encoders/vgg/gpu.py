"""VGG-16 on a GPU, by torch: streams on one or several devices, with batches that fit into their memory."""

from __future__ import annotations

import contextlib
import logging
import threading
from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import numpy as np
import torch

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.cuda_errors import is_cuda_error, is_out_of_gpu_memory, unusable
from imgindex.encoders.devices import GPU_STREAMS, choose_gpu_precision, default_batch_size
from imgindex.encoders.output import finish
from imgindex.encoders.vgg import cuda
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.vgg.network import CHANNELS, VggNetwork
from imgindex.encoders.weights import load_weights
from imgindex.errors import DeviceUnavailable
from imgindex.recipe import Recipe
from imgindex.types import Engine, Pixels, Vectors

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Numbers for each pixel of a picture where the network needs most memory: the second convolution reads 64 channels and
# writes 64.
PEAK_CHANNELS = CHANNELS + 2 * 64


class Stream(Protocol):
    """Computes one batch at a time on a device; `size`: how many pictures it computes then, None for those given."""

    @property
    def size(self) -> int | None: ...

    def outputs(self, batch: Pixels) -> Vectors:
        """Return the network's outputs, float32 (n, dimension), of uint8 images (n, side, side, 3)."""
        ...


class PlainStream:
    """Computes each batch as it comes, on a device that is not NVIDIA's."""

    size = None

    def __init__(self, network: VggNetwork) -> None:
        self._network = network

    @torch.inference_mode()
    def outputs(self, batch: Pixels) -> Vectors:
        """Return the network's outputs; see `Stream`."""
        pixels = torch.from_numpy(batch).to(self._network.device)
        padded = self._network.new_input(len(batch), batch.shape[1])
        return cast(Vectors, self._network.outputs(pixels, padded).cpu().numpy())


@dataclass(slots=True, eq=False)
class Device:
    """A device with the network on it, once it is used; `works` after its first batch.

    is_needed: without it nothing is computed; others are left out if they do not work.
    """

    device: torch.device
    is_needed: bool
    network: VggNetwork | None = None
    works: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True, order=True)
class Place:
    """A place for one batch at a time on a device; its stream is opened when it is used."""

    number: int
    device: Device = field(compare=False)
    stream: Stream | None = field(default=None, compare=False)


class VggGpuEncoder:
    """Encodes images with the VGG-16 of a recipe on a GPU; implements `Encoder`.

    device: cuda, for all GPUs, cuda:N or mps. With several GPUs, each further one is opened when the ones before are
    busy, and is left out if that fails. Where a batch does not fit into a device's memory, this and all later ones are
    made smaller.

    Raises DeviceUnavailable, WeightsUnavailable or WeightsMismatch when it is made.
    """

    def __init__(self, recipe: Recipe, weights: WeightsFile, engine: Engine, device: str) -> None:
        self.recipe, self.device = recipe, device
        self._weights, self._engine = weights, engine
        precision = engine.precision
        if precision == "auto" and recipe.name == "article":
            precision = "fp32"  # it reproduces another program's numbers
        self.precision = choose_gpu_precision(precision, device)
        self._tensors: Mapping[str, Vectors] = load_weights(weights, shapes(recipe.layer))
        devices = working_devices(torch.device(device))
        try:
            self.batch_size = engine.batch_size or fitting_batch_size(devices, self.precision, recipe.side)
        except RuntimeError as error:
            raise unusable(device, error) from error
        self._devices = [Device(one, is_needed=number == 0) for number, one in enumerate(devices)]
        count = GPU_STREAMS if device.startswith("cuda") else 1
        # Sorted, so that later devices are used when earlier ones are busy.
        self._idle = [Place(n, one) for n, one in enumerate(one for one in self._devices for _ in range(count))]
        self.streams = len(self._idle)
        self._changed = threading.Condition()
        self._alone = threading.Lock()
        # Opens the first stream. What fails there would fail in the middle of a run otherwise.
        self._all_outputs(np.zeros((1, recipe.side, recipe.side, 3), np.uint8))

    def encode(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) of uint8 images (n, side, side, 3).

        At most `streams` calls compute at the same time; further ones wait. Raises DeviceUnavailable when a device
        fails, or when even a single image does not fit into its memory.
        """
        return finish(self._all_outputs(batch), self.recipe)

    def empty_batch(self, count: int) -> Pixels:
        """Return memory for a batch (count, side, side, 3), from which `encode` copies fastest."""
        if self.device.startswith("cuda"):
            with contextlib.suppress(RuntimeError):  # the system limits how much memory may be pinned
                return cuda.pinned_batch(count, self.recipe.side)
        return np.empty((count, self.recipe.side, self.recipe.side, 3), np.uint8)

    def fp32(self) -> VggGpuEncoder:
        """Return an encoder that computes the same in fp32, one picture at a time; this one if its precision is fp32.

        Another precision is measured with it, on a few pictures.
        """
        if self.precision == "fp32":
            return self
        engine = replace(self._engine, precision="fp32", batch_size=1)
        first = str(self._devices[0].device)
        return VggGpuEncoder(self.recipe, self._weights, engine, first)

    def _all_outputs(self, batch: Pixels) -> Vectors:
        parts: list[Vectors] = []
        done = 0
        while done < len(batch) or not parts:
            part = self._next_outputs(batch[done:])
            if part is not None:
                parts.append(part)
                done += len(part)
        return np.concatenate(parts)

    def _next_outputs(self, batch: Pixels) -> Vectors | None:
        """Return the outputs of the first images; None where they have to be tried again, with fewer or elsewhere."""
        with self._borrow() as place:
            device, size = place.device, self.batch_size
            part = batch[:size]
            try:
                outputs = self._outputs(place, part, size)
                device.works = True
                return outputs
            except RuntimeError as error:
                failure = unusable(str(device.device), error)
                is_optional = not (device.works or device.is_needed)
                if not is_optional and not is_out_of_gpu_memory(error, device.device):
                    if device.works and not is_cuda_error(error):
                        raise
                    raise failure from error
            # Outside the except block: there the traceback would keep the failed batch's tensors alive.
            tried = size if place.stream is None else place.stream.size or len(part)
            place.stream = None
        if is_optional:
            self._leave_out(device, failure)
        elif tried > 1:
            self._make_smaller((tried + 1) // 2)
        else:
            return self._outputs_alone(device, part[:1])
        return None

    def _outputs(self, place: Place, batch: Pixels, size: int) -> Vectors:
        """Return the outputs of a batch of at most `size` images, in a stream for so many."""
        if place.stream is None or (place.stream.size or size) != size:
            place.stream = None  # its memory is free for the new one
            place.stream = self._opened(place.device, size)
        return place.stream.outputs(batch)

    def _opened(self, device: Device, size: int) -> Stream:
        with device.lock:
            if device.network is None:
                device.network = VggNetwork(self.recipe, self._tensors, device.device, DTYPES[self.precision])
        if device.device.type == "cuda":
            return cuda.CudaStream(device.network, self.recipe.side, size)
        return PlainStream(device.network)

    def _outputs_alone(self, device: Device, image: Pixels) -> Vectors:
        """Return the output of one image for which there was too little memory, while nothing else is on its device."""
        with self._alone, contextlib.ExitStack() as stack:
            places = [stack.enter_context(self._borrow(device)) for _ in range(self.streams // len(self._devices))]
            for place in places:
                place.stream = None
            self._empty_cache()
            try:
                return self._outputs(places[0], image, 1)
            except RuntimeError as error:
                if not is_out_of_gpu_memory(error, device.device):
                    raise unusable(str(device.device), error) from error
                raise DeviceUnavailable(
                    f"{device.device} does not have enough memory for a single image",
                    hint="free memory there, or compute elsewhere with `device=cpu`",
                ) from error

    def _make_smaller(self, size: int) -> None:
        with self._changed:
            is_smaller = size < self.batch_size
            self.batch_size = min(self.batch_size, size)
            for place in self._idle:
                place.stream = None
        if is_smaller:
            log.warning("%s is out of memory: continuing with batches of %d", self.device, size)
        self._empty_cache()

    def _leave_out(self, device: Device, failure: DeviceUnavailable) -> None:
        """Go on without one of several GPUs."""
        with self._changed:
            if device in self._devices:
                log.warning("going on without %s", failure)
                self._devices.remove(device)
                self._idle = [place for place in self._idle if place.device is not device]
                self.streams = GPU_STREAMS * len(self._devices)

    @contextlib.contextmanager
    def _borrow(self, device: Device | None = None) -> Iterator[Place]:
        """Lend the first idle place, of a device if one is given; wait while there is none."""

        def found() -> Place | None:
            return next((place for place in self._idle if device in (None, place.device)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None)
            place = found()
            assert place is not None
            self._idle.remove(place)
        try:
            yield place
        finally:
            with self._changed:
                if place.device in self._devices:
                    insort(self._idle, place)
                self._changed.notify_all()

    def _empty_cache(self) -> None:
        if self.device.startswith("cuda"):
            cuda.empty_cache()


def working_devices(device: torch.device) -> list[torch.device]:
    """Return the devices that share the work: every GPU for cuda without a number, otherwise the device alone."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def fitting_batch_size(devices: list[torch.device], precision: str, side: int) -> int:
    """Return how many pictures to compute at once on each of the devices.

    It depends on how much memory the GPUs have, of which their streams take half, and not on how much is free now: on
    one machine every run has batches of the same shape, and so vectors with the same bits.
    """
    size = default_batch_size(devices[0].type, precision, side)
    if devices[0].type == "cuda":
        picture = PEAK_CHANNELS * side**2 * DTYPES[precision].itemsize
        memory = min(torch.cuda.get_device_properties(device).total_memory for device in devices)
        size = max(1, min(size, memory // 2 // (GPU_STREAMS * picture)))
    return size
