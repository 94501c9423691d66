"""Encoders of the user's own: the recipe that one declares, the check that an index has it, and how it is called."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import numpy as np

from imgindex.encoders.output import finish
from imgindex.errors import RecipeMismatch, UsageError
from imgindex.recipe import CUSTOM, LARGEST_SIDE, RECIPES, Recipe
from imgindex.storage.segments import MAX_DIMENSION
from imgindex.types import CustomEncoder, Encoder, Pixels, Vectors

DIGEST = re.compile("[0-9a-f]{64}")
NORMS = ("l2", "none")
# What an encoder is taken to be that does not say: see `CustomEncoder`.
BATCH_SIZE, STREAMS, PRECISION, DEVICE = 32, 1, "fp32", "custom"


def custom_recipe(encoder: CustomEncoder) -> Recipe:
    """Return the recipe of an encoder: what it declares, and pictures as `vgg16-pool5` prepares them.

    Raises UsageError, which says what is missing or impossible.
    """
    names = ("name", "digest", "dimension", "side", "norm", "encode")
    missing = [name for name in names if not hasattr(encoder, name)]
    if missing or isinstance(encoder, type):
        what = "is a class, not an object" if isinstance(encoder, type) else f"has no {', '.join(missing)}"
        raise UsageError(f"the encoder {_kind(encoder)} {what}", hint=f"an encoder has {', '.join(names)}")
    name, digest, norm = encoder.name, encoder.digest, encoder.norm
    if not isinstance(name, str) or not name or not name.isprintable() or name in RECIPES:
        raise UsageError(
            f"an encoder cannot have the name {name!r}", hint=f"give a text other than {', '.join(RECIPES)}"
        )
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise UsageError(
            f"the digest of the encoder {name} is {digest!r}",
            hint="give the SHA-256 in hex of all that its vectors depend on, such as the bytes of its weights",
        )
    for what, number, most in (("dimension", encoder.dimension, MAX_DIMENSION), ("side", encoder.side, LARGEST_SIDE)):
        if type(number) is not int or not 1 <= number <= most:
            raise UsageError(
                f"the {what} of the encoder {name} is {number!r}", hint=f"give a number from 1 to {most:,}"
            )
    if norm not in NORMS:
        raise UsageError(
            f"the norm of the encoder {name} is {norm!r}", hint="give l2, for vectors of length 1, or none"
        )
    return Recipe(
        name=name,
        layer="output",
        weights=name,
        weights_sha256=digest,
        side=encoder.side,
        dimension=encoder.dimension,
        alpha="visible",
        norm=norm,
        network=CUSTOM,
    )


def adapted(encoder: CustomEncoder, recipe: Recipe) -> Encoder:
    """Return an encoder of the user's own as one that an index of this recipe can use.

    Raises UsageError as `custom_recipe`, and RecipeMismatch unless the recipe is that of the encoder.
    """
    declared = custom_recipe(encoder)
    if recipe.network != CUSTOM:
        raise RecipeMismatch(
            f"this index has the recipe {recipe.name}, not an encoder of its own",
            hint="open it without `encoder`, or make another index with ImageIndex.create(path, encoder=...)",
        )
    if declared != recipe:
        field, wanted, found = next(
            (field, wanted, found)
            for field, wanted, found in (
                ("name", recipe.name, declared.name),
                ("digest", recipe.weights_sha256, declared.weights_sha256),
                ("dimension", recipe.dimension, declared.dimension),
                ("side", recipe.side, declared.side),
                ("norm", recipe.norm, declared.norm),
                ("recipe", recipe.to_json(), declared.to_json()),
            )
            if wanted != found
        )
        raise RecipeMismatch(
            f"this index was made by an encoder with the {field} {wanted}, not {found}",
            hint="open it with the encoder that made it, or make another index for this one",
        )
    return AdaptedEncoder(encoder, recipe)


class AdaptedEncoder:
    """An encoder of the user's own; implements `Encoder`.

    What it does not say of itself has a default. At most `streams` threads call it at the same time.
    """

    def __init__(self, own: CustomEncoder, recipe: Recipe) -> None:
        self.own, self.recipe = own, recipe
        self.streams = int(getattr(own, "streams", STREAMS))
        self.precision = str(getattr(own, "precision", PRECISION))
        self.device = str(getattr(own, "device", DEVICE))
        self._free = threading.Semaphore(self.streams)

    @property
    def batch_size(self) -> int:
        """Read each time: an encoder may reduce it when its memory runs out."""
        return int(getattr(self.own, "batch_size", BATCH_SIZE))

    def encode(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) of uint8 images (n, side, side, 3), of length 1 with the norm l2.

        Raises UsageError where the user's encoder returns an array of another shape.
        """
        with self._free:
            found = np.asarray(self.own.encode(batch))
        wanted = (len(batch), self.recipe.dimension)
        if found.shape != wanted or found.dtype.kind not in "fiu":
            raise UsageError(
                f"the encoder {self.recipe.name} returned an array of {found.dtype} {found.shape}",
                hint=f"it has to return numbers of the shape {wanted}",
            )
        return finish(found, self.recipe)

    def fp32(self) -> Encoder:
        """Return the encoder in fp32: itself, unless it says that it has another precision and how to change it."""
        exact: Callable[[], CustomEncoder] | None = getattr(self.own, "fp32", None)
        return self if exact is None or self.precision == PRECISION else AdaptedEncoder(exact(), self.recipe)


def _kind(encoder: object) -> str:
    return (encoder if isinstance(encoder, type) else type(encoder)).__name__
