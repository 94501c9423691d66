"""From images that someone asks about to their matches: stored vectors where the index knows them, else new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from imgindex.embedding.on_demand import embed_files
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage, UsageError
from imgindex.images.fingerprint import Content, read_content
from imgindex.searching import open_search
from imgindex.selecting import select
from imgindex.storage.store import Store
from imgindex.types import Answer, Embedder, Failure, Match, Path, Vectors, VectorSearch

# Queries that are answered together, and the matches that are in memory with them.
AT_ONCE, MATCHES_AT_ONCE = 256, 1 << 20
# What is left of a sum of vectors of length 1 that cancel each other out, by rounding.
NOTHING = 1e-6
EMPTY = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Mix:
    """Several images as one question: what is near to those of `plus` together, and not to those of `minus`."""

    plus: Iterable[Path]
    minus: Iterable[Path] = ()

    def __post_init__(self) -> None:
        for name in ("plus", "minus"):
            paths = getattr(self, name)
            alone = isinstance(paths, (str, os.PathLike))
            object.__setattr__(self, name, tuple(map(os.fspath, (paths,) if alone else paths)))
        if not self.plus:
            raise UsageError("a mix needs an image that it begins with")

    def __str__(self) -> str:
        return " + ".join(map(str, self.plus)) + "".join(f" - {image}" for image in self.minus)


@dataclass(frozen=True, slots=True)
class Limits:
    """Which matches are wanted: at most n, none farther than max_distance, the query itself or not.

    where: a condition on the images that may be matches.
    """

    n: int
    max_distance: float | None = None
    include_self: bool = False
    where: str | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"-n {self.n}: at least one match must be asked for")
        if self.max_distance is not None and not self.max_distance >= 0:
            raise UsageError(f"{self.max_distance} is no distance", hint="give a number from 0 up")


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked: its vector (dimension,) or the failure to get one, and the ids of the images that it names."""

    text: str
    vector: Vectors
    ids: tuple[int, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where vectors come from: an index, and what decodes and embeds the images that it does not have."""

    store: Store
    decoders: Decoders
    make_embedder: Callable[[], Embedder]


def answer(sources: Sources, asked: Iterable[str | Mix], limits: Limits) -> Generator[Answer, None, None]:
    """Yield the matches of each image or mix of images, or why it could not be read, from one state of the index.

    Some hundred queries are in memory at once. Raises UsageError for a condition that is none, IndexDamaged when the
    vector of a query or of a match does not have its CRC32.
    """
    store = sources.store
    with store.reading():
        only = select(store, limits.where)
        shown = store.catalogue.count()["images"] if only is None else len(only)
        # Not more than there are: the answer is as wide as what was asked for, be it a billion.
        n = min(limits.n, shown)
        size = max(1, min(AT_ONCE, MATCHES_AT_ONCE // (n + 1)))
        search: VectorSearch | None = None
        asked = iter(asked)
        while lot := list(islice(asked, size)):
            queries = resolve(sources, lot)
            able = [query for query in queries if query.failure is None]
            if able and search is None:
                search = open_search(store, only)
            matches = _matches(store, search, able, limits, n) if search is not None and able and n else {}
            for query in queries:
                yield Answer(query.text, matches.get(id(query), []), query.failure)


def _matches(
    store: Store, search: VectorSearch, queries: list[Query], limits: Limits, n: int
) -> dict[int, list[Match]]:
    """Return the matches of each query, under what `id` says of it."""
    # The images that a query names may be among its own neighbours.
    spare = 0 if limits.include_self else max(len(query.ids) for query in queries)
    near = search.search(np.stack([query.vector for query in queries]), n + spare)
    found = {}
    for query, ids, distances in zip(queries, near.ids.tolist(), near.distances.tolist(), strict=True):
        unwanted = () if limits.include_self else query.ids
        pairs = [(id, apart) for id, apart in zip(ids, distances, strict=True) if id >= 0 and id not in unwanted]
        if limits.max_distance is not None:
            pairs = [(id, apart) for id, apart in pairs if apart <= limits.max_distance]
        pairs = pairs[: limits.n]
        paths = store.catalogue.image_paths([id for id, _ in pairs])
        found[id(query)] = [Match(rank, paths[key], apart, key) for rank, (key, apart) in enumerate(pairs, 1)]
    return found


def resolve(sources: Sources, asked: Sequence[str | Mix]) -> list[Query]:
    """Return the vectors of images and mixes, in their order; only an image that the index does not know is embedded.

    The vector of a mix is the sum of the images' vectors, less those that are taken away, of length 1 where the
    recipe's vectors are.
    """
    images = list(dict.fromkeys(chain.from_iterable(_images(one) for one in asked)))
    of_image = dict(zip(images, _resolve(sources, images), strict=True))
    unit = Recipe.from_json(sources.store.recipe_json).norm == "l2"
    return [_mixed(one, of_image, unit) if isinstance(one, Mix) else of_image[one] for one in asked]


def _images(asked: str | Mix) -> tuple[str, ...]:
    return tuple(map(str, (*asked.plus, *asked.minus))) if isinstance(asked, Mix) else (asked,)


def _mixed(mix: Mix, of_image: dict[str, Query], unit: bool) -> Query:
    plus, minus = ([of_image[str(image)] for image in part] for part in (mix.plus, mix.minus))
    failure = next((query.failure for query in (*plus, *minus) if query.failure is not None), None)
    if failure is not None:
        return Query(str(mix), EMPTY, failure=failure)
    signed = [*((1.0, query) for query in plus), *((-1.0, query) for query in minus)]
    vector = np.sum([sign * query.vector.astype(np.float64) for sign, query in signed], axis=0)
    if unit:
        length = np.linalg.norm(vector)
        if length < NOTHING:
            return Query(str(mix), EMPTY, failure=Failure(str(mix), "mix", "the images cancel each other out"))
        vector /= length
    ids = tuple(dict.fromkeys(id for _, query in signed for id in query.ids))
    return Query(str(mix), vector.astype(np.float32), ids)


def _resolve(sources: Sources, images: Sequence[str]) -> list[Query]:
    """Return the vectors of images, in their order."""
    found: dict[int, Query] = {}
    unknown = _unknown(sources.store, images, found)
    first = next(unknown, None)
    if first is not None:
        sources.decoders.start()  # while torch is imported
        embedder = sources.make_embedder()
        files = ((position, content.data) for position, content in chain([first], unknown))
        for position, vector in embed_files(files, decoders=sources.decoders, embedder=embedder):
            image = images[position]
            if isinstance(vector, UnreadableImage):
                found[position] = _failed(image, vector)
            else:
                found[position] = Query(image, vector)
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


def _failed(image: str, error: UnreadableImage) -> Query:
    return Query(image, EMPTY, failure=Failure(os.path.abspath(image), error.stage, error.reason))


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
    return Query(image, store.vectors([known.id])[0], (known.id,))


def _of_same_content(store: Store, image: str, content: Content) -> Query | None:
    """The vector of an image with the same bytes; that is the same image only if it is the same file."""
    twins = store.catalogue.twins(content.sha256)
    places = list(store.catalogue.locations([twin.place.id for twin in twins]))
    if not places:
        return None
    same = {twin.place.id for twin in twins if _is_same_file(twin.path, image)}
    place = next((place for place in places if place.id in same), places[0])
    return Query(image, store.read(place), (place.id,) if place.id in same else ())


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
