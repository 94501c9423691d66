"""How far half precision changes answers: measured on a few pictures of every longer run, until enough are known."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from imgindex.adding.outcomes import Prepared
from imgindex.adding.work import Work
from imgindex.errors import DeviceUnavailable, IndexDamaged
from imgindex.searching import open_search
from imgindex.storage import receipts
from imgindex.storage.store import Store
from imgindex.types import Embedder, Pixels, PrecisionReceipt, Vectors

log = logging.getLogger(__name__)

NEAREST = 10
LONG_RUN = 128
ENOUGH = 64
# No further samples in fp32 after half a second, or after this part of the run's time.
LONGEST_SECONDS = 0.5
LONGEST_SHARE = 0.02
TINY = np.finfo(np.float32).tiny


def measure(store: Store, work: Work, *, seconds: float) -> None:
    """Embed samples of a run of so many seconds in fp32 too, and record how many of their nearest images stay the same.

    Short runs are not measured, and none once enough is known.
    """
    catalogue, embedder = work.writer.catalogue, work.embedder
    if embedder is None or embedder.precision == "fp32" or work.counts["added"] + work.counts["updated"] < LONG_RUN:
        return
    before = receipts.read(catalogue).get(embedder.precision)
    if before is not None and before.pictures >= ENOUGH:
        return
    # One whose vector was not finite is in the ledger, not in the index.
    known = catalogue.known([sample.image.file.path for sample in work.samples])
    images = ((known.get(sample.image.file.path), sample) for sample in work.samples)
    ids = {image.id: sample for image, sample in images if image is not None and image.present}
    if not ids:
        return
    try:
        receipt = _measured(store, embedder, ids, max(LONGEST_SECONDS, LONGEST_SHARE * seconds))
    except (DeviceUnavailable, IndexDamaged) as error:
        log.info("no precision receipt: %s", error)  # which is no reason for a run to fail that is done
        return
    with catalogue.atomic():
        receipts.write(catalogue, receipt if before is None else _together(before, receipt))


def _measured(store: Store, embedder: Embedder, samples: dict[int, Prepared], seconds: float) -> PrecisionReceipt:
    exact = _embed([sample.pixels for sample in samples.values()], embedder.exact(), seconds)
    ids = list(samples)[: len(exact)]
    with store.reading():
        stored = store.vectors(ids)
        found = open_search(store).search(np.concatenate([stored, exact]), NEAREST + 1).ids
    kept = [
        _share(ours[ours != id], theirs[theirs != id])
        for id, ours, theirs in zip(ids, found[: len(ids)], found[len(ids) :], strict=True)
    ]
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(exact, axis=1)
    # A vector of zeros has no direction.
    cosines = np.where(
        lengths > 0, (stored * exact).sum(axis=1) / np.maximum(lengths, TINY), (stored == exact).all(axis=1)
    )
    return PrecisionReceipt(embedder.precision, len(ids), float(np.mean(kept)), float(cosines.min()))


def _embed(pictures: list[Pixels], embedder: Embedder, seconds: float) -> Vectors:
    """Return vectors of pictures, two by two, until those are over or the seconds."""
    vectors: list[Vectors] = []
    end = time.perf_counter() + seconds
    for start in range(0, len(pictures), 2):
        vectors.append(embedder.embed(np.stack(pictures[start : start + 2])))
        if time.perf_counter() > end:
            break
    return np.concatenate(vectors)


def _share(ours: np.ndarray, theirs: np.ndarray) -> float:
    return len(np.intersect1d(ours[:NEAREST], theirs[:NEAREST])) / NEAREST


def _together(one: PrecisionReceipt, other: PrecisionReceipt) -> PrecisionReceipt:
    pictures = one.pictures + other.pictures
    overlap = (one.overlap * one.pictures + other.overlap * other.pictures) / pictures
    return replace(one, pictures=pictures, overlap=overlap, cosine=min(one.cosine, other.cosine))
