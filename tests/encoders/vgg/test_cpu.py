"""The fused network on a CPU: it gives the results of the plain one, whatever its strips, or is not used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imgindex.encoders.vgg import cpu
from imgindex.encoders.vgg.cpu import FusedCpuNetwork, fused_network
from imgindex.encoders.vgg.encoder import VggEncoder
from imgindex.encoders.vgg.network import TOLERANCE, VggNetwork
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.recipe import RECIPES
from imgindex.types import Engine

TYPES = [torch.float32, torch.bfloat16]


def network(dtype: torch.dtype = torch.float32) -> VggNetwork:
    plain = VggNetwork("pool5")
    plain.load_state_dict(load_weights(locate_weights("oxford"), plain.shapes()), assign=True)
    return plain.eval().to(dtype).to(memory_format=torch.channels_last)


def pictures(count: int, side: int, dtype: torch.dtype) -> Tensor:
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(side))
    large = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (large * 255 - 120).to(dtype).contiguous(memory_format=torch.channels_last)


def fused_or_skip(plain: VggNetwork, side: int) -> FusedCpuNetwork:
    found = fused_network(plain, 4, side)
    if found is None:
        pytest.skip("this torch has no such operators for this processor")
    return found


@pytest.mark.parametrize("dtype", TYPES)
# Strips of two rows, strips that do not divide the height, one image at a time, and all images.
@pytest.mark.parametrize(
    ("side", "activation"), [(32, 1), (64, 1), (96, 40_000), (160, 40_000), (160, 180_000), (224, 3 << 19)]
)
def test_the_fused_network_gives_the_results_of_the_plain_one(
    side: int, dtype: torch.dtype, activation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "ACTIVATION", activation)
    plain, batch = network(dtype), pictures(3, side, dtype)
    with torch.inference_mode():
        fast = fused_or_skip(plain, side)
        expected, found = plain.features(batch), fast.deep(fast.shallow(batch))
        vectors = plain(batch), fast.head(found)
    assert found.shape == expected.shape == (3, 512, side // 32, side // 32)
    limit = TOLERANCE[dtype] * expected.abs().max()
    assert (found - expected).abs().max() <= limit
    assert torch.nn.functional.cosine_similarity(*vectors).min() > (0.99999 if dtype == torch.float32 else 0.999)


def test_activations_are_about_as_large_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "ACTIVATION", 50_000)
    fused, sizes = fused_or_skip(network(), 160), []
    monkeypatch.setattr(cpu, "_pool", lambda maps, pooled: sizes.append(maps.numel()))
    with torch.inference_mode():
        fused.shallow(pictures(2, 160, torch.float32))
    # Whole rows, evenly divided.
    assert 25_000 < max(sizes) <= 75_000


def missing(*_: Any) -> Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")


def refusing(*_: Any) -> Tensor:
    raise RuntimeError("mkldnn_bf16_device_check: not supported on this processor")


def wrong(maps: Tensor, *_: Any) -> Tensor:
    return torch.zeros(1, 512, 2, 2, dtype=maps.dtype)


def not_a_number(maps: Tensor, *_: Any) -> Tensor:
    return torch.full((1, 512, 2, 2), torch.nan, dtype=maps.dtype)


@pytest.mark.parametrize("fault", [missing, refusing, wrong, not_a_number])
def test_where_the_operators_are_missing_or_wrong_the_plain_network_is_used(
    fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, batch = replace(RECIPES["vgg16-pool5"], side=64), np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    engine = Engine(device="cpu", precision="fp32")
    expected = VggEncoder(recipe, locate_weights("oxford"), engine).encode(batch.astype(np.uint8))
    monkeypatch.setattr(cpu, "_run_block", fault)
    assert fused_network(network(), 4, 64) is None
    found = VggEncoder(recipe, locate_weights("oxford"), engine).encode(batch.astype(np.uint8))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_streams_compute_at_the_same_time_and_leave_torchs_threads_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        recipe = replace(RECIPES["vgg16-pool5"], side=64)
        encoder = VggEncoder(recipe, locate_weights("oxford"), Engine(device="cpu", precision="fp32", batch_size=2))
        assert encoder.streams == 4
        batches = [np.random.default_rng(seed).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8) for seed in range(12)]
        alone = [encoder.encode(batch) for batch in batches]
        with ThreadPoolExecutor(encoder.streams + 1) as pool:
            together = list(pool.map(encoder.encode, batches))
            threads = set(pool.map(lambda _: torch.get_num_threads(), range(20)))
        np.testing.assert_allclose(np.concatenate(together), np.concatenate(alone), atol=1e-6)
        assert torch.get_num_threads() == 4
        assert threads == {4}
    finally:
        torch.set_num_threads(before)
