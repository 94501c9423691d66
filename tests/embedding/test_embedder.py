"""The embedder: one vector a picture whatever the batch, precision and memory; devices by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from imgindex.embedding import device as module
from imgindex.embedding.device import choose_device, choose_precision, default_batch_size
from imgindex.embedding.embedder import VggEmbedder
from imgindex.embedding.recipe import RECIPES
from imgindex.embedding.vgg import FeatureExtractor
from imgindex.embedding.weights import load, locate
from imgindex.errors import DeviceUnavailable, WeightsMismatch
from imgindex.types import Engine

SMALL = replace(RECIPES["vgg16-pool5"], side=64)
CPU = torch.device("cpu")
GPU = torch.device("cuda")

Pixels = npt.NDArray[np.uint8]


def embedder(recipe: Any = SMALL, **engine: Any) -> VggEmbedder:
    return VggEmbedder(recipe, locate("oxford"), Engine(**{"device": "cpu", "precision": "fp32"} | engine))


@pytest.fixture
def small() -> VggEmbedder:
    return embedder()


def pictures(count: int, side: int = 64) -> Pixels:
    """Pictures that differ, smooth enough for the network to see more than noise."""
    coarse = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)


class Network:
    """Stands for the network of an embedder's lanes: from a batch of normalised pictures to one vector each."""

    shallow_batch = deep_batch = 1000

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.shallow = answer

    def deep(self, maps: Tensor) -> Tensor:
        return maps

    def head(self, maps: Tensor) -> Tensor:
        return maps


def exchange(one: VggEmbedder, answer: Callable[[Tensor], Tensor]) -> None:
    lanes = [one._lanes.get() for _ in range(one.lanes)]
    for lane in lanes:
        lane.network = Network(answer)
        one._lanes.put(lane)


