"""The errors, tested: each explains itself and has an exit code, and those for memory are told from others."""

from __future__ import annotations

import pytest

from imgindex import errors
from imgindex.errors import is_out_of_memory


def test_every_error_explains_itself_and_has_an_exit_code_of_the_contract() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__doc__
        assert kind.exit_code in (1, 2)
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ImportError("libfaiss.so: failed to map segment from shared object"),
        SystemError("<method 'read'> returned NULL without setting an exception"),
        RuntimeError("can't start new thread"),
        # OpenVINO: a layer's memory, a tensor's, and a thread.
        RuntimeError("Exception from src/plugins/intel_cpu/src/graph.cpp:1628: Node of type Convolution can't alloc "),
        RuntimeError("Check 'ptr' failed at cpu_memory.cpp:257: Failed to allocate 13107200 bytes of memory"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:117: Resource temporarily unavailable"),
        # torch on a GPU.
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=str,
)
def test_an_error_for_lack_of_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(ValueError, match="raised from it") as raised:
        raise ValueError("raised from it") from error
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("failed to allocate"),
        OSError(11, "Resource temporarily unavailable"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:117: unsupported shape"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
    ids=str,
)
def test_another_error_is_not_taken_for_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
