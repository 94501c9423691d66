"""The encoder of VGG-16: by OpenVINO on the CPU, where torch is not imported, and by torch on a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from imgindex.encoders.cpu import CpuEncoder
from imgindex.encoders.registry import choose_recipe
from imgindex.encoders.vgg import encoder as vgg
from imgindex.encoders.vgg.encoder import check_weights, make_encoder
from imgindex.encoders.vgg.gpu import VggGpuEncoder
from imgindex.encoders.weights import locate_weights
from imgindex.errors import DeviceUnavailable, WeightsMismatch
from imgindex.recipe import RECIPES
from imgindex.types import Engine

ENCODE = """
import sys
import numpy as np
from imgindex.encoders.registry import choose_recipe, make_encoder
from imgindex.types import Engine

choice = choose_recipe(size=96)
encoder = make_encoder(choice.recipe, {}, None, Engine(device="cpu"))
assert encoder.encode(np.zeros((2, 96, 96, 3), np.uint8)).shape == (2, 512)
print("torch" in sys.modules)
"""


def test_the_cpu_computes_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", ENCODE], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_gpu_computes_by_torch(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    made = []

    def make(recipe: object, weights: object, engine: Engine, name: str) -> VggGpuEncoder:
        made.append(name)
        return VggGpuEncoder(choice.recipe, choice.weights, Engine(precision="fp32"), "cpu")

    choice = choose_recipe(size=96)
    monkeypatch.setattr(vgg, "choose_device", lambda name: name)
    monkeypatch.setattr("imgindex.encoders.vgg.gpu.VggGpuEncoder", make)
    make_encoder(choice.recipe, choice.weights, Engine(device=device))
    assert made == [device]


@pytest.mark.parametrize(("precision", "taken"), [("auto", ""), ("bf16", "bf16")])
def test_auto_computes_on_the_cpu_and_says_why_where_a_gpu_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, precision: str, taken: str
) -> None:
    def fail(*given: object) -> None:
        raise DeviceUnavailable("cuda:0: CUDA error: no kernel image is available", hint="install a torch")

    choice = choose_recipe(size=96)
    monkeypatch.setattr("imgindex.encoders.vgg.gpu.VggGpuEncoder", fail)
    monkeypatch.setattr(vgg, "choose_device", lambda name: "cuda")
    encoder = make_encoder(choice.recipe, choice.weights, Engine(precision=precision))
    assert isinstance(encoder, CpuEncoder)
    assert encoder.precision.startswith(taken)
    assert "computing on the CPU instead of a GPU: cuda:0: CUDA error: no kernel image" in caplog.text
    with pytest.raises(DeviceUnavailable, match="no kernel image"):
        make_encoder(choice.recipe, choice.weights, Engine(device="cuda", precision=precision))


def test_both_give_the_same_vectors() -> None:
    pictures = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    batch = pictures.repeat_interleave(8, 1).repeat_interleave(8, 2).numpy()
    choice = choose_recipe(size=96)
    engine = Engine(device="cpu", precision="fp32")
    by_openvino = make_encoder(choice.recipe, choice.weights, engine)
    assert isinstance(by_openvino, CpuEncoder)
    by_torch = VggGpuEncoder(choice.recipe, choice.weights, engine, "cpu")
    assert abs(by_openvino.encode(batch) - by_torch.encode(batch)).max() < 1e-4


def test_weights_without_the_recipes_layer_are_refused() -> None:
    check_weights(RECIPES["vgg16-pool5"], locate_weights("oxford"))
    with pytest.raises(WeightsMismatch, match="lacks classifier"):
        check_weights(RECIPES["vgg16-fc1"], locate_weights("oxford"))