def cosines(a: Any, b: Any) -> Any:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_a_vector_is_the_networks_answer_to_the_normalised_picture_scaled_to_length_1(small: VggEmbedder) -> None:
    batch = pictures(2)
    network = FeatureExtractor("pool5").eval()
    state = load(locate("oxford"), network.shapes())
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    # What torchvision's VGG16_Weights.IMAGENET1K_FEATURES does: to 0…1, less the mean, by the deviation of 1/255.
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = network((torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - mean) * 255).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = small.embed(batch)
    assert vectors.shape == (2, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_channels_backwards_with_their_mean_backwards_give_the_same_vector(small: VggEmbedder) -> None:
    backwards = embedder(replace(SMALL, channels="bgr"))
    # A network that answers with the mean of each channel, so that nothing but the normalisation is seen.
    for one in (small, backwards):
        exchange(one, lambda pictures: pictures.mean(dim=(2, 3)))
        one.recipe = replace(one.recipe, norm="none")
    batch = pictures(2)
    forwards = small.embed(batch)
    assert np.ptp(forwards, axis=1).min() > 1
    np.testing.assert_allclose(
        backwards.embed(np.ascontiguousarray(batch[..., ::-1])), forwards[:, ::-1], rtol=1e-4, atol=1e-3
    )


def test_the_norm_none_keeps_lengths(small: VggEmbedder) -> None:
    plain = embedder(replace(SMALL, norm="none"))
    vectors, lengths = plain.embed(pictures(3)), np.linalg.norm(plain.embed(pictures(3)), axis=1)
    assert (np.abs(lengths - 1) > 1).all()
    np.testing.assert_allclose(vectors / lengths[:, None], small.embed(pictures(3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(small.embed(pictures(3)), axis=1), 1, atol=1e-6)


def test_a_vector_of_nothing_but_zeros_stays_one(small: VggEmbedder) -> None:
    exchange(small, lambda pictures: torch.zeros(len(pictures), 512))
    assert not small.embed(pictures(2)).any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_gives_what_its_pictures_give_one_by_one(precision: str) -> None:
    one = embedder(precision=precision)
    batch = pictures(5)
    together = one.embed(batch)
    alone = np.concatenate([one.embed(batch[at : at + 1]) for at in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5 if precision == "fp32" else 2e-3)
    assert cosines(together[:4], together[1:]).max() < 0.99


def test_bf16_differs_from_fp32_by_rounding_only() -> None:
    batch = pictures(4)
    exact, rounded = embedder().embed(batch), embedder(precision="bf16").embed(batch)
    assert rounded.dtype == np.float32
    assert (exact != rounded).any()
    assert cosines(exact, rounded).min() > 0.999


class Cramped:
    """A network in a memory that holds few pictures: more raise the error."""

    def __init__(self, room: int, fail: Callable[[], object]) -> None:
        self.room = room
        self.fail = fail
        self.sizes: list[int] = []

    def __call__(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            self.fail()
        return batch.mean(dim=(2, 3))


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def on_the_processor() -> None:
    # The allocator's own error: no machine has a pebibyte to give.
    torch.empty(1 << 50, dtype=torch.uint8)


def on_windows() -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried …")


def on_an_apple() -> None:
    raise RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1.2 GB, max allowed: …)")


@pytest.mark.parametrize("fail", [on_a_gpu, on_the_processor, on_windows, on_an_apple])
@pytest.mark.parametrize(("count", "room"), [(8, 4), (8, 3), (7, 2), (5, 1), (2, 1)])
def test_out_of_memory_halves_the_batch_and_goes_on_in_order(
    small: VggEmbedder, fail: Callable[[], None], count: int, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    small.batch_size = count
    exchange(small, Cramped(count, fail))
    expected = small.embed(pictures(count))
    network = Cramped(room, fail)
    exchange(small, network)
    with caplog.at_level(logging.WARNING):
        vectors = small.embed(pictures(count))
    assert np.array_equal(vectors, expected)
    assert len(np.unique(vectors, axis=0)) == count
    assert small.batch_size <= room
    assert f"out of memory: going on with batches of {small.batch_size}" in caplog.text
    # And stays so: batches of the new size fit at once.
    network.sizes.clear()
    small.embed(pictures(small.batch_size))
    assert network.sizes == [small.batch_size]


def test_a_last_batch_that_was_small_anyway_does_not_raise_the_batch_size(small: VggEmbedder) -> None:
    small.batch_size = 2
    exchange(small, Cramped(2, on_a_gpu))
    small.embed(pictures(5))
    assert small.batch_size == 2


@pytest.mark.parametrize("fail", [on_a_gpu, on_the_processor])
def test_one_picture_that_does_not_fit_is_an_error(small: VggEmbedder, fail: Callable[[], None]) -> None:
    exchange(small, Cramped(0, fail))
    with pytest.raises(DeviceUnavailable, match="no memory for a single picture"):
        small.embed(pictures(3))


def test_other_errors_pass_and_are_not_tried_again(small: VggEmbedder) -> None:
    def fail() -> None:
        raise RuntimeError("expected scalar type Float")

    network = Cramped(0, fail)
    exchange(small, network)
    with pytest.raises(RuntimeError, match="expected scalar type"):
        small.embed(pictures(4))
    assert network.sizes == [4]


def test_a_gpus_cache_is_emptied_before_the_next_try(small: VggEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []

    def forward(batch: Pixels) -> Any:
        happened.append(len(batch))
        if len(batch) > 2:
            on_a_gpu()
        return batch.mean(axis=(1, 2), dtype=np.float32)

    monkeypatch.setattr(small, "_forward", forward)
    monkeypatch.setattr(small, "device", GPU)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: happened.append("emptied"))
    assert len(small.embed(pictures(4))) == 4
    assert happened == [4, "emptied", 2, 2]


def test_the_batch_size_is_the_engines_else_by_the_device_and_the_pixels() -> None:
    assert embedder(batch_size=3).batch_size == 3
    assert embedder().batch_size == default_batch_size(CPU, "fp32", 64)
    sizes = [default_batch_size(CPU, "fp32", side) for side in (1024, 448, 224, 96)]
    assert 1 <= sizes[0] < sizes[1] < sizes[2] < sizes[3]
    assert default_batch_size(CPU, "fp32", 448) < default_batch_size(CPU, "bf16", 448)
    assert default_batch_size(CPU, "bf16", 224) < default_batch_size(GPU, "bf16", 224)


def test_weights_that_do_not_reach_the_cut_are_refused() -> None:
    with pytest.raises(WeightsMismatch, match="lacks classifier"):
        embedder(RECIPES["vgg16-fc1"])


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


@pytest.fixture
def two_gpus(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


def test_auto_is_the_processor_where_there_is_nothing_else(no_accelerator: None) -> None:
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps", "tpu", "", "cuda:x", "meta", "GPU"])
def test_a_device_that_this_machine_lacks_is_named_with_the_way_out(no_accelerator: None, name: str) -> None:
    with pytest.raises(DeviceUnavailable) as error:
        embedder(device=name)
    assert repr(name) in str(error.value)
    assert "auto" in error.value.hint


def test_auto_takes_the_gpu(two_gpus: None) -> None:
    assert choose_device("auto") == GPU
    assert choose_device("cuda") == GPU
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_a_gpu_beyond_the_last_is_refused(two_gpus: None, name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=name):
        choose_device(name)


def test_auto_takes_apples_gpu_after_all_others(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    assert choose_device("mps") == torch.device("mps")
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lines that stand in /proc/cpuinfo, as far as the embedder sees it."""
    lines: list[str] = []

    def opened(path: str, **options: Any) -> StringIO:
        assert path == "/proc/cpuinfo"
        if not lines:
            raise FileNotFoundError(path)
        return StringIO("\n".join(lines))

    monkeypatch.setattr(module, "open", opened, raising=False)
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
def test_auto_is_bf16_where_the_processor_multiplies_bf16(cpuinfo: list[str], flags: str, precision: str) -> None:
    cpuinfo += ["processor\t: 0", "model name\t: amx_bf16 in name only", f"flags\t\t: {flags}", "bugs\t\t: none"]
    assert choose_precision("auto", CPU) == precision


def test_auto_is_fp32_where_nothing_is_known_of_the_processor(cpuinfo: list[str]) -> None:
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
def test_an_unknown_precision_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="precision") as error:
        embedder(precision=name)
    assert all(known in error.value.hint for known in ("auto", "fp32", "bf16", "fp16"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_processors_vectors(precision: str) -> None:
    batch = pictures(6)
    assert cosines(embedder().embed(batch), embedder(device="cuda", precision=precision).embed(batch)).min() > 0.999
