"""Compares the pixels of pairs of images, and keeps the results in the index, so that a second run is quick."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from imgindex.curation.rotations import ALL, inverse
from imgindex.curation.same_picture import DIFFERENT, METHOD, SIDE, Comparison, Features, View, compare
from imgindex.decoding import blank
from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage
from imgindex.errors import ImgindexError, UnreadableImage
from imgindex.recipe import Recipe
from imgindex.sources.registry import read_content
from imgindex.storage import comparisons
from imgindex.storage.comparisons import Key
from imgindex.storage.store import Store
from imgindex.types import Failure, Image, OnProgress, Progress, counted

Decoded = TypeVar("Decoded")

CHANGED = "changed since it was added: run `imgindex add`"
ALPHAS: tuple[Literal["visible", "white", "black"], ...] = ("visible", "white", "black")
SAME_PIXELS = Comparison(True, 1.0)
# Bytes of pictures that are kept decoded, each of at most 3 MB: so 50 large ones, and 400 of 320 × 240 pixels.
VIEW_BYTES = 150 << 20
# Pictures whose features are kept, of about 50 kB each: to find them takes longer than to decode the picture.
FEATURES_KEPT = 2000
# Results that are written to the index together: every commit takes the lock.
RESULTS_AT_ONCE = 20_000
# The recipe by which pictures are decoded to be compared.
VIEW_RECIPE = replace(Recipe.without_network("compare", SIDE), geometry="reduced", draft_margin=1.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images to compare; turned: how the second one is turned before, a name of rotations.ALL.

    blank: whether they are blank. Nothing in them could be aligned, so all their pixels must be equal.
    """

    first: int
    second: int
    turned: str = ""
    blank: bool = False


class ViewDecoder:
    """Decodes files to views, in decoder processes; any thread may use it."""

    def __init__(self) -> None:
        self._pools = {
            # Structure decides, not the last digits of a vector: a JPEG is decoded at the smallest size that suffices.
            alpha: DecoderPool(replace(VIEW_RECIPE, alpha=alpha))
            for alpha in ALPHAS
        }

    def view(self, data: bytes) -> View:
        """Return the view of a picture; a transparent one has others on more backgrounds. Raises UnreadableImage."""
        decoded = self._pools["visible"].decode(data)
        if not decoded.is_transparent:
            return View(decoded.pixels)
        others = [View(self._pools[alpha].decode(data).pixels) for alpha in ("white", "black")]
        return View(decoded.pixels, others)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class Verifier:
    """Compares pairs of images of an index; `failures` are images that could not be read for it.

    decoders: a pool that computes hashes, by which images are found to be blank. compared: how many pairs were compared
    now, and not in an earlier run. ahead: about how many pairs the caller will want after the next ones, for the total
    of the progress.
    """

    def __init__(
        self, store: Store, decoders: DecoderPool, *, on_progress: OnProgress, wait: Callable[[], bool]
    ) -> None:
        self.failures: dict[int, Failure] = {}
        self.compared = self.ahead = 0
        self._store, self._on_progress, self._wait = store, on_progress, wait
        self._images: dict[int, Image] = {}
        stored = comparisons.compared(store.catalogue, METHOD)
        self._known = {key: Comparison(*found) for key, found in stored.items()}
        self._new: dict[Key, Comparison] = {}
        self._decoders, self._blank_decoders = ViewDecoder(), decoders
        self._digests: dict[int, bytes] = {}
        self._views: OrderedDict[int, View] = OrderedDict()
        self._view_bytes = 0
        self._features: OrderedDict[int, Features] = OrderedDict()
        self._views_lock = threading.Lock()
        self._can_record = True

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *raised: object) -> None:
        self._decoders.close()
        self.record()

    def are_copies(self, pairs: Sequence[Pair]) -> list[bool]:
        """Return for each pair whether both images show the same picture; new pairs are compared in parallel."""
        return [found.copy for found in self.compare(pairs)]

    def compare(self, pairs: Sequence[Pair]) -> list[Comparison]:
        """Return the comparison of each pair."""
        self.load({id for pair in pairs for id in (pair.first, pair.second)})
        new = {self._key(pair): pair for pair in pairs if self._key(pair) not in self._known}
        workers = worker_count(None)
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-compare") as threads:
            each = map_ahead(threads, self._compare, iter(new.values()), depth=2 * workers)
            if new and not self.compared:
                self.report(len(new))
            for place, (pair, result) in enumerate(each, 1):
                self.compared += 1
                self.report(len(new) - place)
                if result is not None:
                    self._known[self._key(pair)] = result
                    self._new[self._key(pair)] = result
                if len(self._new) >= RESULTS_AT_ONCE:
                    self.record()
        return [self._known.get(self._key(pair), DIFFERENT) for pair in pairs]

    def report(self, left: int = 0) -> None:
        """Report the progress; left: how many pairs of the present ones are still to be compared."""
        total = self.compared + left + self.ahead
        self._on_progress(Progress("compare pixels", self.compared, total, unit="pairs"))

    def load(self, ids: Iterable[int]) -> None:
        """Read what the catalogue has of images, before threads ask for their views."""
        for id in set(ids) - self._images.keys():
            (self._images[id],) = self._store.catalogue.records([id])

    def record(self) -> None:
        """Write new results to the index; an index that cannot be written to, or is locked, only stays as it was."""
        if not self._new or not self._can_record:
            return
        try:
            with self._store.writing(wait=self._wait) as writer, writer.catalogue.atomic():
                results = ((key, one.copy, one.share) for key, one in self._new.items())
                comparisons.record_compared(writer.catalogue, METHOD, results)
        except (ImgindexError, OSError):
            self._can_record = False
        self._new = {}

    def _key(self, pair: Pair) -> Key:
        first, second = (bytes.fromhex(self._images[id].sha256) for id in (pair.first, pair.second))
        return (first, second, pair.turned) if first <= second else (second, first, inverse(pair.turned))

    def _compare(self, pair: Pair) -> tuple[Pair, Comparison | None]:
        if pair.first in self.failures or pair.second in self.failures:
            return pair, None
        try:
            if pair.blank:
                digest = self.digest(pair.first)
                return pair, SAME_PIXELS if digest and digest == self.digest(pair.second) else DIFFERENT
            first, second = self.view(pair.first), self.view(pair.second)
        except UnreadableImage:
            return pair, None
        if pair.turned:
            second = second.changed(ALL[pair.turned].pixels)
        return pair, compare(first, second)

    def view(self, id: int) -> View:
        """Return an image, decoded, of those that were loaded; any thread may call this. Raises UnreadableImage."""
        with self._views_lock:
            if id in self._views:
                self._views.move_to_end(id)
                return self._views[id]
        view = self._decoded(id, self._decoders.view)
        with self._views_lock:
            if id in self._views:  # another thread was faster
                return self._views[id]
            view.known_features = self._features.get(id)
            self._views[id] = view
            self._view_bytes += view.bytes
            while self._view_bytes > VIEW_BYTES and len(self._views) > 1:
                self._forget(*self._views.popitem(last=False))
        return view

    def _forget(self, id: int, view: View) -> None:
        """Keep only the features of a view, if they were needed."""
        self._view_bytes -= view.bytes
        if view.known_features is not None:
            self._features[id] = view.known_features
            self._features.move_to_end(id)
            while len(self._features) > FEATURES_KEPT:
                self._features.popitem(last=False)

    def digest(self, id: int) -> bytes:
        """Return the digest of all pixels of a blank image that was loaded; empty if it has none or is not blank.

        Any thread may call this. Raises UnreadableImage.
        """
        if id not in self._digests:
            decoded = self._decoded(id, self._blank_decoders.decode)
            self._digests[id] = (blank.parse(decoded.hashes) or b"") if decoded.blank else b""
        return self._digests[id]

    def _decoded(self, id: int, decode: Callable[[bytes], Decoded]) -> Decoded:
        """Return what a decoder makes of an image's file; what is raised is a failure too. Raises UnreadableImage."""
        image = self._images[id]
        try:
            return decode(_read_unchanged(image))
        except UnreadableImage as error:
            self.failures[id] = Failure(image.path, error.stage, error.reason)
            raise


