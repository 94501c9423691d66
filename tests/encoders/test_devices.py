"""Devices, precisions and batch sizes: what auto chooses, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import torch

from imgindex.encoders import devices
from imgindex.encoders.devices import (
    MAX_CPU_STREAMS,
    choose_device,
    choose_precision,
    default_batch_size,
    stream_count,
    working_devices,
)
from imgindex.errors import DeviceUnavailable

CPU = torch.device("cpu")
GPU = torch.device("cuda")


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


@pytest.fixture
def two_gpus(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


def test_auto_is_the_cpu_where_there_is_no_gpu(no_accelerator: None) -> None:
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps", "tpu", "", "cuda:x", "meta", "GPU"])
def test_a_device_that_this_machine_lacks_is_refused_by_name_with_a_hint(no_accelerator: None, name: str) -> None:
    with pytest.raises(DeviceUnavailable) as error:
        choose_device(name)
    assert repr(name) in str(error.value)
    assert "auto" in error.value.hint


def test_auto_is_the_gpu(two_gpus: None) -> None:
    assert choose_device("auto") == GPU
    assert choose_device("cuda") == GPU
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_a_gpu_beyond_the_last_is_refused(two_gpus: None, name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=name):
        choose_device(name)


def test_auto_is_apples_gpu_where_there_is_no_other(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    assert choose_device("mps") == torch.device("mps")
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The lines of /proc/cpuinfo, as far as imgindex sees it; without lines the file does not exist."""
    lines: list[str] = []

    def opened(path: str, **options: Any) -> StringIO:
        assert path == "/proc/cpuinfo"
        if not lines:
            raise FileNotFoundError(path)
        return StringIO("\n".join(lines))

    monkeypatch.setattr(devices, "open", opened, raising=False)
    return lines


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu sse2 avx2 avx512f amx_bf16 amx_tile", "bf16"),
        ("fpu sse2 avx2 avx512f avx512_bf16", "bf16"),
        ("fpu sse2 avx2 avx512f avx512_vnni", "fp32"),
        ("fpu sse2 avx2", "fp32"),
        ("", "fp32"),
    ],
)
def test_auto_is_bf16_where_the_cpu_has_instructions_for_it(cpuinfo: list[str], flags: str, precision: str) -> None:
    cpuinfo += ["processor\t: 0", "model name\t: amx_bf16 in name only", f"flags\t\t: {flags}", "bugs\t\t: none"]
    assert choose_precision("auto", CPU) == precision


def test_auto_is_fp32_where_the_instructions_of_the_cpu_are_unknown(cpuinfo: list[str]) -> None:
    assert choose_precision("auto", CPU) == "fp32"
    cpuinfo += ["processor : 0", "Features : fp asimd bf16"]
    assert choose_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize(("able", "precision"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu_is_bf16_unless_it_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch, able: bool, precision: str
) -> None:
    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return able or including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", is_bf16_supported)
    assert choose_precision("auto", GPU) == precision


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_named_precision_is_taken(name: str) -> None:
    assert choose_precision(name, CPU) == name
    assert choose_precision(name, GPU) == name


@pytest.mark.parametrize("name", ["fp8", "float32", "", "BF16"])
def test_an_unknown_precision_is_refused_with_a_hint_of_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="precision") as error:
        choose_precision(name, CPU)
    assert all(known in error.value.hint for known in ("auto", "fp32", "bf16", "fp16"))


def test_a_smaller_image_or_a_smaller_type_makes_a_larger_batch() -> None:
    sizes = [default_batch_size(CPU, "fp32", side) for side in (1024, 448, 224, 96)]
    assert 1 <= sizes[0] < sizes[1] < sizes[2] < sizes[3]
    assert default_batch_size(CPU, "fp32", 448) < default_batch_size(CPU, "bf16", 448)
    assert default_batch_size(CPU, "bf16", 224) < default_batch_size(GPU, "bf16", 224)


def test_all_gpus_share_the_work_unless_one_is_named_by_its_number(two_gpus: None) -> None:
    assert working_devices(GPU) == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert working_devices(torch.device("cuda", 1)) == [torch.device("cuda", 1)]
    assert working_devices(CPU) == [CPU]


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (4, 4), (64, MAX_CPU_STREAMS)])
def test_a_cpu_has_a_stream_for_each_thread_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, threads: int, streams: int
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert stream_count(CPU) == streams
