"""The encoder of a recipe with VGG-16: on the CPU by OpenVINO, on a GPU by torch."""

from __future__ import annotations

import logging

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.devices import choose_device
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.weights import load_weights
from imgindex.errors import DeviceUnavailable
from imgindex.recipe import Recipe
from imgindex.types import Encoder, Engine

log = logging.getLogger(__name__)


def make_encoder(recipe: Recipe, weights: WeightsFile, engine: Engine) -> Encoder:
    """Make the encoder of a recipe; neither torch nor OpenVINO is imported unless it computes.

    With the device auto, a CPU computes where a GPU is there and cannot be used, with a warning that says why.

    Raises DeviceUnavailable, WeightsUnavailable or WeightsMismatch.
    """
    device = choose_device(engine.device)
    if device != "cpu":
        from imgindex.encoders.vgg.gpu import VggGpuEncoder

        try:
            return VggGpuEncoder(recipe, weights, engine, device)
        except DeviceUnavailable as error:
            if engine.device != "auto":
                raise
            log.warning("computing on the CPU instead of a GPU: %s", error)
    from imgindex.encoders.cpu import cpu_encoder
    from imgindex.encoders.vgg.graph import VggGraphs

    return cpu_encoder(recipe, VggGraphs(recipe, weights), engine)


def check_weights(recipe: Recipe, weights: WeightsFile) -> None:
    """Raise WeightsMismatch unless the weights hold every tensor that the recipe needs."""
    load_weights(weights, shapes(recipe.layer))
