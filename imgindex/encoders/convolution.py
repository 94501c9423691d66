"""A convolution whose arithmetic depends on its arguments alone, not on what the program has set for all of torch."""

from __future__ import annotations

import torch
from torch import Tensor


def convolution(maps: Tensor, weight: Tensor, *, padding: int = 0) -> Tensor:
    """Return the convolution (n, out, …) of maps (n, in, h, w) with a weight (out, in, kh, kw), without a bias.

    On an NVIDIA GPU, fp32 is never rounded to TF32, and sums of half precision are kept in fp32. cuDNN's heuristics
    choose a deterministic algorithm; none is timed. torch's flags for all this belong to the whole process: other
    threads and the caller's program have theirs. So the operator is called that `torch.conv2d` itself calls, and that
    takes them as arguments. A product of matrices has no such arguments; a convolution with a kernel as large as its
    maps is one.

    >>> convolution(torch.ones(1, 2, 3, 3), torch.ones(4, 2, 3, 3)).flatten().tolist()
    [18.0, 18.0, 18.0, 18.0]
    """
    return torch._convolution(
        maps,
        weight,
        None,
        [1, 1],
        [padding, padding],
        [1, 1],
        False,  # not transposed
        [0, 0],
        1,
        False,  # benchmark
        True,  # deterministic
        True,  # cudnn_enabled
        False,  # allow_tf32
    )
