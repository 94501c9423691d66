"""One `add` from beginning to end: survey, work, then what is gone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from imgindex.adding import mounts, precision
from imgindex.adding.survey import Scope, Survey, Watch, gone, survey
from imgindex.adding.work import Work
from imgindex.embedding.sandbox import Decoders
from imgindex.searching import renew
from imgindex.storage.journal import timestamp
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer
from imgindex.types import AddReport, Embedder, Engine, Failure, Progress


def preview(store: Store, scope: Scope, watch: Watch) -> AddReport:
    """Tell what `add` would do, by names, sizes and times alone; changes nothing.

    Without opening files a renamed or copied one cannot be told from a new one: `added` counts them all.
    """
    started = time.perf_counter()
    scope = _canonical(store, scope)
    with store.catalogue.snapshot():
        away = mounts.away(store.catalogue)
        mounts.refuse(scope.roots, away)
        scan = survey(store.catalogue, scope, skip=[store.path], watch=watch)
        ids, _ = gone(store.catalogue, scope.roots, scan, away=away)
    scan.close()
    counts = {"added": scan.new, "updated": scan.changed, "restored": len(scan.restored), "unchanged": scan.unchanged}
    return _report(scan, counts | {"removed": len(ids), "failed": _failed(scan)}, started)


def add(
    store: Store,
    scope: Scope,
    *,
    decoders: Decoders,
    engine: Engine,
    make_embedder: Callable[[], Embedder],
    watch: Watch,
) -> AddReport:
    """Bring the index up to date with the files under the roots; every batch is committed as it is done.

    Raises IndexLocked, IndexDamaged, or PathNotFound where a root looks unmounted; what befalls one image is a failure
    in the report and the ledger.
    """
    started, at = time.perf_counter(), timestamp()
    scope = _canonical(store, scope)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(store.writing(wait=watch.go_on_waiting))
        mounts.refuse(scope.roots, mounts.away(writer.catalogue))
        mounts.record(writer.catalogue, [root for root in scope.roots if os.path.isdir(root)])
        scan = survey(writer.catalogue, scope, skip=[store.path], watch=watch)
        stack.callback(scan.close)
        work = Work(writer, decoders, make_embedder, engine.workers)
        for failure in scan.failures:
            writer.fail(failure)
        # The scan may have been broken off, so that what it did not find is not gone.
        total, done, interrupted = len(scan.work), 0, watch.stop()
        if total:
            watch.on_progress(Progress("embed", 0, total))
        with contextlib.closing(work.run(scan.work)) as steps:
            for done in () if interrupted else steps:
                watch.on_progress(Progress("embed", done, total, work.waits.longest))
                if done < total and watch.stop():
                    work.finish()
        interrupted = interrupted or (work.finishing and done < total)
        counts = dict(work.counts)
        counts["unchanged"] += scan.unchanged
        counts["restored"] += len(scan.restored)
        counts["failed"] = _failed(scan) + len(work.failures)
        # Asked anew: a disk may have gone in the middle of the run.
        away = mounts.away(writer.catalogue)
        ids, mended = ([], []) if interrupted else gone(writer.catalogue, scope.roots, scan, away=away)
        counts["removed"] = _finish(writer, scan, ids, mended)
        report = _report(scan, counts, started, tuple(scan.failures + work.failures), interrupted)
        _record(writer, report, at)
        if not interrupted:
            precision.measure(store, work, seconds=report.seconds)
            renew(store, writer, say=lambda: watch.on_progress(Progress("search index", 0, 0)))
    return report


def _canonical(store: Store, scope: Scope) -> Scope:
    """The same roots as the catalogue names them, where a link leads to the index's folder."""
    return replace(scope, roots=tuple(map(store.paths.canonical, scope.roots)))


def _finish(writer: Writer, scan: Survey, gone: list[int], mended: list[str]) -> int:
    with writer.catalogue.atomic():
        writer.catalogue.show(scan.restored, True)
        writer.catalogue.show(gone, False)
        writer.catalogue.journal.forget(mended)
    return len(gone)


def _record(writer: Writer, report: AddReport, at: str) -> None:
    counts = {name: value for name, value in asdict(report).items() if name not in ("failures", "seconds")}
    with writer.catalogue.atomic():
        writer.catalogue.journal.record_run("add", at, report.seconds, counts)


def _failed(scan: Survey) -> int:
    return scan.failed_before + len(scan.failures)


def _report(
    scan: Survey, counts: dict[str, int], started: float, failures: tuple[Failure, ...] = (), interrupted: bool = False
) -> AddReport:
    seconds = time.perf_counter() - started
    return AddReport(
        found=scan.found,
        **counts,
        seconds=round(seconds, 3),
        images_per_second=round(scan.found / seconds, 2),
        failures=failures,
        interrupted=interrupted,
    )
