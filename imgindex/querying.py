"""From images that someone asks about to their vectors: stored ones where the index knows them, else new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.embedding.recipe import Recipe
from imgindex.errors import UnreadableImage, UsageError
from imgindex.images.fingerprint import Content, read_content
from imgindex.searching import open_search
from imgindex.storage.store import Store
from imgindex.types import Answer, Embedder, Failure, Match, Pixels, Vectors

SPARE = 1  # the query itself may be among its own neighbours
NOT_FINITE = "the network gave no finite vector"
EMPTY = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Limits:
    """Which matches are wanted: at most n, none farther than max_distance, the query itself or not."""

    n: int
    max_distance: float | None = None
    include_self: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"-n {self.n}: at least one match must be asked for")
        if self.max_distance is not None and not self.max_distance >= 0:
            raise UsageError(f"{self.max_distance} is no distance", hint="give a number from 0 up")


@dataclass(frozen=True, slots=True)
class Query:
    """An image asked about: its id if the index has it, and its vector (dimension,) or the failure to get one."""

    image: str
    vector: Vectors
    id: int | None = None
    failure: Failure | None = None


def answer(
    store: Store, images: Sequence[str], limits: Limits, *, recipe: Recipe, make_embedder: Callable[[], Embedder]
) -> list[Answer]:
    """Return the matches of each image, or why it could not be read, from one state of the index.

    Raises IndexDamaged when the vector of a query or of a match does not have its CRC32.
    """
    with store.reading():
        queries = resolve(store, images, recipe=recipe, make_embedder=make_embedder)
        able = [query for query in queries if query.failure is None]
        if not able:
            return [Answer(query.image, [], query.failure) for query in queries]
        search = open_search(store)
        # Not more than there are: the answer is as wide as what was asked for, be it a billion.
        n = min(limits.n, store.catalogue.count()["images"])
        near = search.search(np.stack([query.vector for query in able]), n + SPARE)
        matches = {
            id(query): _matches(store, query, limits, list(zip(ids.tolist(), distances.tolist(), strict=True)))
            for query, ids, distances in zip(able, near.ids, near.distances, strict=True)
        }
        return [Answer(query.image, matches.get(id(query), []), query.failure) for query in queries]


def _matches(store: Store, query: Query, limits: Limits, near: list[tuple[int, float]]) -> list[Match]:
    near = [(id, distance) for id, distance in near if id >= 0 and (limits.include_self or id != query.id)]
    if limits.max_distance is not None:
        near = [(id, distance) for id, distance in near if distance <= limits.max_distance]
    near = near[: limits.n]
    ids = [id for id, _ in near]
    paths = store.catalogue.image_paths(ids)
    return [Match(rank, paths[id], distance, id) for rank, (id, distance) in enumerate(near, 1)]


def resolve(
    store: Store, images: Sequence[str], *, recipe: Recipe, make_embedder: Callable[[], Embedder]
) -> list[Query]:
    """Return the vectors of images, in their order; only an image that the index does not know needs the network."""
    queries: list[Query | None] = []
    waiting: list[tuple[int, Pixels]] = []
    for position, image in enumerate(images):
        try:
            query = _stored(store, image)
            if query is None:
                content = read_content(os.path.abspath(image))
                query = _of_same_content(store, image, content)
                if query is None:
                    waiting.append((position, _pixels(content, recipe)))
        except UnreadableImage as error:
            query = Query(image, EMPTY, failure=Failure(os.path.abspath(image), error.stage, error.reason))
        queries.append(query)
    if waiting:
        embedder = make_embedder()
        for start in range(0, len(waiting), embedder.batch_size):
            part = waiting[start : start + embedder.batch_size]
            vectors = embedder.embed(np.stack([pixels for _, pixels in part]))
            for (position, _), vector in zip(part, vectors, strict=True):
                queries[position] = _embedded(images[position], vector)
    return [query for query in queries if query is not None]


def _embedded(image: str, vector: Vectors) -> Query:
    failure = None if np.isfinite(vector).all() else Failure(os.path.abspath(image), "embed", NOT_FINITE)
    return Query(image, vector, failure=failure)


def _stored(store: Store, image: str) -> Query | None:
    """The image's own vector, if the index shows it and its file is unchanged, or gone since."""
    path = os.path.abspath(image)
    known = store.catalogue.known([path]).get(path)
    if known is None or not known.present:
        return None
    try:
        now = os.stat(path)
    except OSError:
        now = None
    if now is not None and (now.st_size, now.st_mtime_ns) != (known.size, known.mtime_ns):
        return None
    return Query(image, store.vectors([known.id])[0], known.id)


def _of_same_content(store: Store, image: str, content: Content) -> Query | None:
    """The vector of an image with the same bytes; that is the same image only if it is the same file."""
    twins = store.catalogue.twins(content.sha256)
    places = list(store.catalogue.locations([twin.place.id for twin in twins]))
    if not places:
        return None
    same = {twin.place.id for twin in twins if _is_same_file(twin.path, image)}
    place = next((place for place in places if place.id in same), places[0])
    return Query(image, store.read(place), place.id if place.id in same else None)


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _pixels(content: Content, recipe: Recipe) -> Pixels:
    from imgindex.embedding.prepare import prepare
    from imgindex.images.decode import decode

    return prepare(decode(content.data, alpha=recipe.alpha).image, recipe)
