"""Which device computes, in which precision, and how much at a time: what `auto` chooses on this machine."""

from __future__ import annotations

import torch

from imgindex.errors import DeviceUnavailable

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# torch has a class of its own only for CUDA. Its allocator on a CPU raises a RuntimeError with the first of these words
# ("DefaultCPUAllocator: can't allocate memory" on Linux and macOS, "… not enough memory" on Windows).
OUT_OF_MEMORY = ("DefaultCPUAllocator", "std::bad_alloc", "out of memory")
# Each stream of a CPU takes some 100 MB, and beyond this number a stream has several cores.
MAX_CPU_STREAMS = 16
# On a GPU one stream copies while the other computes.
GPU_STREAMS = 2


def choose_device(name: str) -> torch.device:
    """Return the device of that name; auto is the first NVIDIA GPU, else Apple's GPU, else the CPU.

    Raises DeviceUnavailable for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"unknown device {name!r}", hint="choose auto, cpu, cuda, cuda:N or mps") from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise DeviceUnavailable(f"this machine does not have a device {name!r} that torch can use")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16; auto is half precision where the device computes it faster than fp32.

    On a GPU bf16 is preferred to fp16: activations of Oxford's VGG-16 come near the largest fp16 number.

    Raises DeviceUnavailable for an unknown precision.
    """
    if name != "auto":
        if name not in DTYPES:
            raise DeviceUnavailable(f"unknown precision {name!r}", hint="choose auto, fp32, bf16 or fp16")
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Return whether the CPU has instructions for bf16 (AMX or AVX512-BF16); without them torch emulates it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def working_devices(device: torch.device) -> list[torch.device]:
    """Return the devices that share the work: every GPU for cuda without a number, otherwise the device alone."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def stream_count(device: torch.device) -> int:
    """Return how many batches a device computes at the same time.

    Cores that each compute a batch of their own never wait for one another. Cores that share a batch wait after each
    layer.
    """
    if device.type == "cpu":
        return min(torch.get_num_threads(), MAX_CPU_STREAMS)
    return GPU_STREAMS if device.type == "cuda" else 1


def default_batch_size(device: torch.device, precision: str, side: int) -> int:
    """Return how many images of `side` pixels keep a stream busy.

    On a GPU: images with as many pixels as 64 of 224 px, but at least 4. On a CPU: with as many pixels as 16 of 448 px
    in half precision, or 4 in fp32, and at most 32. A batch that takes seconds delays the end after Ctrl-C too long;
    fewer than 16 images would read the 100 million weights of fc1 too often.
    """
    if device.type == "cpu":
        return max(1, min(32, round((4 if precision == "fp32" else 16) * (448 / side) ** 2)))
    return max(4, round(64 * (224 / side) ** 2))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch raised this error because memory ran out; except on CUDA only its message shows that."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