def _read_unchanged(image: Image) -> bytes:
    """Return the bytes of an image's file. Raises UnreadableImage unless they are those that were added."""
    content = read_content(image.path)
    if content.sha256.hex() != image.sha256:
        raise UnreadableImage(CHANGED, stage="read")
    return content.data


def compute_missing_hashes(
    store: Store, decoders: DecoderPool, images: Iterable[Image], *, on_progress: OnProgress, wait: Callable[[], bool]
) -> tuple[Mapping[str, tuple[bytes, bool]], list[Failure]]:
    """Return hashes and blankness by SHA-256 of images that have none, and store them if the index can be written.

    decoders: a pool that computes hashes. Images that cannot be read, or have other bytes now, are failures.
    """
    wanted = {image.sha256: image for image in images}
    found: dict[str, tuple[bytes, bool]] = {}
    failures: list[Failure] = []

    def read(image: Image) -> tuple[Image, DecodedImage | UnreadableImage]:
        try:
            return image, decoders.decode(_read_unchanged(image))
        except UnreadableImage as error:
            return image, error

    workers = worker_count(None)
    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-hash") as threads:
        each = _ahead(threads, read, wanted.values(), workers)
        for image, decoded in counted(each, len(wanted), "hash", on_progress, every=1):
            if isinstance(decoded, UnreadableImage):
                failures.append(Failure(image.path, decoded.stage, decoded.reason))
            else:
                found[image.sha256] = decoded.hashes, decoded.blank
    if found:
        rows = ((bytes.fromhex(sha256), *hashes) for sha256, hashes in found.items())
        writing = store.writing(wait=wait)
        with contextlib.suppress(ImgindexError, OSError), writing as writer, writer.catalogue.atomic():
            comparisons.record_hashes(writer.catalogue, rows)
    return found, failures


def _ahead(
    threads: ThreadPoolExecutor,
    read: Callable[[Image], tuple[Image, DecodedImage | UnreadableImage]],
    images: Iterable[Image],
    workers: int,
) -> Iterator[tuple[Image, DecodedImage | UnreadableImage]]:
    return map_ahead(threads, read, iter(images), depth=2 * workers, size=lambda image: image.size)
