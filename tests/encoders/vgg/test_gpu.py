"""The encoder by torch, on the processor where it needs no GPU: one vector an image, whatever batch and memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from imgindex.encoders.devices import default_batch_size
from imgindex.encoders.vgg.gpu import VggGpuEncoder, working_devices
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.vgg.network import VggNetwork
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
    """Replaces the network in an encoder's streams: `answer` maps a batch of normalised images to their vectors."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.maps = answer

    def head(self, maps: Tensor) -> Tensor:
        return maps


def replace_network(one: VggGpuEncoder, answer: Callable[[Tensor], Tensor]) -> None:
    streams = [one._idle_streams.get() for _ in range(one.streams)]
    for stream in streams:
        stream.network = FakeNetwork(answer)
        one._idle_streams.put(stream)


def cosines(a: Any, b: Any) -> Any:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_a_vector_is_the_networks_output_for_the_normalised_image_scaled_to_length_1(small: VggGpuEncoder) -> None:
    batch = pictures(2)
    network = VggNetwork("pool5").eval()
    state = load_weights(locate_weights("oxford"), shapes("pool5"))
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, assign=True)
    # What torchvision's VGG16_Weights.IMAGENET1K_FEATURES does: to 0…1, less the mean, by the deviation of 1/255.
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = network((torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - mean) * 255).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = small.encode(batch)
    assert vectors.shape == (2, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_bgr_channels_are_normalised_by_the_reversed_mean_and_deviation(small: VggGpuEncoder) -> None:
    backwards = encoder(replace(SMALL, channels="bgr"))
    # The network returns the mean of each channel, so that only the normalisation is tested.
    for one in (small, backwards):
        replace_network(one, lambda pictures: pictures.mean(dim=(2, 3)))
        one.recipe = replace(one.recipe, norm="none")
    batch = pictures(2)
    forwards = small.encode(batch)
    assert np.ptp(forwards, axis=1).min() > 1
    np.testing.assert_allclose(
        backwards.encode(np.ascontiguousarray(batch[..., ::-1])), forwards[:, ::-1], rtol=1e-4, atol=1e-3
    )


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
        return batch.mean(dim=(2, 3))


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
    with pytest.raises(RuntimeError, match="expected scalar type"):
        small.encode(pictures(4))
    assert network.sizes == [4]


def test_a_gpus_cache_is_emptied_before_the_next_try(small: VggGpuEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []

    def forward(batch: Pixels) -> Any:
        happened.append(len(batch))
        if len(batch) > 2:
            out_of_memory_on_cuda()
        return batch.mean(axis=(1, 2), dtype=np.float32)

    monkeypatch.setattr(small, "_forward", forward)
    monkeypatch.setattr(small, "device", "cuda")
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: happened.append("emptied"))
    assert len(small.encode(pictures(4))) == 4
    assert happened == [4, "emptied", 2, 2]


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_vectors_of_the_cpu(precision: str) -> None:
    batch = pictures(6)
    assert cosines(encoder().encode(batch), encoder(device="cuda", precision=precision).encode(batch)).min() > 0.999
