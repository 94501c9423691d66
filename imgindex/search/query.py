"""Answers queries by image: finds or computes the vectors of the images, and searches for their matches."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from imgindex.decoding.pool import DecoderPool
from imgindex.encoders.encode_files import encode_files
from imgindex.errors import PathNotFound, UnreadableImage, UsageError
from imgindex.recipe import Recipe
from imgindex.results import Answer, Match
from imgindex.search.filters import select
from imgindex.search.image_inputs import ImageInput, InMemory, as_input
from imgindex.search.lifecycle import load_search
from imgindex.search.smoothed import QueryAverages, smoothed_rows
from imgindex.search.upkeep import prepare_smoothing
from imgindex.sources.base import Content
from imgindex.sources.registry import is_folder, look, read_content
from imgindex.storage.paths import absolute, as_iterable, as_written, path_text
from imgindex.storage.records import is_same_stat, is_same_version, stored_stat
from imgindex.storage.store import Store
from imgindex.types import Encoder, Failure, Ids, OnProgress, Path, Vectors, VectorSearch

# Queries that are answered together, and the limit of the matches that are in memory with them.
AT_ONCE, MATCHES_AT_ONCE = 256, 1 << 20
# The length that rounding leaves of a sum of unit vectors that cancel each other out.
NOTHING = 1e-6
EMPTY = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Mix:
    """Several images as one query, for what is near to all of `plus` and far from those of `minus`."""

    plus: Iterable[Path]
    minus: Iterable[Path] = ()

    def __post_init__(self) -> None:
        for name in ("plus", "minus"):
            object.__setattr__(self, name, tuple(map(path_text, as_iterable(getattr(self, name)))))
        if not self.plus:
            raise UsageError("a mix needs at least one image to begin with")

    def __str__(self) -> str:
        return " + ".join(map(str, self.plus)) + "".join(f" - {image}" for image in self.minus)


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its vector (dimension,) or the failure to get one, and the ids of the images that it names.

    own: the id of the image whose own vector it is; −1 for a mix, and for an image that the index does not have.
    """

    text: str
    vector: Vectors
    ids: tuple[int, ...] = ()
    failure: Failure | None = None
    own: int = -1


@dataclass(frozen=True, slots=True)
class QueryContext:
    """Where the vectors of queries come from: the index, or a decoder and an encoder for images that it lacks."""

    store: Store
    decoders: DecoderPool
    make_encoder: Callable[[], Encoder]


