"""The embedder: the network on a device, in a precision, with batches that fit into its memory."""

from __future__ import annotations

import logging
from typing import cast

import torch
from torch import Tensor

from imgindex.embedding.recipe import Recipe
from imgindex.embedding.vgg import FeatureExtractor
from imgindex.embedding.weights import WeightsFile, load
from imgindex.errors import DeviceUnavailable
from imgindex.types import Engine, Pixels, Vectors

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# "DefaultCPUAllocator: can't allocate memory" on Linux and macOS, "… not enough memory" on Windows.
OUT_OF_MEMORY = ("DefaultCPUAllocator", "std::bad_alloc", "out of memory")


class VggEmbedder:
    """Embeds prepared pictures by the recipe's network; implements `Embedder`.

    Batches that do not fit into the device's memory are halved, and stay so.

    Raises DeviceUnavailable, WeightsUnavailable or WeightsMismatch when it is made.
    """

    def __init__(self, recipe: Recipe, weights: WeightsFile, engine: Engine) -> None:
        self.recipe = recipe
        self.device = choose_device(engine.device)
        self.precision = choose_precision(engine.precision, self.device)
        self.dtype = DTYPES[self.precision]
        self.batch_size = engine.batch_size or default_batch_size(self.device, recipe.side)
        network = FeatureExtractor(recipe.cut)
        network.load_state_dict(load(weights, network.shapes()), assign=True)
        self.network = network.eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)
        order = slice(None, None, -1) if recipe.channels == "bgr" else slice(None)
        # In the pictures' own channel order, and for pixels of 0…255.
        self.mean = torch.tensor(recipe.mean[order], device=self.device).mul(255).view(1, 3, 1, 1)
        self.std = torch.tensor(recipe.std[order], device=self.device).mul(255).view(1, 3, 1, 1)

    def embed(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) for uint8 pictures (n, side, side, 3).

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

    @torch.inference_mode()
    def _forward(self, batch: Pixels) -> Vectors:
        pixels = torch.from_numpy(batch)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        # Rows of RGB pixels are what channels_last means, so this transposes nothing.
        pictures = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        vectors = self.network(((pictures - self.mean) / self.std).to(self.dtype)).float()
        return cast(Vectors, normalise(vectors, self.recipe.norm).cpu().numpy())


def normalise(vectors: Tensor, norm: str) -> Tensor:
    """Return vectors of length 1 for the norm l2 (a zero vector stays zero), as they are for none."""
    return torch.nn.functional.normalize(vectors, dim=1) if norm == "l2" else vectors


def choose_device(name: str) -> torch.device:
    """Return the device of that name; auto takes the first GPU, then Apple's, then the processor.

    Raises DeviceUnavailable where this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"there is no device {name!r}", hint="choose auto, cpu, cuda, cuda:N or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise DeviceUnavailable(f"this machine has no device {name!r} that torch can use")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16; auto takes half precision where the device computes it faster than fp32.

    On a GPU bf16 goes before fp16: activations of Oxford's VGG-16 come near the largest fp16 number.

    Raises DeviceUnavailable for a precision that there is not.
    """
    if name != "auto":
        if name not in DTYPES:
            raise DeviceUnavailable(f"there is no precision {name!r}", hint="choose auto, fp32, bf16 or fp16")
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 by itself (AMX or AVX512-BF16); elsewhere torch would emulate it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def default_batch_size(device: torch.device, side: int) -> int:
    """Return a batch that keeps the device busy: as many pictures as have the pixels of 64 (GPU) or 16 at 224 px."""
    pictures = 16 if device.type == "cpu" else 64
    return max(4, round(pictures * (224 / side) ** 2))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory; elsewhere than on CUDA it says so in words only."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
