"""Streams of an NVIDIA GPU, on a processor with torch.cuda replaced: one shape, one graph."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda

from imgindex.encoders.vgg import cuda, gpu
from imgindex.encoders.vgg.cuda import CudaStream, pinned_batch
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.recipe import RECIPES
from imgindex.types import Pixels

SIDE = 32
RECIPE = replace(RECIPES["vgg16-pool5"], side=SIDE, offset="", offset_sha256="")
GPU = torch.device("cuda", 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def network() -> Any:
    return gpu.VggNetwork(RECIPE, load_weights(locate_weights("oxford"), shapes("pool5")), GPU, torch.float32)


def pictures(count: int, seed: int = 0) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def direct(batch: Pixels) -> Any:
    plain = network()
    stream = torch.cuda.Stream(GPU)
    with torch.inference_mode(), torch.cuda.stream(stream):
        return plain.outputs(torch.from_numpy(batch), plain.new_input(len(batch), SIDE)).numpy()


def test_a_graph_is_captured_once_and_replayed_for_every_batch(fake: FakeCuda) -> None:
    stream = CudaStream(network(), SIDE, 4)
    # One pass loads and chooses what the capture may not, the next one is the capture.
    assert fake.sizes == [4, 4]
    assert fake.capture_modes == ["thread_local"]
    fake.happened.clear()
    for seed in range(3):
        batch = pictures(4, seed)
        np.testing.assert_allclose(stream.outputs(batch), direct(batch), rtol=1e-4, atol=1e-3)
    assert fake.happened == ["replay", "recorded", "waited"] * 3
    assert fake.sizes == [4, 4, 4, 4, 4], "the direct computations alone"


@pytest.mark.parametrize("with_graph", [True, False])
def test_a_smaller_batch_is_computed_in_the_same_shape_with_the_same_bits(fake: FakeCuda, with_graph: bool) -> None:
    if not with_graph:
        fake.capture_error = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    stream = CudaStream(network(), SIDE, 5)
    batch = pictures(5)
    whole = stream.outputs(batch)
    assert len(np.unique(whole, axis=0)) == 5
    stream.outputs(pictures(5, seed=9))
    parts = np.concatenate([stream.outputs(batch[:3]), stream.outputs(batch[3:])])
    assert np.array_equal(parts, whole)
    assert set(fake.sizes) == {5}


def test_a_stream_computes_after_the_weights_have_arrived(fake: FakeCuda) -> None:
    plain = network()
    outputs = plain.outputs
    plain.outputs = lambda *given: fake.happened.append("computed") or outputs(*given)
    CudaStream(plain, SIDE, 2)
    assert fake.happened[:2] == ["after the default stream", "computed"]


def test_large_pictures_can_be_computed_too(fake: FakeCuda) -> None:
    assert CudaStream(network(), 96, 1).outputs(np.zeros((1, 96, 96, 3), np.uint8)).shape == (1, 512)


def test_no_memory_is_given_back_while_a_graph_is_captured(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = fake._capture
    others: list[threading.Thread] = []

    def during_capture(*arguments: Any, **named: Any) -> Any:
        others.append(threading.Thread(target=cuda.empty_cache))
        others[0].start()
        others[0].join(0.2)
        fake.happened.append("captured")
        return capture(*arguments, **named)

    monkeypatch.setattr(torch.cuda, "graph", during_capture)
    CudaStream(network(), SIDE, 1)
    others[0].join()
    assert fake.happened.index("captured") < fake.happened.index("emptied")


def test_outputs_are_the_callers_own(fake: FakeCuda) -> None:
    stream = CudaStream(network(), SIDE, 2)
    first = stream.outputs(pictures(2))
    before = first.copy()
    stream.outputs(pictures(2, seed=1))
    assert np.array_equal(first, before)


@pytest.mark.parametrize("reason", ["fails", "is wrong"])
def test_where_a_graph_cannot_be_had_the_network_is_computed_without(fake: FakeCuda, reason: str) -> None:
    if reason == "fails":
        fake.capture_error = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    else:
        fake.replay_is_wrong = True
    stream = CudaStream(network(), SIDE, 2)
    fake.happened.clear()
    batch = pictures(2)
    np.testing.assert_allclose(stream.outputs(batch), direct(batch), rtol=1e-4, atol=1e-3)
    assert "replay" not in fake.happened


def test_a_capture_without_memory_is_want_of_memory(fake: FakeCuda) -> None:
    fake.capture_error = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(torch.OutOfMemoryError):
        CudaStream(network(), SIDE, 2)


def test_streams_are_opened_one_at_a_time(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    capture, at_once, most = fake._capture, 0, 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threading.Event().wait(0.05)
        at_once -= 1
        return capture(*arguments, **named)

    monkeypatch.setattr(torch.cuda, "graph", counted)
    plain = network()
    threads = [threading.Thread(target=CudaStream, args=(plain, SIDE, 1)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(fake.capture_modes)) == (1, 3)


def test_the_memory_of_a_batch_is_pinned(fake: FakeCuda) -> None:
    batch = pinned_batch(3, SIDE)
    assert (batch.shape, batch.dtype) == ((3, SIDE, SIDE, 3), np.uint8)
    assert fake.happened == ["pinned"]
