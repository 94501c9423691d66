"""From images that someone asks about to their vectors: stored ones where the index knows them, else new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from imgindex.embedding.pipeline import ahead, in_lanes, worker_count
from imgindex.embedding.sandbox import Decoders
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
    store: Store, images: Sequence[str], limits: Limits, *, decoders: Decoders, make_embedder: Callable[[], Embedder]
) -> list[Answer]:
    """Return the matches of each image, or why it could not be read, from one state of the index.

    Raises IndexDamaged when the vector of a query or of a match does not have its CRC32.
    """
    with store.reading():
        queries = resolve(store, images, decoders=decoders, make_embedder=make_embedder)
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
    store: Store, images: Sequence[str], *, decoders: Decoders, make_embedder: Callable[[], Embedder]
) -> list[Query]:
    """Return the vectors of images, in their order; only an image that the index does not know needs the network."""
    found: dict[int, Query] = {}
    unknown = _unknown(store, images, found)
    first = next(unknown, None)
    if first is not None:
        decoders.start()  # while torch is imported
        embedder = make_embedder()
        pictures = _decoded(chain([first], unknown), images, decoders, found)
        for position, vector in _vectors(embedder, pictures):
            found[position] = _embedded(images[position], vector)
    return [found[position] for position in range(len(images))]


def _unknown(store: Store, images: Sequence[str], found: dict[int, Query]) -> Iterator[tuple[int, Content]]:
    """Yield the positions and contents of the images that the index has no vector for; the others are found."""
    for position, image in enumerate(images):
        try:
            query = _stored(store, image)
            if query is None:
                content = read_content(os.path.abspath(image))
                query = _of_same_content(store, image, content)
                if query is None:
                    yield position, content
                    continue
        except UnreadableImage as error:
            query = _failed(image, error)
        found[position] = query


def _decoded(
    unknown: Iterator[tuple[int, Content]], images: Sequence[str], decoders: Decoders, found: dict[int, Query]
) -> Iterator[tuple[int, Pixels]]:
    """Yield the positions and pixels of the images that can be decoded; the others are found to be failures."""

    def decode(item: tuple[int, Content]) -> tuple[int, Pixels | UnreadableImage]:
        try:
            return item[0], decoders.decode(item[1].data).pixels
        except UnreadableImage as error:
            return item[0], error

    workers = worker_count(None)
    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex") as pool:
        for position, pixels in ahead(pool, decode, unknown, depth=2 * workers, size=lambda item: item[1].size):
            if isinstance(pixels, UnreadableImage):
                found[position] = _failed(images[position], pixels)
            else:
                yield position, pixels


def _vectors(embedder: Embedder, pictures: Iterator[tuple[int, Pixels]]) -> Iterator[tuple[int, Vectors]]:
    """Yield the positions and vectors of pictures, which go through the network batch by batch in all its lanes."""

    def embed(batch: list[tuple[int, Pixels]]) -> list[tuple[int, Vectors]]:
        vectors = embedder.embed(np.stack([pixels for _, pixels in batch]))
        return [(position, vector) for (position, _), vector in zip(batch, vectors, strict=True)]

    batches = iter(lambda: list(islice(pictures, embedder.batch_size)), [])
    yield from chain.from_iterable(in_lanes(embedder, embed, batches))


def _failed(image: str, error: UnreadableImage) -> Query:
    return Query(image, EMPTY, failure=Failure(os.path.abspath(image), error.stage, error.reason))


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
