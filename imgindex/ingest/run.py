"""One `add` from beginning to end: check the roots, scan, run the pipeline, mark missing images, record the run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice

from imgindex.ingest import precision
from imgindex.ingest.control import RunControl
from imgindex.ingest.items import Pipeline
from imgindex.ingest.mounts import check_roots, check_roots_are_mounted, missing_mounts, record_mounts
from imgindex.ingest.scan import ScanResult, find_missing, scan
from imgindex.ingest.store_recorder import StoreRecorder
from imgindex.results import AddReport
from imgindex.search.upkeep import update_search_files
from imgindex.sources.registry import gone, read_anonymously, settings_of_sources
from imgindex.storage.catalogue import LOG_LIMIT
from imgindex.storage.ledger import timestamp
from imgindex.storage.paths import absolute, under
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer
from imgindex.types import Failure, FoundFile, Path, Progress

RECORDED_AT_ONCE = 10_000


def preview(
    store: Store,
    paths: Iterable[Path],
    *,
    exclude: Sequence[str],
    retry_failed: bool,
    rehash: bool,
    archives: bool,
    anonymous: bool | None,
    control: RunControl,
) -> AddReport:
    """Return what `add` would report, by names, sizes and times alone; change nothing.

    `added` includes renamed and copied files, because only their content distinguishes them from new ones. `unchanged`
    includes files that `add` would read because only their ctime or inode is new.
    """
    started = time.perf_counter()
    roots = _canonical_roots(store, paths, anonymous)
    with store.catalogue.snapshot():
        unmounted = missing_mounts(store.catalogue)
        check_roots_are_mounted(roots, unmounted)
        scanned = scan(
            store.catalogue,
            roots,
            exclude=exclude,
            skip=[store.path],
            retry_failed=retry_failed,
            rehash=rehash,
            archives=archives,
            control=control,
        )
        missing, _ = find_missing(store.catalogue, roots, scanned, unmounted=unmounted)
    scanned.close()
    counts = {
        "added": scanned.new,
        "updated": scanned.changed,
        "restored": len(scanned.restored),
        "unchanged": scanned.unchanged + scanned.checked,
        "removed": len(missing),
        "failed": scanned.failed,
    }
    return _report(scanned, counts, started)


def add(
    store: Store,
    paths: Iterable[Path],
    *,
    exclude: Sequence[str],
    retry_failed: bool,
    rehash: bool,
    archives: bool,
    anonymous: bool | None,
    make_pipeline: Callable[[StoreRecorder], Pipeline],
    control: RunControl,
) -> AddReport:
    """Bring the index up to date with the files at and below the paths; commit every batch when it is done.

    make_pipeline: called with what records the images. Raises IndexLocked, IndexDamaged, and PathNotFound if a path
    is missing or its disk is not mounted. An image that cannot be read is a failure in the report and the ledger.
    """
    started, started_at = time.perf_counter(), timestamp()
    roots = _canonical_roots(store, paths, anonymous)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(store.writing(wait=control.go_on_waiting))
        check_roots_are_mounted(roots, missing_mounts(writer.catalogue))
        if anonymous is not None:
            _record_settings(writer)
        record_mounts(writer.catalogue, [root for root in roots if os.path.isdir(root)])
        scanned = scan(
            writer.catalogue,
            roots,
            exclude=exclude,
            skip=[store.path],
            retry_failed=retry_failed,
            rehash=rehash,
            archives=archives,
            control=control,
            record_others=lambda files: _record_others(writer, files),
        )
        stack.callback(scanned.close)
        _record_stat(writer, scanned)
        for failure in scanned.failures:
            writer.fail(failure)
        recorder = StoreRecorder(writer)
        pipeline = make_pipeline(recorder)
        interrupted = _run(pipeline, scanned, control)
        counts = dict(recorder.counts)
        counts["unchanged"] += scanned.unchanged
        counts["restored"] += len(scanned.restored)
        counts["failed"] = scanned.failed + len(recorder.failures)
        missing: list[int] = []
        resolved: list[str] = []
        if not interrupted:
            # Mounts are checked again: a disk may have been unmounted during the run.
            unmounted = missing_mounts(writer.catalogue)
            missing, resolved = find_missing(writer.catalogue, roots, scanned, unmounted=unmounted)
        counts["removed"] = len(missing)
        with writer.catalogue.atomic():
            writer.catalogue.set_present(scanned.restored, True)
            writer.catalogue.set_present(missing, False)
            writer.catalogue.ledger.forget(resolved)
            if not interrupted:
                below = under(roots)
                writer.catalogue.ledger.forget_other_files(lambda paths: gone(filter(below, paths)))
        failures = tuple(scanned.failures + recorder.failures)
        report = _report(scanned, counts, started, failures, interrupted=interrupted, blank=recorder.blank)
        _record_run(writer, report, started_at)
        if not interrupted:
            precision.measure(store, recorder, pipeline, seconds=report.seconds)
            behind = update_search_files(store, writer, on_progress=control.on_progress)
            report = replace(report, search_behind=behind.images, search_problem=behind.reason)
    return report


def _record_stat(writer: Writer, scanned: ScanResult) -> None:
    """Record the numbers that an older version did not record of unchanged files."""
    files = iter(scanned.unrecorded)
    while part := list(islice(files, RECORDED_AT_ONCE)):
        with writer.catalogue.atomic():
            writer.catalogue.record_stat(part)
        writer.catalogue.checkpoint(limit=LOG_LIMIT)


def _run(pipeline: Pipeline, scanned: ScanResult, control: RunControl) -> bool:
    """Pass the files to open through the pipeline; return whether the run was interrupted."""
    total, done = len(scanned.to_open), 0
    if control.stop():
        return True  # the scan may have ended early: files that it did not find are not missing
    if total:
        control.on_progress(Progress("decode", 0, total))
    pipeline.on_decoded = lambda count: control.on_progress(Progress("decode", count, total, "the network"))
    with contextlib.closing(pipeline.run(scanned.to_open)) as commits:
        for done in commits:
            control.on_progress(Progress("embed", done, total, pipeline.stage_times.longest, nodes=pipeline.nodes))
            if done < total and control.stop():
                pipeline.stop()
    return pipeline.stopping and done < total


def _canonical_roots(store: Store, paths: Iterable[Path], anonymous: bool | None) -> tuple[str, ...]:
    """Return absolute roots in the catalogue's form, because links may give the index's folder several paths."""
    paths = list(paths)
    if anonymous is not None:
        read_anonymously(map(absolute, paths), anonymous)
    return tuple(map(store.paths.canonical, check_roots(paths)))


def check_new(paths: Sequence[Path], anonymous: bool | None) -> None:
    """Raise what `add` raises for paths that are missing, before there is an index."""
    if anonymous is not None:
        read_anonymously(map(absolute, paths), anonymous)
    check_roots(paths)


def _record_settings(writer: Writer) -> None:
    with writer.catalogue.atomic():
        for key, value in settings_of_sources().items():
            writer.catalogue.set_setting(key, value)


def _record_others(writer: Writer, files: Sequence[FoundFile]) -> None:
    with writer.catalogue.atomic():
        writer.catalogue.ledger.add_other_files(files)


def _record_run(writer: Writer, report: AddReport, started_at: str) -> None:
    counts = {name: value for name, value in asdict(report).items() if name not in ("failures", "seconds")}
    with writer.catalogue.atomic():
        writer.catalogue.ledger.record_run("add", started_at, report.seconds, counts)


def _report(
    scanned: ScanResult,
    counts: dict[str, int],
    started: float,
    failures: tuple[Failure, ...] = (),
    *,
    interrupted: bool = False,
    blank: int = 0,
) -> AddReport:
    seconds = time.perf_counter() - started
    skipped = scanned.skipped
    return AddReport(
        found=scanned.found,
        **counts,
        skipped=dict(sorted((+skipped.by_ending).items(), key=lambda item: (-item[1], item[0]))),
        hidden=skipped.hidden,
        excluded=skipped.excluded,
        exported=skipped.exported,
        seconds=round(seconds, 3),
        images_per_second=round(scanned.found / seconds, 2),
        failures=failures,
        interrupted=interrupted,
        blank=blank,
        search_problem="",
    )
