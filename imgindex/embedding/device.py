"""Which device computes, in which precision, with how much at a time: chosen by the machine unless it is told."""

from __future__ import annotations

import torch

from imgindex.errors import DeviceUnavailable

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# "DefaultCPUAllocator: can't allocate memory" on Linux and macOS, "… not enough memory" on Windows.
OUT_OF_MEMORY = ("DefaultCPUAllocator", "std::bad_alloc", "out of memory")
# Lanes of a processor: each takes some 100 MB, and from here on several cores share one.
MOST_CPU_LANES = 16
# Lanes of a GPU: one copies while the other computes.
GPU_LANES = 2


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


def same_devices(device: torch.device) -> list[torch.device]:
    """Return the devices that share the work: all GPUs, unless one was named by its number."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def lane_count(device: torch.device) -> int:
    """Return how many batches are under way on a device at once.

    Cores that work each on a batch of its own never wait for one another, as those that share one do after each layer.
    """
    if device.type == "cpu":
        return min(torch.get_num_threads(), MOST_CPU_LANES)
    return GPU_LANES if device.type == "cuda" else 1


def default_batch_size(device: torch.device, precision: str, side: int) -> int:
    """Return a batch that keeps a lane busy.

    On a GPU, as many pictures as have the pixels of 64 at 224 px. On a processor, up to 32, but what takes seconds is
    too long to wait for after Ctrl-C: as many as have the pixels of 16 at 448 px in half precision, of 4 in fp32. Fewer
    than 16 would read the 100 million weights of fc1 too often.
    """
    if device.type == "cpu":
        return max(1, min(32, round((4 if precision == "fp32" else 16) * (448 / side) ** 2)))
    return max(4, round(64 * (224 / side) ** 2))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory; elsewhere than on CUDA it says so in words only."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
