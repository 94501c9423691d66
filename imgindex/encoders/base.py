"""What a kind of network needs so that the registry can use it: a way to make its encoder, and a check of its weights.

The protocol of the encoders themselves, `Encoder`, is in imgindex/types.py, because decoding/lookahead.py uses it and
decoding is below this room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from imgindex.recipe import Recipe
from imgindex.types import Encoder, Engine


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Where weights are: a `name` to display, the `source` that finds them again, and the file's `sha256`."""

    name: str
    source: str
    sha256: str


class NetworkModule(Protocol):
    """The module of a kind of network, such as `encoders/vgg/encoder.py`."""

    def make_encoder(self, recipe: Recipe, weights: WeightsFile, engine: Engine) -> Encoder:
        """Make the encoder of a recipe. Raises DeviceUnavailable, WeightsUnavailable or WeightsMismatch."""
        ...

    def check_weights(self, recipe: Recipe, weights: WeightsFile) -> None:
        """Raise WeightsMismatch unless the weights hold all that the recipe needs."""
        ...
