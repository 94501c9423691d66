"""The encoder by torch, on the processor where it needs no GPU: one vector an image, whatever batch and memory."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from fake_cuda import FakeCuda
from torch import Tensor

from imgindex.encoders.devices import default_batch_size
from imgindex.encoders.vgg import cuda
from imgindex.encoders.vgg.gpu import VggGpuEncoder, fitting_batch_size, working_devices
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.vgg.network import generalised_mean
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.errors import DeviceUnavailable, WeightsMismatch
from imgindex.recipe import RECIPES
from imgindex.types import Engine

SMALL = replace(RECIPES["vgg16-pool5"], side=64, offset="", offset_sha256="")
Pixels = npt.NDArray[np.uint8]


def encoder(recipe: Any = SMALL, device: str = "cpu", **engine: Any) -> VggGpuEncoder:
    return VggGpuEncoder(recipe, locate_weights("oxford"), Engine(**{"precision": "fp32"} | engine), device)


@pytest.fixture
def small() -> VggGpuEncoder:
    return encoder()


def pictures(count: int, side: int = 64) -> Pixels:
    """Images that differ, smooth enough that the network sees more than noise."""
    coarse = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)


class FakeNetwork:
    """Replaces the network of an encoder on the CPU: `answer` maps pixels (n, side, side, 3) to their outputs."""

    device = torch.device("cpu")

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.answer = answer

    def new_input(self, count: int, side: int) -> Tensor:
        return torch.empty(0)

    def outputs(self, pixels: Tensor, padded: Tensor) -> Tensor:
        return self.answer(pixels.float())


def replace_network(one: VggGpuEncoder, answer: Callable[[Tensor], Tensor]) -> None:
    one._devices[0].network = FakeNetwork(answer)  # type: ignore[assignment]
    for place in one._idle:
        place.stream = None


def cosines(a: Any, b: Any) -> Any:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_a_vector_is_the_networks_output_scaled_to_length_1(small: VggGpuEncoder) -> None:
    batch = pictures(2)
    network = torchvision.models.vgg16().eval()
    state = load_weights(locate_weights("oxford"), shapes("pool5"))
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()}, strict=False)
    # What torchvision's VGG16_Weights.IMAGENET1K_FEATURES does: to 0…1, less the mean, by the deviation of 1/255.
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(1, 3, 1, 1)
    with torch.inference_mode():
        maps = network.features((torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - mean) * 255)
        expected = generalised_mean(maps).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = small.encode(batch)
    assert vectors.shape == (2, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_norm_none_keeps_the_lengths_of_vectors(small: VggGpuEncoder) -> None:
    plain = encoder(replace(SMALL, norm="none"))
    vectors, lengths = plain.encode(pictures(3)), np.linalg.norm(plain.encode(pictures(3)), axis=1)
    assert (np.abs(lengths - 1) > 1).all()
    np.testing.assert_allclose(vectors / lengths[:, None], small.encode(pictures(3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(small.encode(pictures(3)), axis=1), 1, atol=1e-6)


def test_a_zero_vector_stays_zero(small: VggGpuEncoder) -> None:
    replace_network(small, lambda pictures: torch.zeros(len(pictures), 512))
    assert not small.encode(pictures(2)).any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_gives_the_vectors_that_its_images_give_one_by_one(precision: str) -> None:
    one = encoder(precision=precision)
    batch = pictures(5)
    together = one.encode(batch)
    alone = np.concatenate([one.encode(batch[at : at + 1]) for at in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5 if precision == "fp32" else 2e-3)
    assert cosines(together[:4], together[1:]).max() < 0.99


def test_bf16_differs_from_fp32_by_rounding_only() -> None:
    batch = pictures(4)
    exact, rounded = encoder().encode(batch), encoder(precision="bf16").encode(batch)
    assert rounded.dtype == np.float32
    assert (exact != rounded).any()
    assert cosines(exact, rounded).min() > 0.999


class OutOfMemory:
    """A network that runs out of memory for more than `room` images."""

    def __init__(self, room: int, fail: Callable[[], object]) -> None:
        self.room = room
        self.fail = fail
        self.sizes: list[int] = []

    def __call__(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            self.fail()
        return batch.mean(dim=(1, 2))


def out_of_memory_on_cuda() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def out_of_memory_on_the_cpu() -> None:
    # This raises the allocator's own error: no machine has a pebibyte.
    torch.empty(1 << 50, dtype=torch.uint8)


def out_of_memory_on_windows() -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried …")


def out_of_memory_on_mps() -> None:
    raise RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1.2 GB, max allowed: …)")


@pytest.mark.parametrize(
    "fail", [out_of_memory_on_cuda, out_of_memory_on_the_cpu, out_of_memory_on_windows, out_of_memory_on_mps]
)
@pytest.mark.parametrize(("count", "room"), [(8, 4), (8, 3), (7, 2), (5, 1), (2, 1)])
def test_out_of_memory_halves_the_batch_and_keeps_the_order(
    small: VggGpuEncoder, fail: Callable[[], None], count: int, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    small.batch_size = count
    replace_network(small, OutOfMemory(count, fail))
    expected = small.encode(pictures(count))
    network = OutOfMemory(room, fail)
    replace_network(small, network)
    with caplog.at_level(logging.WARNING):
        vectors = small.encode(pictures(count))
    assert np.array_equal(vectors, expected)
    assert len(np.unique(vectors, axis=0)) == count
    assert small.batch_size <= room
    assert f"out of memory: continuing with batches of {small.batch_size}" in caplog.text
    # The size stays: batches of it are not halved again.
    network.sizes.clear()
    small.encode(pictures(small.batch_size))
    assert network.sizes == [small.batch_size]


def test_a_small_last_batch_does_not_change_the_batch_size(small: VggGpuEncoder) -> None:
    small.batch_size = 2
    replace_network(small, OutOfMemory(2, out_of_memory_on_cuda))
    small.encode(pictures(5))
    assert small.batch_size == 2


@pytest.mark.parametrize("fail", [out_of_memory_on_cuda, out_of_memory_on_the_cpu])
def test_one_image_that_does_not_fit_is_an_error(small: VggGpuEncoder, fail: Callable[[], None]) -> None:
    replace_network(small, OutOfMemory(0, fail))
    with pytest.raises(DeviceUnavailable, match="does not have enough memory for a single image"):
        small.encode(pictures(3))


def test_other_errors_are_raised_without_a_second_try(small: VggGpuEncoder) -> None:
    def fail() -> None:
        raise RuntimeError("expected scalar type Float")

    network = OutOfMemory(0, fail)
    replace_network(small, network)
    with pytest.raises(RuntimeError, match="expected scalar type") as error:
        small.encode(pictures(4))
    assert not isinstance(error.value, DeviceUnavailable)
    assert network.sizes == [4]


def test_the_batch_size_is_the_engines_or_that_of_the_device() -> None:
    assert encoder(batch_size=3).batch_size == 3
    assert encoder().batch_size == default_batch_size("cpu", "fp32", 64)


def test_weights_without_the_recipes_layer_are_refused() -> None:
    with pytest.raises(WeightsMismatch, match="lacks classifier"):
        encoder(RECIPES["vgg16-fc1"])


def test_all_gpus_share_the_work_unless_one_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert working_devices(torch.device("cuda")) == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert working_devices(torch.device("cuda", 1)) == [torch.device("cuda", 1)]
    assert working_devices(torch.device("cpu")) == [torch.device("cpu")]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch, count=2)


TINY = replace(SMALL, side=32)


def test_auto_on_an_nvidia_gpu_is_fp16_and_the_article_is_fp32(fake: FakeCuda) -> None:
    assert encoder(TINY, "cuda", precision="auto", batch_size=2).precision == "fp16"
    assert encoder(replace(TINY, name="article"), "cuda", precision="auto", batch_size=2).precision == "fp32"


def test_the_last_batch_has_the_shape_of_the_others(fake: FakeCuda) -> None:
    one = encoder(TINY, "cuda", batch_size=4)
    batch = pictures(10, 32)
    whole = one.encode(batch)
    assert np.array_equal(np.concatenate([one.encode(batch[at : at + 1]) for at in range(10)]), whole)
    np.testing.assert_allclose(whole, encoder(TINY).encode(batch), atol=1e-5)
    assert set(fake.sizes) == {4}


def test_making_an_encoder_opens_one_stream_and_tries_no_algorithms(
    fake: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, ...]] = []
    operator = torch._convolution
    monkeypatch.setattr(torch, "_convolution", lambda *given: asked.append(given[-4:]) or operator(*given))
    encoder(TINY, "cuda", batch_size=4)
    assert fake.sizes == [4, 4], "one pass to load, one to capture"
    assert set(asked) == {(False, True, True, False)}


def in_threads(one: VggGpuEncoder, batch: Pixels, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The vectors of a batch that is encoded so many times at once: each waits in its stream until all have one."""
    together, numbers = threading.Barrier(count), itertools.count()
    outputs = one._outputs

    def waiting(place: Any, batch: Pixels, size: int) -> Any:
        if next(numbers) < count:
            together.wait(10)
        return outputs(place, batch, size)

    monkeypatch.setattr(one, "_outputs", waiting)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one.encode, [batch] * count, timeout=60))


