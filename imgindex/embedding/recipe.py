"""Recipes: everything that makes two vectors comparable, as data with a digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from imgindex.errors import IndexDamaged, UsageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The transform of torchvision's VGG16_Weights.IMAGENET1K_FEATURES: Oxford's convolutions expect pixels of 0…255
# less their mean, hence the odd deviation.
OXFORD_MEAN, OXFORD_STD = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes vectors comparable; an index refuses vectors of another recipe.

    cut: the layer whose output is the vector, fc1 (4096 numbers, before its ReLU) or pool5 (512 maps, pooled).
    alpha: white (composed on white) or drop (the stored colour). geometry: letterbox or article (see prepare.py).
    side: pixels of the square that the network sees. mean and std: of the channels in RGB order, pixels in [0, 1].
    pooling: none, or gem (generalised mean, p = 3: Radenović et al. 2018). norm: l2 or none.
    """

    name: str
    cut: str
    weights: str
    weights_sha256: str
    side: int
    dimension: int
    geometry: str = "letterbox"
    alpha: Literal["white", "drop"] = "white"
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pooling: str = "none"
    norm: str = "l2"
    upright: bool = True
    network: str = "vgg16"

    def to_json(self) -> str:
        """Return the recipe as JSON with sorted keys, the form that the digest is taken of."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Return the recipe that `to_json` wrote. Raises IndexDamaged for anything else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            recipe = cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
            if not recipe.makes_sense():
                raise ValueError(text[:200])
            return recipe
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise IndexDamaged(f"the catalogue holds no recipe that this imgindex can read: {error!r}") from error

    def makes_sense(self) -> bool:
        """Whether each field is of its kind: what a stranger's index says of itself may be anything."""
        counts = (self.side, self.dimension)
        numbers = [number for three in (self.mean, self.std) for number in three]
        texts = set(asdict(self)) - {"side", "dimension", "mean", "std", "upright"}
        return (
            all(isinstance(getattr(self, name), str) for name in texts)
            and all(type(count) is int and count >= 0 for count in counts)
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(number, int | float) and abs(number) < 1e9 for number in numbers)
            and isinstance(self.upright, bool)
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe as JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


# Choices that were measured: see docs/decisions.md. The sha256 is filled in once the weights are at hand.
RECIPES = {
    "vgg16-fc1": Recipe(
        name="vgg16-fc1",
        cut="fc1",
        weights="IMAGENET1K_V1",
        weights_sha256="",
        side=448,
        dimension=4096,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "vgg16-pool5": Recipe(
        name="vgg16-pool5",
        cut="pool5",
        weights="oxford",
        weights_sha256="",
        side=224,
        dimension=512,
        mean=OXFORD_MEAN,
        std=OXFORD_STD,
        pooling="gem",
    ),
    "article": Recipe(
        name="article",
        cut="fc1",
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


def named(name: str, *, size: int | None = None) -> Recipe:
    """Return the recipe of that name, its weights not yet pinned to a digest.

    size: side in pixels, a multiple of 32 from 32 to 1024, for `vgg16-pool5` alone.

    Raises UsageError for an unknown name, or a size that the recipe cannot have.
    """
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}", hint=f"choose one of: auto, {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if size is None:
        return recipe
    if recipe.cut != "pool5":
        raise UsageError(
            f"recipe {name} always sees {recipe.side} pixels", hint="--size goes with --recipe vgg16-pool5"
        )
    if size % 32 or not 32 <= size <= 1024:
        raise UsageError(f"size {size} is not a multiple of 32 from 32 to 1024", hint="try 160, 224 or 320")
    return replace(recipe, side=size)
