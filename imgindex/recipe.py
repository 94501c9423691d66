"""Recipes: everything that makes two vectors comparable, as data with a digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from imgindex.errors import FormatTooNew, IndexDamaged, UsageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The transform of torchvision's VGG16_Weights.IMAGENET1K_FEATURES. Oxford's convolutions expect pixels of 0…255 less
# their mean, so the standard deviation is that of one step of 255.
OXFORD_MEAN, OXFORD_STD = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)

# Pixels of the side of the square that a network may see.
LARGEST_SIDE = 4096
# How pictures are scaled: see decoding/scaling.py.
Scaling = Literal["pillow", "16-bit"]

# The network of a recipe that an encoder of the user's own declares: see encoders/custom.py.
CUSTOM = "custom"

# The means that vgg16-pool5 can subtract, by the side in pixels of the images that they were computed from: SHA-256 of
# their float32 numbers. encoders/output.py reads them.
POOL5_MEANS = {
    96: "42bca2e354258c5b11e8fb621d4a15d37e58ec9733c32fab20e40681b051d211",
    128: "0593a19aacc5f3610b282a63b2fb501e85a24876224374d508054a26aa446f2d",
    160: "ea1bfb333111426c7fd4f85fe6d30a6ed6cdd3209027173ab10a6bc994de0065",
    224: "ab94d552a3052b5b169a59efeb4052ca9365a9b98dfaa6351b9d857fd4b6b5cc",
    320: "c50b68c9e99f4ad851ce53304d9e8521f10b69bdcf7094e480ca3f2272b37435",
    448: "d73db2ef67a49e41c7eb8ae436815f1939f25dcd3b2329d83bbeb55732752f6b",
}

# What the recipe's JSON, and so its digest, calls a field. Every index stores these keys: they must stay as they are.
STORED_KEYS = {"layer": "cut"}
# The fields of the first format. Later fields are not added here: see `Recipe.to_dict`.
FIRST_FORMAT = {
    "name", "layer", "weights", "weights_sha256", "side", "dimension", "geometry", "alpha", "channels", "mean", "std",
    "pooling", "norm", "upright", "network",
}  # fmt: skip


# The mean of efficientnet-lite2, and the weights that each recipe's mean was computed with.
LITE2_MEAN = "44f446af4a651b35f6f3f6c500f1c3ab2b7a0572d5cc200ef95d0e3b5c45e98a"
WEIGHTS_OF_MEAN = {
    "vgg16-pool5": "608705a5e8e9a7d5d75e2eb4a72185943564b134fca29f49123ae440f73775ed",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes vectors comparable; an index refuses vectors of another recipe.

    layer: the one whose output is the vector. VGG-16 has fc1 (4096 numbers, before its ReLU) and pool5 (512 maps,
    pooled); EfficientNet-lite2 has head (1280 maps, pooled).
    alpha: visible (composed on white, or on black where the drawing cannot be seen on white), white, black, or drop
    (the stored colour).
    geometry: letterbox or article (see decoding/transforms.py); reduced, which no network takes, keeps the shape.
    side: pixels of the square that the network sees.
    mean and std: of the channels in RGB order, for pixels in [0, 1].
    pooling: none, average, or gem (generalised mean, p = 3: Radenović et al. 2018).
    norm: l2 or none.
    offset: the name of the mean vector that is subtracted after the norm, before the norm is applied again; "" for
    none. offset_sha256: of its numbers.
    draft_margin: how much larger than needed a JPEG stays that is decoded at a reduced size (see decoding/decode.py).
    scaling: the arithmetic by which pictures are scaled (see decoding/scaling.py).

    A new field goes to the end and has a default, which is what earlier versions did: see `to_dict`.
    """

    name: str
    layer: str
    weights: str
    weights_sha256: str
    side: int
    dimension: int
    geometry: str = "letterbox"
    alpha: Literal["visible", "white", "black", "drop"] = "white"
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pooling: str = "none"
    norm: str = "l2"
    upright: bool = True
    network: str = "vgg16"
    offset: str = ""
    offset_sha256: str = ""
    draft_margin: float = 2.0
    scaling: Scaling = "pillow"

    @classmethod
    def without_network(cls, name: str, side: int) -> Recipe:
        """Return a recipe by which pictures are prepared to be shown or compared; `dataclasses.replace` changes it."""
        return cls(name, layer="", weights="", weights_sha256="", side=side, dimension=0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under the keys that are stored.

        The fields of the first format are always there. A later field is left out while it has its default, so that it
        changes the digest of no index that was made before it.
        """
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {
            STORED_KEYS.get(name, name): value
            for name, (value, default) in values.items()
            if name in FIRST_FORMAT or value != default
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON with sorted keys: the text that an index stores and the digest is taken of."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Return the recipe that `to_json` wrote.

        Raises FormatTooNew for fields of a later version, and IndexDamaged for any other text.
        """
        try:
            stored: dict[str, Any] = dict(json.loads(text))
            unknown = stored.keys() - {STORED_KEYS.get(field.name, field.name) for field in fields(cls)}
            if unknown:
                raise FormatTooNew(
                    f"the recipe of the index has fields that are not known: {', '.join(sorted(unknown))}"
                )
            triples: dict[str, Any] = {name: tuple(stored.pop(name)) for name in ("mean", "std")}
            recipe = cls(**{name: stored.pop(key) for name, key in STORED_KEYS.items()}, **triples, **stored)
            can_be_decoded = recipe.scaling in get_args(Scaling) and 1 <= recipe.side <= LARGEST_SIDE
            if not recipe.is_valid() or not can_be_decoded:
                raise ValueError(text[:200])
            return recipe
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise IndexDamaged(f"the recipe in the catalogue cannot be read: {error!r}") from error

    def is_valid(self) -> bool:
        """Whether each value has the type of its field: the recipe of a damaged or foreign index may hold anything."""
        counts = (self.side, self.dimension)
        numbers = [number for triple in (self.mean, self.std) for number in triple]
        texts = {field.name for field in fields(self)} - {"side", "dimension", "mean", "std", "upright", "draft_margin"}
        return (
            all(isinstance(getattr(self, name), str) for name in texts)
            and all(type(count) is int and count >= 0 for count in counts)
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(number, int | float) and abs(number) < 1e9 for number in numbers)
            and isinstance(self.upright, bool)
            and type(self.draft_margin) in (int, float)
            and 1 <= self.draft_margin < 100
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe as JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


DEFAULT = "vgg16-pool5"
# Their values were chosen by measuring: see docs/decisions.md. `choose_recipe` fills the digest of the weights in.
RECIPES = {
    "vgg16-pool5": Recipe(
        name="vgg16-pool5",
        layer="pool5",
        weights="oxford",
        weights_sha256="",
        side=320,
        dimension=512,
        alpha="visible",
        mean=OXFORD_MEAN,
        std=OXFORD_STD,
        pooling="gem",
        offset="vgg16-pool5-320",
        offset_sha256=POOL5_MEANS[320],
        draft_margin=1.5,
        scaling="16-bit",
    ),
    "vgg16-fc1": Recipe(
        name="vgg16-fc1",
        layer="fc1",
        weights="IMAGENET1K_V1",
        weights_sha256="",
        side=448,
        dimension=4096,
        alpha="visible",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "efficientnet-lite2": Recipe(
        name="efficientnet-lite2",
        layer="head",
        weights="efficientnet-lite2",
        weights_sha256="",
        side=260,
        dimension=1280,
        alpha="visible",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        pooling="average",
        network="efficientnet-lite2",
        offset="efficientnet-lite2-260",
        offset_sha256=LITE2_MEAN,
    ),
    "article": Recipe(
        name="article",
        layer="fc1",
        weights="IMAGENET1K_V1",
        weights_sha256="",
        side=448,
        dimension=4096,
        geometry="article",
        alpha="drop",
        channels="bgr",
        norm="none",
    ),
}


def get_recipe(name: str = DEFAULT, *, size: int | None = None) -> Recipe:
    """Return the recipe of that name, without the digest of its weights.

    size: side in pixels, a multiple of 32 from 32 to 1024; only vgg16-pool5 has a choice of sizes. It subtracts the
    mean of its size, or that of the nearest one.

    Raises UsageError for an unknown name, or a size that the recipe cannot have.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}", hint=f"choose one of: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if size is None:
        return recipe
    if recipe.name != DEFAULT:
        raise UsageError(
            f"recipe {name} always takes images of {recipe.side} pixels", hint=f"use `size=` with `recipe={DEFAULT}`"
        )
    if size % 32 or not 32 <= size <= 1024:
        raise UsageError(f"size {size} is not a multiple of 32 from 32 to 1024", hint="try 160, 224 or 320")
    nearest = min(POOL5_MEANS, key=lambda side: abs(side - size))
    return replace(recipe, side=size, offset=f"{name}-{nearest}", offset_sha256=POOL5_MEANS[nearest])
