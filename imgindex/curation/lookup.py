"""What the index knows of files that are not in it: whether they are the same as, or copies of, images that it has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeAlias

import numpy as np

from imgindex.curation.candidates import MOST_BITS, NEAREST, Hashes, near_hashes, read_hashes
from imgindex.curation.rotations import ALL, Turn, turns
from imgindex.curation.same_picture import View, compare
from imgindex.curation.thresholds import candidate_distance, similar_distance
from imgindex.curation.verification import Verifier, ViewDecoder
from imgindex.decoding import blank, perceptual_hash
from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.plugins import readable_raw_endings
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage
from imgindex.encoders.encode_files import encode_files
from imgindex.errors import UnreadableImage
from imgindex.recipe import Recipe
from imgindex.results import LookupResult
from imgindex.search.image_inputs import InMemory
from imgindex.search.lifecycle import load_search
from imgindex.sources.base import Content
from imgindex.sources.registry import find_files, hash_file, only_images, read_content, read_each
from imgindex.storage.store import Store
from imgindex.types import Encoder, Failure, FoundFile, OnProgress, Progress, Vectors, VectorSearch

Embedded: TypeAlias = "tuple[int, Vectors | UnreadableImage]"
# Files that are searched for at once.
QUERIES = 128


def lookup(
    store: Store,
    recipe: Recipe,
    decoders: DecoderPool,
    make_encoder: Callable[[], Encoder],
    roots: Sequence[str],
    *,
    in_memory: Sequence[InMemory] = (),
    similar: bool,
    distance: float | None,
    rotations: bool,
    flips: bool,
    on_progress: OnProgress,
    wait: Callable[[], bool],
) -> list[LookupResult]:
    """Return what the index knows of each file at or below the roots, absolute paths, in the order of the files.

    in_memory: the bytes of further files, which come after those.
    A file that has the bytes of an image is not decoded. decoders: a pool that computes hashes. The other parameters
    are those of `ImageIndex.lookup`. Raises UsageError, IndexDamaged, and what making the encoder raises.
    """
    within = similar_distance(recipe, distance, similar=similar)
    with store.reading():
        found = find_files(roots, skip=[store.path], further_endings=readable_raw_endings())
        on_progress(Progress("find", 0, 0))
        files = [*only_images(found), *in_memory]
        known = _KnownFiles(store, files, on_progress)
        unknown = known.unknown()
        first = next(unknown, None)
        if first is not None:
            decoders.start()  # while the network is made
            encoder = make_encoder()
            decoded: dict[int, DecodedImage] = {}
            embedded = encode_files(
                chain([first], unknown), decoders=decoders, encoder=encoder, on_decoded=decoded.__setitem__
            )
            ids = np.fromiter(store.catalogue.image_paths(), dtype=np.int64)
            hashes = read_hashes(store, decoders, ids, on_progress=on_progress, wait=wait)
            with (
                Verifier(store, decoders, on_progress=on_progress, wait=wait) as verifier,
                contextlib.closing(ViewDecoder()) as view_decoders,
            ):
                ways = turns(rotations=rotations, flips=flips)
                work = _Lookup(store, recipe, files, known.found, hashes, verifier, view_decoders, within, ways)
                while batch := list(known.each_embedded(islice(embedded, QUERIES))):
                    work.search(batch, decoded)
        return [known.found[place] for place in range(len(files))]


class _KnownFiles:
    """The files of one lookup, and in `found` the results that need no picture, by place in the list of files."""

    def __init__(self, store: Store, files: Sequence[FoundFile | InMemory | Failure], on_progress: OnProgress) -> None:
        self.found: dict[int, LookupResult] = {}
        self._store, self._files, self._on_progress = store, files, on_progress
        self._known = self._embedded = 0
        self._report()

    def unknown(self) -> Iterator[tuple[int, bytes]]:
        """Yield place and bytes of each file whose bytes no image has; the results of the others go to `found`."""
        files = {place: file for place, file in enumerate(self._files) if isinstance(file, FoundFile)}
        contents = chain(
            zip(files, (content for _, content in read_each(files.values())), strict=True),
            ((place, file.content) for place, file in enumerate(self._files) if isinstance(file, InMemory)),
        )
        for place, file in enumerate(self._files):
            if isinstance(file, Failure):
                self._know(place, LookupResult(file.path, "failed", reason=file.reason))
        for place, content in contents:
            file = self._files[place]
            if isinstance(content, UnreadableImage):
                self._know(place, LookupResult(file.path, "failed", reason=content.reason))
                continue
            same = self._image_with(content, file.path)
            if same is None:
                yield place, content.data
            else:
                id, path = same
                self._know(place, LookupResult(file.path, "same", match=path, distance=0.0, id=id))

    def each_embedded(self, files: Iterable[Embedded]) -> Iterator[Embedded]:
        """Yield files that were embedded, and count them as done."""
        for file in files:
            self._embedded += 1
            self._report()
            yield file

    def _know(self, place: int, result: LookupResult) -> None:
        self.found[place] = result
        self._known += 1
        self._report()

    def _report(self) -> None:
        self._on_progress(Progress("lookup", self._known + self._embedded, len(self._files)))

    def _image_with(self, content: Content, path: str) -> tuple[int, str] | None:
        """Return id and path of a present image with these bytes, preferably the one at `path`; None without one.

        The image's file is read: it must still have these bytes, or the only file with them might be deleted.
        """
        catalogue = self._store.catalogue
        paths = catalogue.image_paths([image.location.id for image in catalogue.same_content(content.sha256)])
        # Only several images with these bytes make a difference: a list of files of the index is long.
        found = catalogue.find(path) if len(paths) > 1 else None
        stored = path if found is None else found[0]
        for id, at in sorted(paths.items(), key=lambda item: item[1] != stored):
            if at == path:
                return id, at  # it was read a moment ago
            with contextlib.suppress(UnreadableImage):
                if hash_file(at).sha256 == content.sha256:
                    return id, at
        return None


class _Lookup:
    """Finds the image of which each file is a copy, or the nearest one; the results go to `found`."""

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        files: Sequence[FoundFile | InMemory | Failure],
        found: dict[int, LookupResult],
        hashes: Hashes,
        verifier: Verifier,
        decoders: ViewDecoder,
        within: float | None,
        turns: Mapping[str, Turn],
    ) -> None:
        self._store, self._files, self._found = store, files, found
        self._hashes, self._verifier, self._within = hashes, verifier, within
        self._turns = {"": Turn(), **turns}
        self._candidate_distance = candidate_distance(recipe)
        self._decoders = decoders
        self._with_digest: dict[bytes, list[int]] = {}
        for id, digest in hashes.blank.items():
            if digest:
                self._with_digest.setdefault(digest, []).append(id)
        self._search: VectorSearch | None = None

    def search(self, batch: Sequence[Embedded], decoded: dict[int, DecodedImage]) -> None:
        """Find the results of a batch of files; `decoded` loses their pictures."""
        vectors: dict[int, Vectors] = {}
        for place, vector in batch:
            if isinstance(vector, UnreadableImage):
                self._found[place] = LookupResult(self._files[place].path, "failed", reason=vector.reason)
            else:
                vectors[place] = vector
        if not vectors:
            return
        self._search = self._search or load_search(self._store)
        near = self._search.search(np.stack(list(vectors.values())), NEAREST)
        candidates: dict[int, dict[tuple[int, str], float]] = {}
        for place, ids, distances in zip(vectors, near.ids.tolist(), near.distances.tolist(), strict=True):
            candidates[place] = {
                (id, ""): distance / (self._candidate_distance or 1)
                for id, distance in zip(ids, distances, strict=True)
                if id >= 0 and self._candidate_distance is not None and distance <= self._candidate_distance
            }
        pictures = {place: decoded.pop(place) for place in vectors}
        digests = {place: blank.parse(picture.hashes) for place, picture in pictures.items() if picture.blank}
        # Places and ids are numbers of different things: places become negative.
        codes = {-place - 1: perceptual_hash.parse(pictures[place].hashes) for place in vectors if place not in digests}
        of = {place: code for place, code in codes.items() if code is not None}
        for place, id, name, bits in near_hashes(of, self._hashes.codes, self._turns):
            ways = candidates[-place - 1]
            ways[id, name] = min(ways.get((id, name), 1.0), bits / MOST_BITS)
        self._verifier.load({id for ways in candidates.values() for id, _ in ways})
        self._verifier.load({id for digest in digests.values() for id in self._with_digest.get(digest or b"", ())})
        workers = worker_count(None)
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-lookup") as threads:

            def find(place: int) -> tuple[int, tuple[int, str] | None]:
                if place in digests:
                    return place, self._image_with_pixels(digests[place] or b"")
                ways = candidates[place]
                usable = [way for way in sorted(ways, key=lambda way: ways[way]) if way[0] not in self._hashes.blank]
                return place, self._copy_of(self._files[place], usable)

            copies = dict(map_ahead(threads, find, vectors, depth=2 * workers))
        for number, (place, vector) in enumerate(vectors.items()):
            self._found[place] = self._result(place, vector, copies[place], int(near.ids[number, 0]))

    def _image_with_pixels(self, digest: bytes) -> tuple[int, str] | None:
        """Return the first blank image whose file, read again, has these pixels."""
        for id in self._with_digest.get(digest, ()):
            with contextlib.suppress(UnreadableImage):
                if self._verifier.digest(id) == digest:
                    return id, ""
        return None

    def _copy_of(self, file: FoundFile | InMemory | Failure, ways: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
        """Return the first of these images, with its turn, that the file is a copy of."""
        if not ways:
            return None
        try:
            data = file.data if isinstance(file, InMemory) else read_content(file.path).data
            view = self._decoders.view(data)
        except UnreadableImage:
            return None  # it was decoded a moment ago
        turned: dict[str, View] = {}
        for id, name in ways:
            if name not in turned:
                turned[name] = view.changed(ALL[name].pixels) if name else view
            try:
                if compare(self._verifier.view(id), turned[name]).copy:
                    return id, name
            except UnreadableImage:
                continue
        return None

    def _result(self, place: int, vector: Vectors, copy: tuple[int, str] | None, nearest: int) -> LookupResult:
        path = self._files[place].path
        id, name = copy or (nearest, "")
        if id < 0:
            return LookupResult(path, "new")
        difference = self._store.vectors([id])[0].astype(np.float64) - vector
        distance = float(np.sqrt(difference @ difference))
        (match,) = self._store.catalogue.image_paths([id]).values()
        how = "copy" if copy else "similar" if self._within is not None and distance <= self._within else "new"
        return LookupResult(path, how, match, distance, name, id)
