"""Which device computes, in which precision, and how much at a time: what `auto` chooses on this machine.

torch is imported only where the machine may have a GPU, or where the caller names one.
"""

from __future__ import annotations

import os
import platform
import re
import sys

from imgindex.decoding.lookahead import core_count
from imgindex.errors import DeviceUnavailable

GPU_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# A driver for NVIDIA's GPUs, for those of the host of a WSL, or for AMD's makes one of these.
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
# Each stream of a CPU takes some 100 MB, and beyond this number a stream has several cores.
MAX_CPU_STREAMS = 16
# On a GPU one stream copies while the other computes.
GPU_STREAMS = 2


def choose_device(name: str) -> str:
    """Return cpu, cuda, cuda:N or mps; auto is the first NVIDIA GPU, else Apple's GPU, else the CPU.

    Raises DeviceUnavailable for a device that this machine does not have.
    """
    if name == "cpu" or (name == "auto" and not may_have_gpu()):
        return "cpu"
    if not re.fullmatch(r"auto|mps|cuda(:\d{1,3})?", name):
        raise DeviceUnavailable(f"unknown device {name!r}", hint="choose auto, cpu, cuda, cuda:N or mps")
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if gpus else "mps" if apple else "cpu"
    if apple if name == "mps" else gpus > int(name.partition(":")[2] or 0):
        return name
    raise DeviceUnavailable(f"this machine does not have a device {name!r} that torch can use")


def may_have_gpu() -> bool:
    """Return whether a driver of a GPU is there; only torch knows whether it can use the GPU."""
    return any(map(os.path.exists, DRIVERS)) or (sys.platform == "darwin" and platform.machine() == "arm64")


def choose_gpu_precision(name: str, device: str) -> str:
    """Return fp32, bf16 or fp16 for a GPU; auto is fp16 on CUDA, and fp32 elsewhere.

    fp16 takes as long as bf16 and rounds an eighth as much; `network.SCALE` keeps activations within its range.

    Raises DeviceUnavailable for another precision.
    """
    if name not in GPU_PRECISIONS:
        hint = f"choose {', '.join(GPU_PRECISIONS[:-1])} or {GPU_PRECISIONS[-1]}, or `device=cpu`"
        raise DeviceUnavailable(f"the device {device} does not compute in the precision {name!r}", hint=hint)
    if name != "auto":
        return name
    return "fp16" if device.startswith("cuda") else "fp32"


def cpu_flags() -> frozenset[str]:
    """Return the names of the CPU's instructions, as Linux names them; none on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = (line.partition(":")[2].split() for line in file if line.startswith("flags"))
            return frozenset(next(lines, []))
    except OSError:
        return frozenset()


def cpu_threads() -> int:
    """Return how many threads compute on the CPU: one for each core of this process, or as OMP_NUM_THREADS says."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit):
        return int(limit)
    return core_count()


def cpu_streams() -> int:
    """Return how many pictures a CPU computes at the same time: one for each thread, up to MAX_CPU_STREAMS."""
    return min(cpu_threads(), MAX_CPU_STREAMS)


def default_batch_size(device: str, precision: str, side: int) -> int:
    """Return how many images of `side` pixels to pass to a stream at once.

    On an NVIDIA GPU: as many pixels as 256 images of 224 px have, because the last convolutions of 64 would fill its
    processors only one and a half times. On another GPU: as many as 64 have. At least 4 images on both. On a CPU: as
    many pixels as 16 images of 448 px have, or 4 in fp32, and at most 32 images: a batch that takes seconds delays the
    end after Ctrl-C too long.
    """
    if device == "cpu":
        return max(1, min(32, round((4 if precision == "fp32" else 16) * (448 / side) ** 2)))
    return max(4, round((256 if device.startswith("cuda") else 64) * (224 / side) ** 2))