def answer(
    context: QueryContext,
    images: Iterable[ImageInput | Mix],
    *,
    n: int,
    max_distance: float | None = None,
    include_self: bool = False,
    where: str | None = None,
    rerank: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> Generator[Answer, None, None]:
    """Yield the matches of each image or mix, or why it could not be read, all from one state of the index.

    At most n matches each, none farther than max_distance. include_self: whether an image that a query names may be its
    own match. where: an SQL condition on the matches. rerank: compare averaged vectors, see `smoothing`; on_progress is
    called while these are made. A few hundred queries are in memory at once.

    Raises UsageError at once for impossible arguments, and later for an invalid condition; IndexDamaged when the vector
    of a query or of a match does not have its CRC32.
    """
    if n < 1:
        raise UsageError(f"n is {n}: at least 1 match must be asked for", hint="give 1 or more")
    if max_distance is not None and not max_distance >= 0:
        raise UsageError(f"{max_distance} is not a distance", hint="give 0 or more")
    return _answers(context, images, n, max_distance, include_self, where, rerank, on_progress)


def _answers(
    context: QueryContext,
    images: Iterable[ImageInput | Mix],
    n: int,
    max_distance: float | None,
    include_self: bool,
    where: str | None,
    rerank: bool,
    on_progress: OnProgress,
) -> Generator[Answer, None, None]:
    store = context.store
    if rerank:
        with store.reading():
            select(store, where)  # a mistake in the condition is reported before the work
        prepare_smoothing(store, on_progress)

    def of_a_state() -> Iterator[Answer]:
        only = select(store, where)
        # No more than there are: the search allocates n answers for each query.
        most = min(n, store.catalogue.last_id() if only is None else len(only))
        size = max(1, min(AT_ONCE, MATCHES_AT_ONCE // (most + 1)))
        search: VectorSearch | None = None
        averages: QueryAverages | None = None
        requested = _inputs(store, images)
        while batch := list(islice(requested, size)):
            queries = resolve(context, batch)
            readable = [query for query in queries if query.failure is None]
            matches: Iterator[list[Match]] = iter(())
            if readable and most:
                if rerank:
                    search = search or _smoothed_search(store, only, on_progress)
                    averages = averages or QueryAverages(store)
                    readable = _averaged(averages, readable)
                search = search or load_search(store, only)
                matches = iter(_matches(store, search, readable, most, max_distance, include_self))
            for query in queries:
                yield Answer(query.text, next(matches, []) if query.failure is None else [], query.failure, rerank)

    yield from store.each(of_a_state)


def _smoothed_search(store: Store, only: Ids | None, on_progress: OnProgress) -> VectorSearch:
    """Return an exact search among the averaged vectors: FAISS has a file of the stored ones only."""
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.search.exact import ExactSearch

    return ExactSearch([smoothed_rows(store, on_progress).block(only)])


def _averaged(averages: QueryAverages, queries: list[Query]) -> list[Query]:
    own = np.array([query.own for query in queries])
    vectors = averages.of(np.stack([query.vector for query in queries]), own)
    return [replace(query, vector=vector) for query, vector in zip(queries, vectors, strict=True)]


def _matches(
    store: Store,
    search: VectorSearch,
    queries: list[Query],
    n: int,
    max_distance: float | None,
    include_self: bool,
) -> list[list[Match]]:
    """Return the matches of each query, which all have vectors."""
    # The images that a query names may be among its own neighbours.
    spare = 0 if include_self else max(len(query.ids) for query in queries)
    near = search.search(np.stack([query.vector for query in queries]), n + spare)
    found = []
    for query, ids, distances in zip(queries, near.ids.tolist(), near.distances.tolist(), strict=True):
        excluded = () if include_self else query.ids
        pairs = [
            (id, distance)
            for id, distance in zip(ids, distances, strict=True)
            if id >= 0 and id not in excluded and (max_distance is None or distance <= max_distance)
        ][:n]
        paths = store.catalogue.image_paths([id for id, _ in pairs])
        found.append([Match(rank, paths[id], distance, id) for rank, (id, distance) in enumerate(pairs, 1)])
    return found


def _inputs(store: Store, images: Iterable[ImageInput | Mix]) -> Iterator[str | InMemory | Mix]:
    return (image if isinstance(image, Mix) else as_input(image, store.segments.dimension) for image in images)


def resolve(context: QueryContext, asked: Sequence[str | InMemory | Mix]) -> list[Query]:
    """Return queries for images and mixes, in their order; only an image that the index does not have is embedded.

    The vector of a mix is the sum of the vectors of `plus` less those of `minus`, scaled to length 1 where the recipe's
    vectors have length 1.
    """
    images = list(dict.fromkeys(chain.from_iterable(_images(one) for one in asked)))
    of_image = dict(zip(images, _resolve(context, images), strict=True))
    return [_mixed(one, of_image, context.store) if isinstance(one, Mix) else of_image[one] for one in asked]


def _images(asked: str | InMemory | Mix) -> tuple[str | InMemory, ...]:
    return tuple(map(str, (*asked.plus, *asked.minus))) if isinstance(asked, Mix) else (asked,)


def _mixed(mix: Mix, of_image: Mapping[str | InMemory, Query], store: Store) -> Query:
    plus, minus = ([of_image[str(image)] for image in part] for part in (mix.plus, mix.minus))
    failure = next((query.failure for query in (*plus, *minus) if query.failure is not None), None)
    if failure is not None:
        return Query(str(mix), EMPTY, failure=failure)
    signed = [*((1.0, query) for query in plus), *((-1.0, query) for query in minus)]
    vector = np.sum([sign * query.vector.astype(np.float64) for sign, query in signed], axis=0)
    if Recipe.from_json(store.recipe_json).norm == "l2":
        length = np.linalg.norm(vector)
        if length < NOTHING:
            return Query(str(mix), EMPTY, failure=Failure(str(mix), "mix", "the images cancel each other out"))
        vector /= length
    ids = tuple(dict.fromkeys(id for _, query in signed for id in query.ids))
    return Query(str(mix), vector.astype(np.float32), ids)


def _resolve(context: QueryContext, images: Sequence[str | InMemory]) -> list[Query]:
    """Return queries for images, in their order."""
    found: dict[int, Query] = {}
    unknown = _unknown(context.store, images, found)
    first = next(unknown, None)
    if first is not None:
        context.decoders.start()  # while the network is made
        encoder = context.make_encoder()
        files = ((position, content.data) for position, content in chain([first], unknown))
        for position, vector in encode_files(files, decoders=context.decoders, encoder=encoder):
            image = images[position]
            if isinstance(vector, UnreadableImage):
                found[position] = _failed(image, vector)
            else:
                found[position] = Query(_text(image), vector)
    return [found[position] for position in range(len(images))]


def _unknown(store: Store, images: Sequence[str | InMemory], found: dict[int, Query]) -> Iterator[tuple[int, Content]]:
    """Yield position and content of images without a vector in the index; put queries for the others into `found`."""
    for position, image in enumerate(images):
        try:
            query = _given(image) if isinstance(image, InMemory) else _stored(store, image)
            if query is None:
                content = image.content if isinstance(image, InMemory) else _content(image)
                query = _of_same_content(store, _text(image), content)
                if query is None:
                    yield position, content
                    continue
        except UnreadableImage as error:
            query = _failed(image, error)
        except PathNotFound as error:  # two files differ only in how an accent is written
            query = _failed(image, UnreadableImage(str(error), stage="find"))
        found[position] = query


def _failed(image: str | InMemory, error: UnreadableImage) -> Query:
    path = image.path if isinstance(image, InMemory) else as_written(image)
    return Query(_text(image), EMPTY, failure=Failure(path, error.stage, error.reason))


def _text(image: str | InMemory) -> str:
    return image.path if isinstance(image, InMemory) else image


def _given(image: InMemory) -> Query | None:
    return None if image.vector is None else Query(image.path, image.vector)


def _content(image: str) -> Content:
    """Return the content of an image. Raises UnreadableImage, whose reason helps where a folder is named."""
    path = absolute(image)
    if is_folder(path):
        raise UnreadableImage(
            "it is a folder or an archive; name images, for example those of FOLDER/*.jpg, or set.zip/1.jpg",
            stage="read",
        )
    return read_content(path)


def _stored(store: Store, image: str) -> Query | None:
    """Return the image's own vector, if the index has it and its file is unchanged, or deleted since."""
    found = store.catalogue.find(as_written(image))
    if found is None or not found[1].present:
        return None
    path, known = found
    now = look(path)
    if now is not None and not (
        is_same_stat(known.stat, stored_stat(now)) or is_same_version(known.stat, stored_stat(now))
    ):
        return None
    return Query(image, store.vectors([known.id])[0], (known.id,), own=known.id)


def _of_same_content(store: Store, image: str, content: Content) -> Query | None:
    """Return the vector of an image with the same bytes; it is the same image only if it is the same file."""
    same_content = store.catalogue.same_content(content.sha256)
    places = list(store.catalogue.locations([twin.location.id for twin in same_content]))
    if not places:
        return None
    same = {twin.location.id for twin in same_content if _is_same_file(twin.path, absolute(image))}
    place = next((place for place in places if place.id in same), places[0])
    itself = place.id in same
    return Query(image, store.read(place), (place.id,) if itself else (), own=place.id if itself else -1)


def _is_same_file(path: str, other: str) -> bool:
    try:
        return path == other or os.path.samefile(path, other)
    except OSError:
        return False


def vectors_of(context: QueryContext, images: Iterable[ImageInput | Mix]) -> list[Query]:
    """Return queries for images and mixes in their order. Raises UnreadableImage for the first without a vector."""
    inputs = _inputs(context.store, images)
    found: list[Query] = []
    with context.store.reading():
        while batch := list(islice(inputs, AT_ONCE)):
            found += resolve(context, batch)
    for query in found:
        if query.failure is not None:
            raise UnreadableImage(f"cannot read {query.text}: {query.failure.reason}", stage=query.failure.stage)
    return found


def anchor_vectors(context: QueryContext, name: str, images: Iterable[ImageInput], *, smooth: bool) -> Vectors:
    """Return the vectors (m, dimension) of the example images of an anchor, averaged with `smooth`.

    Raises UsageError, UnreadableImage.
    """
    found = vectors_of(context, images)
    if not found:
        raise UsageError(f"the anchor {name!r} has no images")
    if smooth:
        with context.store.reading():
            found = _averaged(QueryAverages(context.store), found)
    return np.stack([query.vector for query in found])
