"""Measures how far a precision below fp32 changes answers, on a few images of each long run, until enough are known."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from imgindex.decoding.lookahead import map_in_streams
from imgindex.errors import DeviceUnavailable, IndexDamaged
from imgindex.ingest.items import MeasuredEncoder, Pipeline, Prepared
from imgindex.ingest.store_recorder import StoreRecorder
from imgindex.search.lifecycle import CANNOT_ASK, load_search
from imgindex.storage import precision
from imgindex.storage.store import Store
from imgindex.types import Encoder, Pixels, PrecisionReport, Vectors

log = logging.getLogger(__name__)

NEAREST = 10
# Runs that embed fewer images are not measured.
MIN_EMBEDDED = 128
# Images that are measured in all the runs together, at least.
ENOUGH_SAMPLES = 64
# The measurement ends after half a second, or after this share of the time of all runs if that is longer.
MAX_SECONDS = 0.5
MAX_SHARE = 0.02
# How long one picture may take in fp32 in a short run, and by how much fp32 is slower, about: 11 to 18 times on
# processors with AMX, 4 times on others.
ONE_PICTURE_SECONDS, FP32_TIMES = 1.2, 8
TINY = np.finfo(np.float32).tiny


def measure(store: Store, recorder: StoreRecorder, pipeline: Pipeline, *, seconds: float) -> None:
    """Embed the samples of a run again in fp32, and record how many of their nearest images stay the same.

    seconds: the duration of the run. A short run is not measured, nor any run after enough samples are measured. Where
    one picture would take long in fp32, a later run is measured, when more time was spent.
    """
    catalogue, encoder, counts = recorder.writer.catalogue, pipeline.encoder, recorder.counts
    embedded = counts["added"] + counts["updated"]
    if encoder is None or encoder.precision == "fp32" or embedded < MIN_EMBEDDED:
        return
    limit = max(MAX_SECONDS, MAX_SHARE * catalogue.ledger.seconds("add"))
    if FP32_TIMES * seconds / embedded > max(ONE_PICTURE_SECONDS, limit):
        return
    before = precision.read(catalogue).get(encoder.precision)
    if before is not None and before.pictures >= ENOUGH_SAMPLES:
        return
    # A sample whose vector was not finite is in the ledger, not among the images.
    known = catalogue.known([sample.image.file.path for sample in pipeline.samples])
    images = ((known.get(sample.image.file.path), sample) for sample in pipeline.samples)
    samples = {image.id: sample for image, sample in images if image is not None and image.present}
    if not samples:
        return
    try:
        report = _measure(store, encoder, samples, limit)
    except (DeviceUnavailable, IndexDamaged, *CANNOT_ASK) as error:
        # The images are committed, so the run succeeds all the same.
        log.info("the precision was not measured: %s", error)
        return
    with catalogue.atomic():
        precision.write(catalogue, report if before is None else _combined(before, report))


def _measure(store: Store, encoder: MeasuredEncoder, samples: dict[int, Prepared], seconds: float) -> PrecisionReport:
    end = time.perf_counter() + seconds
    exact = _embed([sample.pixels for sample in samples.values()], encoder.fp32(), end)
    ids = list(samples)[: len(exact)]
    with store.reading():
        stored = store.vectors(ids)
        found = load_search(store).search(np.concatenate([stored, exact]), NEAREST + 1).ids
    overlaps = [
        _overlap(near_stored[near_stored != id], near_exact[near_exact != id])
        for id, near_stored, near_exact in zip(ids, found[: len(ids)], found[len(ids) :], strict=True)
    ]
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(exact, axis=1)
    # A vector of zeros has no direction.
    cosines = np.where(
        lengths > 0, (stored * exact).sum(axis=1) / np.maximum(lengths, TINY), (stored == exact).all(axis=1)
    )
    return PrecisionReport(encoder.precision, len(ids), float(np.mean(overlaps)), float(cosines.min()))


def _embed(pictures: list[Pixels], encoder: Encoder, end: float) -> Vectors:
    """Return the vectors of the first pictures, one at a time in each stream, until a time of `perf_counter`."""
    vectors: list[Vectors] = []
    for found in map_in_streams(encoder, encoder.encode, (picture[None] for picture in pictures)):
        vectors.append(found)
        if time.perf_counter() > end:
            break
    return np.concatenate(vectors)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return len(np.intersect1d(one[:NEAREST], other[:NEAREST])) / NEAREST


def _combined(one: PrecisionReport, other: PrecisionReport) -> PrecisionReport:
    pictures = one.pictures + other.pictures
    overlap = (one.overlap * one.pictures + other.overlap * other.pictures) / pictures
    return replace(one, pictures=pictures, overlap=overlap, cosine=min(one.cosine, other.cosine))
