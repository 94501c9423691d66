"""What torch raises where a GPU, its driver or its libraries fail: which errors mean want of memory, and ways out."""

from __future__ import annotations

import torch

from imgindex.errors import DeviceUnavailable, is_out_of_memory

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


def is_out_of_gpu_memory(error: BaseException, device: torch.device) -> bool:
    """Whether an error means that a device cannot give more memory, or that this process cannot get more."""
    if is_out_of_memory(error):
        return True
    return NO_ENGINE in str(error) and device.type == "cuda" and free_memory(device) < LITTLE_MEMORY


def free_memory(device: torch.device) -> int:
    """Return how many bytes torch can still take on a GPU: of what is free, and of what this process may have."""
    free, total = torch.cuda.mem_get_info(device)
    # torch before 2.6 has no function for the limit.
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
