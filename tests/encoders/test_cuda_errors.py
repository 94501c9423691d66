"""Errors of a GPU: each word for want of memory is known, and others have a way out."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import FakeCuda

from imgindex.encoders.cuda_errors import free_memory, is_cuda_error, is_out_of_gpu_memory, unusable

GPU = torch.device("cuda", 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_word_for_want_of_memory_is_known(fake: FakeCuda, words: str) -> None:
    assert is_out_of_gpu_memory(RuntimeError(words), GPU)


@pytest.mark.parametrize("verb", ["FIND", "GET"])
def test_no_engine_means_want_of_memory_only_where_little_is_left(fake: FakeCuda, verb: str) -> None:
    error = RuntimeError(f"{verb} was unable to find an engine to execute this computation")
    assert not is_out_of_gpu_memory(error, GPU)
    fake.free = 100 << 20
    assert is_out_of_gpu_memory(error, GPU)
    # Where the process may have a part of the memory only, the rest of what is free does not count.
    fake.free, fake.share, fake.reserved = 1 << 40, 0.1, 8 << 30
    assert free_memory(GPU) == 0
    assert is_out_of_gpu_memory(error, GPU)


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("CUDA error: no kernel image is available for execution on the device", "install a torch"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "end the program"),
        ("The NVIDIA driver on your system is too old (found version 11040).", "newer driver"),
        ("Cannot re-initialize CUDA in forked subprocess.", "spawn"),
        ("something else", "`device=cpu`"),
    ],
)
def test_an_unusable_gpu_is_named_with_the_reason_and_a_way_out(words: str, way: str) -> None:
    error = unusable("cuda:1", RuntimeError(f"{words}\nCUDA kernel errors might be asynchronously reported"))
    assert str(error) == f"cuda:1: {words}"
    assert way in error.hint
    assert "`device=cpu`" in error.hint
    assert "\n" not in error.hint


def test_errors_of_a_gpu_are_told_from_those_of_a_program() -> None:
    assert is_cuda_error(RuntimeError("CUDA error: unspecified launch failure"))
    assert is_cuda_error(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    assert not is_cuda_error(RuntimeError("expected scalar type Float"))