def test_further_gpus_are_opened_when_the_first_ones_are_busy(two: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoder(TINY, "cuda", batch_size=2)
    assert one.streams == 4
    for _ in range(3):
        one.encode(pictures(2, 32))
    assert two.opened == ["cuda:0"], "a query needs no more"
    found = in_threads(one, pictures(2, 32), 4, monkeypatch)
    assert two.opened == ["cuda:0", "cuda:1"]
    assert all(np.array_equal(vectors, found[0]) for vectors in found)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: no kernel image"), torch.OutOfMemoryError("CUDA out of")])
def test_a_further_gpu_that_does_not_work_is_left_out_aloud(
    two: FakeCuda, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = encoder(TINY, "cuda", batch_size=2)
    expected = one.encode(pictures(2, 32))
    two.open_error["cuda:1"] = error
    found = in_threads(one, pictures(2, 32), 3, monkeypatch)
    assert all(np.array_equal(vectors, expected) for vectors in found)
    assert "going on without cuda:1: CUDA" in caplog.text
    assert (one.streams, one.batch_size) == (2, 2)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_that_cannot_be_used_is_an_error_with_a_way_out(fake: FakeCuda, device: str) -> None:
    fake.open_error["cuda:0"] = RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
    with pytest.raises(DeviceUnavailable, match=r"cuda:0: .*busy") as error:
        encoder(TINY, device)
    assert "`device=cpu`" in error.value.hint


def test_a_gpu_that_fails_later_is_an_error_with_a_way_out(fake: FakeCuda) -> None:
    one = encoder(TINY, "cuda", batch_size=2)
    fake.compute_error = RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(DeviceUnavailable, match="unspecified launch failure"):
        one.encode(pictures(2, 32))


@pytest.mark.parametrize("room", [1, 2, 3])
def test_the_batches_of_a_gpu_are_made_smaller_until_they_fit(fake: FakeCuda, room: int) -> None:
    fake.room = room
    one = encoder(TINY, "cuda", batch_size=8)
    assert one.batch_size == {1: 1, 2: 2, 3: 2}[room]
    assert "emptied" in fake.happened
    np.testing.assert_allclose(one.encode(pictures(5, 32)), encoder(TINY).encode(pictures(5, 32)), atol=1e-5)


def test_a_stream_that_was_opened_for_larger_batches_is_opened_again(fake: FakeCuda) -> None:
    one = encoder(TINY, "cuda", batch_size=4)
    fake.room = 2
    with one._borrow() as place:
        place.stream = None
    assert len(one.encode(pictures(4, 32))) == 4
    assert all(place.stream is None or place.stream.size == 2 for place in one._idle)


def test_one_image_that_does_not_fit_waits_for_the_other_streams(
    fake: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = encoder(TINY, "cuda", batch_size=1)
    expected = one.encode(pictures(1, 32))
    held, let_go = threading.Event(), threading.Event()
    happened: list[str] = []
    outputs = one._outputs

    def in_little_memory(place: Any, batch: Pixels, size: int) -> Any:
        if not held.is_set():
            held.set()
            let_go.wait(10)
            happened.append("the other one is done")
            return outputs(place, batch, size)
        if not happened:
            threading.Timer(0.1, let_go.set).start()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        happened.append("not alone" if one._idle or place.stream else "alone")
        return outputs(place, batch, size)

    monkeypatch.setattr(one, "_outputs", in_little_memory)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.encode, pictures(1, 32))
        assert held.wait(10)
        second = pool.submit(one.encode, pictures(1, 32))
        found = [first.result(30), second.result(30)]
    assert happened == ["the other one is done", "alone"]
    assert all(np.array_equal(vectors, expected) for vectors in found)
    assert len(one._idle) == 2


def test_one_image_that_fits_into_no_memory_is_an_error(fake: FakeCuda) -> None:
    fake.room = 0
    with pytest.raises(DeviceUnavailable, match="cuda:0 does not have enough memory for a single image"):
        encoder(TINY, "cuda", batch_size=8)


def test_a_small_gpu_has_smaller_batches_whatever_is_free(fake: FakeCuda) -> None:
    sizes = []
    for gib in (80, 8, 4):
        fake.total, fake.free = gib << 30, (gib << 30) // 10
        sizes.append(fitting_batch_size([torch.device("cuda", 0)], "fp16", 224))
    assert sizes[0] == 256
    assert 256 > sizes[1] > sizes[2] > 16
    assert fitting_batch_size([torch.device("cuda", 0)], "fp32", 224) < sizes[2]


def test_another_precision_is_measured_one_picture_at_a_time_on_the_first_gpu(two: FakeCuda) -> None:
    one = encoder(TINY, "cuda", precision="fp16", batch_size=4)
    two.sizes.clear()
    exact = one.fp32()
    assert (exact.precision, exact.batch_size, exact.device) == ("fp32", 1, "cuda:0")
    assert set(two.sizes) == {1}
    assert exact.fp32() is exact
    assert cosines(exact.encode(pictures(3, 32)), one.encode(pictures(3, 32))).min() > 0.9999


def test_memory_for_a_batch_is_pinned_for_a_gpu_where_the_system_allows_it(
    fake: FakeCuda, small: VggGpuEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = encoder(TINY, "cuda", batch_size=2)
    fake.happened.clear()
    assert one.empty_batch(2).shape == (2, 32, 32, 3)
    assert fake.happened == ["pinned"]
    assert small.empty_batch(3).shape == (3, 64, 64, 3)
    assert fake.happened == ["pinned"]

    def refused(count: int, side: int) -> Pixels:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(cuda, "pinned_batch", refused)
    assert one.empty_batch(2).shape == (2, 32, 32, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_vectors_of_the_cpu(precision: str) -> None:
    batch = pictures(6)
    assert cosines(encoder().encode(batch), encoder(device="cuda", precision=precision).encode(batch)).min() > 0.999
