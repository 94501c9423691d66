"""The fused network: what the plain one answers, however it is cut into strips; else the plain one itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imgindex.embedding import fused
from imgindex.embedding.embedder import VggEmbedder
from imgindex.embedding.fused import FusedExtractor, fuse
from imgindex.embedding.recipe import RECIPES
from imgindex.embedding.vgg import FeatureExtractor
from imgindex.embedding.weights import load, locate
from imgindex.types import Engine

TYPES = [torch.float32, torch.bfloat16]


def network(dtype: torch.dtype = torch.float32) -> FeatureExtractor:
    plain = FeatureExtractor("pool5")
    plain.load_state_dict(load(locate("oxford"), plain.shapes()), assign=True)
    return plain.eval().to(dtype).to(memory_format=torch.channels_last)


def pictures(count: int, side: int, dtype: torch.dtype) -> Tensor:
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(side))
    large = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (large * 255 - 120).to(dtype).contiguous(memory_format=torch.channels_last)


def fused_or_skip(plain: FeatureExtractor, side: int) -> FusedExtractor:
    found = fuse(plain, 4, side)
    if found is None:
        pytest.skip("this torch has no such operators for this processor")
    return found


@pytest.mark.parametrize("dtype", TYPES)
# Strips of two rows, strips that do not divide the height, one picture at once, and all.
@pytest.mark.parametrize(
    ("side", "activation"), [(32, 1), (64, 1), (96, 40_000), (160, 40_000), (160, 180_000), (224, 3 << 19)]
)
def test_the_fused_network_answers_what_the_plain_one_does(
    side: int, dtype: torch.dtype, activation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "ACTIVATION", activation)
    plain, batch = network(dtype), pictures(3, side, dtype)
    with torch.inference_mode():
        fast = fused_or_skip(plain, side)
        expected, found = plain.features(batch), fast.deep(fast.shallow(batch))
        vectors = plain(batch), fast.head(found)
    assert found.shape == expected.shape == (3, 512, side // 32, side // 32)
    limit = fused.TOLERANCE[dtype] * expected.abs().max()
    assert (found - expected).abs().max() <= limit
    assert torch.nn.functional.cosine_similarity(*vectors).min() > (0.99999 if dtype == torch.float32 else 0.999)


def test_no_activation_is_larger_than_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "ACTIVATION", 50_000)
    extractor, sizes = fused_or_skip(network(), 160), []
    monkeypatch.setattr(fused, "_pool", lambda maps, pooled: sizes.append(maps.numel()))
    with torch.inference_mode():
        extractor.shallow(pictures(2, 160, torch.float32))
    # Whole rows, evenly divided.
    assert 25_000 < max(sizes) <= 75_000


def missing(*_: Any) -> Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")


def refusing(*_: Any) -> Tensor:
    raise RuntimeError("mkldnn_bf16_device_check: not supported on this processor")


def wrong(maps: Tensor, *_: Any) -> Tensor:
    return torch.zeros(1, 512, 2, 2, dtype=maps.dtype)


def no_number(maps: Tensor, *_: Any) -> Tensor:
    return torch.full((1, 512, 2, 2), torch.nan, dtype=maps.dtype)


@pytest.mark.parametrize("fault", [missing, refusing, wrong, no_number])
def test_where_the_operators_are_missing_or_wrong_the_plain_network_answers(
    fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, batch = replace(RECIPES["vgg16-pool5"], side=64), np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    engine = Engine(device="cpu", precision="fp32")
    expected = VggEmbedder(recipe, locate("oxford"), engine).embed(batch.astype(np.uint8))
    monkeypatch.setattr(fused, "_pass", fault)
    assert fuse(network(), 4, 64) is None
    found = VggEmbedder(recipe, locate("oxford"), engine).embed(batch.astype(np.uint8))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lanes_work_side_by_side_and_leave_torchs_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        recipe = replace(RECIPES["vgg16-pool5"], side=64)
        embedder = VggEmbedder(recipe, locate("oxford"), Engine(device="cpu", precision="fp32", batch_size=2))
        assert embedder.lanes == 4
        batches = [np.random.default_rng(seed).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8) for seed in range(12)]
        alone = [embedder.embed(batch) for batch in batches]
        with ThreadPoolExecutor(embedder.lanes + 1) as pool:
            together = list(pool.map(embedder.embed, batches))
            threads = set(pool.map(lambda _: torch.get_num_threads(), range(20)))
        np.testing.assert_allclose(np.concatenate(together), np.concatenate(alone), atol=1e-6)
        assert torch.get_num_threads() == 4
        assert threads == {4}
    finally:
        torch.set_num_threads(before)
