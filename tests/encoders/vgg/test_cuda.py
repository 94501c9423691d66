"""The cuDNN form of the network, with an operator that a CPU has: used where it gives the same results faster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imgindex.encoders.vgg import cuda
from imgindex.encoders.vgg.cuda import CudnnNetwork, fastest_network
from imgindex.encoders.vgg.gpu import VggGpuEncoder, state_dict
from imgindex.encoders.vgg.network import VggNetwork
from imgindex.encoders.weights import locate_weights
from imgindex.recipe import RECIPES
from imgindex.types import Engine


def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
    return torch.relu(torch.conv2d(x, weight, bias, *geometry))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> VggNetwork:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolution_relu)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    plain = VggNetwork("pool5")
    plain.load_state_dict(state_dict(locate_weights("oxford"), "pool5"), assign=True)
    return plain.eval().float().to(memory_format=torch.channels_last)


def seconds(fused: float, plain: float) -> Any:
    return lambda network, batch: fused if isinstance(network, CudnnNetwork) else plain


def test_the_faster_network_is_taken(network: VggNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_seconds", seconds(1.0, 2.0))
    assert isinstance(fastest_network(network, 2, 64), CudnnNetwork)
    monkeypatch.setattr(cuda, "_seconds", seconds(2.0, 1.0))
    assert fastest_network(network, 2, 64) is network


def test_the_cudnn_form_gives_the_results_of_the_plain_network(network: VggNetwork) -> None:
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(255).sub(120)
    with torch.inference_mode():
        fused = CudnnNetwork(network)
        torch.testing.assert_close(fused.head(fused.maps(pictures)), network(pictures))


def test_a_cudnn_form_with_other_results_is_not_taken(network: VggNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_seconds", seconds(1.0, 2.0))
    monkeypatch.setattr(torch, "cudnn_convolution_relu", lambda *given: convolution_relu(*given) * 1.01)
    assert fastest_network(network, 2, 64) is network


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, torch.OutOfMemoryError])
def test_where_the_operator_fails_the_plain_network_is_taken(
    network: VggNetwork, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> Tensor:
        raise error("cudnn_convolution_relu")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", fail)
    assert fastest_network(network, 2, 64) is network


def test_timing_waits_for_the_gpu_and_tries_algorithms_first(
    network: VggNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: happened.append("wait"))
    monkeypatch.setattr(CudnnNetwork, "maps", lambda self, batch: happened.append("batch"))
    assert cuda._seconds(CudnnNetwork(network), torch.zeros(1)) >= 0
    assert happened == ["batch"] + ["wait", "batch", "wait"] * cuda.ROUNDS


def test_fp32_is_not_rounded_to_tf32(network: VggNetwork) -> None:
    before = torch.backends.cudnn.allow_tf32
    with cuda.cudnn_without_tf32():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32 == before


def test_each_stream_of_a_gpu_copies_and_computes_in_a_cuda_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def enter(chosen: str) -> Iterator[None]:
        entered.append(chosen)
        yield

    monkeypatch.setattr("torch.cuda.stream", enter)
    monkeypatch.setattr("torch.Tensor.pin_memory", lambda self: entered.append("pinned") or self)
    recipe = replace(RECIPES["vgg16-pool5"], side=64)
    encoder = VggGpuEncoder(recipe, locate_weights("oxford"), Engine(precision="fp32"), "cpu")
    batch = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = encoder.encode(batch)
    stream = encoder._idle_streams.get()
    for name in ("first", "second"):
        encoder._idle_streams.put(replace(stream, cuda_stream=name))
    found = [encoder.encode(batch) for _ in range(3)]
    assert entered == ["first", "pinned", "second", "pinned", "first", "pinned"]
    assert all(np.array_equal(vectors, expected) for vectors in found)
