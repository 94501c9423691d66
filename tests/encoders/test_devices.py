"""Devices, precisions and batch sizes: what auto chooses, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from imgindex.encoders import devices
from imgindex.encoders.devices import (
    MAX_CPU_STREAMS,
    choose_device,
    choose_gpu_precision,
    cpu_flags,
    cpu_streams,
    cpu_threads,
    default_batch_size,
    may_have_gpu,
)
from imgindex.errors import DeviceUnavailable


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a driver, of which torch cannot use anything."""
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


@pytest.fixture
def two_gpus(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


def test_auto_is_the_cpu_where_there_is_no_gpu(no_accelerator: None) -> None:
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps", "tpu", "", "cuda:x", "meta", "GPU"])
def test_a_device_that_this_machine_lacks_is_refused_by_name_with_a_hint(no_accelerator: None, name: str) -> None:
    with pytest.raises(DeviceUnavailable) as error:
        choose_device(name)
    assert repr(name) in str(error.value)
    assert "auto" in error.value.hint


def test_auto_is_the_gpu(two_gpus: None) -> None:
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_a_gpu_beyond_the_last_is_refused(two_gpus: None, name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=name):
        choose_device(name)


def test_auto_is_apples_gpu_where_there_is_no_other(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == "mps"
    assert choose_device("mps") == "mps"
    assert choose_gpu_precision("auto", "mps") == "fp32"


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


def test_the_instructions_of_the_cpu_are_read_where_linux_names_them(cpuinfo: list[str]) -> None:
    assert cpu_flags() == frozenset()
    cpuinfo += ["processor\t: 0", "model name\t: amx_bf16 in name only", "flags\t\t: fpu avx2", "bugs\t\t: none"]
    assert cpu_flags() == {"fpu", "avx2"}
    cpuinfo[:] = ["processor : 0", "Features : fp asimd bf16"]
    assert cpu_flags() == frozenset()


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_auto_on_an_nvidia_gpu_is_fp16_whatever_the_gpu(device: str) -> None:
    assert choose_gpu_precision("auto", device) == "fp16"


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_named_precision_is_taken_by_a_gpu(name: str, device: str) -> None:
    assert choose_gpu_precision(name, device) == name


@pytest.mark.parametrize("name", ["fp8", "float32", "", "BF16", "int8"])
def test_a_precision_that_a_gpu_lacks_is_refused_with_a_hint_of_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="precision") as error:
        choose_gpu_precision(name, "cuda")
    assert all(known in error.value.hint for known in ("auto", "fp32", "bf16", "fp16", "`device=cpu`"))


@pytest.mark.parametrize("driver", devices.DRIVERS)
def test_a_gpu_may_be_there_where_a_driver_is(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.path.exists", lambda path: path == driver)
    assert may_have_gpu()
    monkeypatch.setattr("os.path.exists", lambda path: False)
    assert not may_have_gpu()


@pytest.mark.parametrize(("machine", "there"), [("arm64", True), ("x86_64", False)])
def test_a_mac_may_have_a_gpu_if_its_processor_is_apples(
    monkeypatch: pytest.MonkeyPatch, machine: str, there: bool
) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: False)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert may_have_gpu() == there


def test_a_smaller_image_or_a_smaller_type_makes_a_larger_batch() -> None:
    sizes = [default_batch_size("cpu", "fp32", side) for side in (1024, 448, 224, 96)]
    assert 1 <= sizes[0] < sizes[1] < sizes[2] < sizes[3]
    assert default_batch_size("cpu", "fp32", 448) < default_batch_size("cpu", "int8", 448)
    assert default_batch_size("cpu", "bf16", 224) < default_batch_size("mps", "bf16", 224)
    assert default_batch_size("mps", "fp32", 224) < default_batch_size("cuda", "fp16", 224) == 256
    assert default_batch_size("cuda", "fp16", 448) == 64


@pytest.mark.parametrize(("threads", "streams"), [("1", 1), ("4", 4), ("64", MAX_CPU_STREAMS)])
def test_a_cpu_has_a_stream_for_each_thread_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, threads: str, streams: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert cpu_streams() == streams


@pytest.mark.parametrize("setting", [None, "", "0", "all", "-2"])
def test_a_process_has_a_thread_for_each_core_that_it_may_use(
    monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if setting is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {1, 4, 5}, raising=False)
    assert cpu_threads() == 3
