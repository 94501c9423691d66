"""The GPU's fused network, its operator replaced by one that a processor has: taken where it agrees and is faster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imgindex.embedding import cudnn
from imgindex.embedding.cudnn import CudnnExtractor, fastest
from imgindex.embedding.embedder import VggEmbedder
from imgindex.embedding.recipe import RECIPES
from imgindex.embedding.vgg import FeatureExtractor
from imgindex.embedding.weights import load, locate
from imgindex.types import Engine


def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
    return torch.relu(torch.conv2d(x, weight, bias, *geometry))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FeatureExtractor:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolution_relu)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    plain = FeatureExtractor("pool5")
    plain.load_state_dict(load(locate("oxford"), plain.shapes()), assign=True)
    return plain.eval().float().to(memory_format=torch.channels_last)


def seconds(fused: float, plain: float) -> Any:
    return lambda extractor, batch: fused if isinstance(extractor, CudnnExtractor) else plain


def test_the_faster_network_is_taken(network: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn, "_seconds", seconds(1.0, 2.0))
    assert isinstance(fastest(network, 2, 64), CudnnExtractor)
    monkeypatch.setattr(cudnn, "_seconds", seconds(2.0, 1.0))
    assert fastest(network, 2, 64) is network


def test_the_fused_network_answers_what_the_plain_one_does(network: FeatureExtractor) -> None:
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(255).sub(120)
    with torch.inference_mode():
        fused = CudnnExtractor(network)
        torch.testing.assert_close(fused.head(fused.deep(fused.shallow(pictures))), network(pictures))


def test_a_fused_network_that_does_not_agree_is_not_taken(
    network: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cudnn, "_seconds", seconds(1.0, 2.0))
    monkeypatch.setattr(torch, "cudnn_convolution_relu", lambda *given: convolution_relu(*given) * 1.01)
    assert fastest(network, 2, 64) is network


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, torch.OutOfMemoryError])
def test_where_the_operator_fails_the_plain_network_is_taken(
    network: FeatureExtractor, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> Tensor:
        raise error("cudnn_convolution_relu")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", fail)
    assert fastest(network, 2, 64) is network


def test_timing_waits_for_the_gpu_and_tries_algorithms_first(
    network: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: happened.append("wait"))
    monkeypatch.setattr(CudnnExtractor, "shallow", lambda self, batch: batch)
    monkeypatch.setattr(CudnnExtractor, "deep", lambda self, batch: happened.append("batch"))
    assert cudnn._seconds(CudnnExtractor(network), torch.zeros(1)) >= 0
    assert happened == ["batch"] + ["wait", "batch", "wait"] * cudnn.ROUNDS


def test_fp32_is_not_rounded_to_tf32(network: FeatureExtractor) -> None:
    before = torch.backends.cudnn.allow_tf32
    with cudnn.exactly():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32 == before


def test_each_lane_of_a_gpu_copies_and_computes_in_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def stream(chosen: str) -> Iterator[None]:
        entered.append(chosen)
        yield

    monkeypatch.setattr("torch.cuda.stream", stream)
    monkeypatch.setattr("torch.Tensor.pin_memory", lambda self: entered.append("pinned") or self)
    recipe = replace(RECIPES["vgg16-pool5"], side=64)
    embedder = VggEmbedder(recipe, locate("oxford"), Engine(device="cpu", precision="fp32"))
    batch = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = embedder.embed(batch)
    lane = embedder._lanes.get()
    while not embedder._lanes.empty():
        embedder._lanes.get()
    for name in ("first", "second"):
        embedder._lanes.put(replace(lane, stream=name))
    found = [embedder.embed(batch) for _ in range(3)]
    assert entered == ["first", "pinned", "second", "pinned", "first", "pinned"]
    assert all(np.array_equal(vectors, expected) for vectors in found)
