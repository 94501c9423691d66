"""Which recipe a new index takes, and with which weights; what `auto` means."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from imgindex.embedding.recipe import Recipe, named
from imgindex.embedding.weights import SHIPPED, TORCHVISION, WeightsFile, available, holds_fc1, load, locate
from imgindex.errors import RecipeMismatch, WeightsUnavailable
from imgindex.types import Embedder, Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """A recipe pinned to the digest of its weights, and where these are."""

    recipe: Recipe
    weights: WeightsFile


def choose(name: str = "auto", *, size: int | None = None, weights: str | None = None) -> Choice:
    """Return the recipe of that name with its weights; auto takes vgg16-fc1 where its weights can be had.

    A recipe that was named is never swapped for another.

    Raises UsageError, WeightsUnavailable or WeightsMismatch.
    """
    if name != "auto":
        return _pinned(named(name, size=size), weights)
    if weights is not None:
        found = "vgg16-fc1" if holds_fc1(weights) and size is None else "vgg16-pool5"
        log.info("recipe %s: what the weights %s hold", found, weights)
        return _pinned(named(found, size=size), weights)
    if size is not None:
        choice = _pinned(named("vgg16-pool5", size=size), None)
        log.info("recipe vgg16-pool5: the one that --size speaks of")
        return choice
    if available():
        try:
            choice = _pinned(named("vgg16-fc1"), None)
            log.info("recipe vgg16-fc1: its weights (%s) are on this disk", TORCHVISION)
            return choice
        except WeightsUnavailable as error:
            log.info("%s", error)
    log.info(
        "recipe vgg16-pool5: the weights of vgg16-fc1 (%s, 528 MB) are not on this disk and cannot be downloaded",
        TORCHVISION,
    )
    return _pinned(named("vgg16-pool5"), None)


def recall(recipe: Recipe, *, source: str, weights: str | None = None) -> WeightsFile:
    """Find the weights of an index's recipe again: where they were, or in the file that is named now.

    Raises WeightsUnavailable when they are gone, RecipeMismatch when they are other weights.
    """
    try:
        found = locate(weights or source)
    except WeightsUnavailable as error:
        if weights is None and source not in (SHIPPED, TORCHVISION):
            raise WeightsUnavailable(
                f"the weights of this index, {source}, are gone", hint="say where they are now with --weights FILE"
            ) from error
        raise
    if found.sha256 != recipe.weights_sha256:
        raise RecipeMismatch(
            f"{found.source} is not the weights file that this index was made with (sha256 {recipe.weights_sha256})",
            hint="say where that file is with --weights FILE, or make another index with --index DIR",
        )
    return found


def make_embedder(recipe: Recipe, settings: dict[str, str], weights: str | None, engine: Engine) -> Embedder:
    """Return the embedder of an index; `settings` say where its weights were, `weights` where they are now.

    Raises as `recall` and `VggEmbedder` do.
    """
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(recall, recipe, source=settings.get("weights", recipe.weights), weights=weights)
        # Torch's import takes longer than the digest of the weights.
        from imgindex.embedding.embedder import VggEmbedder

        return VggEmbedder(recipe, found.result(), engine)


def _pinned(recipe: Recipe, weights: str | None) -> Choice:
    found = locate(weights or recipe.weights)
    if weights is not None and not weights.startswith("random:"):
        # Before an index is made that could never embed anything, and would take no other weights.
        from imgindex.embedding.vgg import FeatureExtractor

        load(found, FeatureExtractor(recipe.cut).shapes())
    return Choice(replace(recipe, weights=found.name, weights_sha256=found.sha256), found)
