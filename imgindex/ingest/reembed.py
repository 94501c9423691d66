"""One `repair`: embeds images with damaged vectors again if their bytes still match, and drops the others by name."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace

from imgindex.decoding.pool import DecoderPool
from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.ingest.control import RunControl
from imgindex.ingest.items import Pipeline
from imgindex.ingest.store_recorder import StoreRecorder
from imgindex.ingest.worklist import WorkList
from imgindex.recipe import Recipe
from imgindex.results import RepairReport
from imgindex.search import milvus_sync
from imgindex.search.upkeep import update_search_files
from imgindex.sources.registry import read_content, use_settings
from imgindex.storage.repair import Repair, repair_files
from imgindex.storage.store import Store
from imgindex.types import Failure, FoundFile, Image, Progress

CONTENT_CHANGED = "its file does not have the same bytes any more"
FILE_MISSING = "its file is missing"

# Images that are marked as present in one commit.
IMAGES_PER_COMMIT = 4096

MakePipeline = Callable[[StoreRecorder, Recipe, dict[str, str]], AbstractContextManager[Pipeline]]


def repair(path: str, *, make_pipeline: MakePipeline, control: RunControl) -> RepairReport:
    """Repair whatever is damaged in the index at `path`; leave an undamaged index as it is.

    make_pipeline: called with a recorder and the index's recipe and settings if a vector must be computed again.

    Raises IndexNotFound, IndexLocked, FormatTooNew; IndexDamaged if the recipe itself is lost; SourceUnavailable, and
    whatever `make_pipeline` raises, before anything is dropped.
    """
    started = time.perf_counter()
    with repair_files(path, wait=control.go_on_waiting) as index:
        use_settings(index.settings)
        lost = index.lost()
        reasons, files = _readable_files(lost)
        if files:
            recipe = Recipe.from_json(index.settings["recipe"])
            recorder = StoreRecorder(index.writer, reembed_ids=frozenset(image.id for image in lost))
            with make_pipeline(recorder, recipe, index.settings) as pipeline:
                _embed(pipeline, files, control)
            reasons |= {failure.path: failure.reason for failure in recorder.failures}
        changed = _confirm_images(index)
        dropped = index.finish()
        failures = [_failure(image, reasons.get(image.path, FILE_MISSING)) for image in dropped]
        failures += [_failure(image, CONTENT_CHANGED) for image in changed]
        report = RepairReport(
            mended=tuple(index.messages),
            embedded=len(lost) - len(dropped),
            dropped=tuple(failures),
            seconds=round(time.perf_counter() - started, 3),
        )
    with closing(Store(path)) as store, store.writing(wait=control.go_on_waiting) as writer:
        if report.mended:
            milvus_sync.forget_state(writer)
        update_search_files(store, writer)
    return report


def _readable_files(lost: Iterable[Image]) -> tuple[dict[str, str], list[FoundFile]]:
    """Return, by path, why images cannot be embedded again, and the files of those that still have the same bytes."""
    reasons, files = {}, []
    for image in lost:
        try:
            content = read_content(image.path)
        except SourceUnavailable:
            raise  # nothing is dropped only because a server does not answer
        except UnreadableImage as error:
            reasons[image.path] = error.reason
            continue
        if content.sha256.hex() == image.sha256:
            files.append(replace(content.file_at(image.path), inode=None))
        else:
            reasons[image.path] = CONTENT_CHANGED
    return reasons, files


def _embed(pipeline: Pipeline, files: list[FoundFile], control: RunControl) -> None:
    with closing(WorkList()) as work_list:
        work_list.extend(files)
        for done in pipeline.run(work_list):
            control.on_progress(
                Progress("repair", done, len(files), pipeline.stage_times.longest, nodes=pipeline.nodes)
            )
            if done < len(files) and control.stop():
                raise KeyboardInterrupt  # nothing is dropped; the next repair continues from here


def _confirm_images(index: Repair) -> list[Image]:
    """Mark images of a damaged catalogue as present if their files match it; return those whose content differs."""
    changed, wrong_header = [], []
    for image in index.unconfirmed():
        try:
            content = read_content(image.path)
        except UnreadableImage:
            continue  # missing or out of reach: the image stays missing until a run of `add` finds it
        if content.sha256.hex() != image.sha256:
            changed.append(image)
            continue
        index.writer.move(image.id, replace(content.file_at(image.path), inode=None))
        if not _header_matches(content.data, image):
            wrong_header.append(image)
        if len(index.writer) >= IMAGES_PER_COMMIT:
            index.writer.commit()
    index.writer.commit()
    with closing(DecoderPool(Recipe.from_json(index.settings["recipe"]))) as decoders:
        for image in wrong_header:
            with suppress(UnreadableImage):  # unlikely: the same bytes were decoded when the image was added
                decoded = decoders.decode(read_content(image.path).data)
                index.set_picture(image.id, decoded.width, decoded.height, decoded.format)
    return changed


def _header_matches(data: bytes, image: Image) -> bool:
    """Return whether a file's header has the catalogue's width, height and format, upright or turned."""
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(io.BytesIO(data)) as opened:
            return (sorted(opened.size), opened.format) == (sorted((image.width, image.height)), image.format)
    except Exception:  # noqa: BLE001  whatever Pillow raises, decoding gives the answer
        return False


def _failure(image: Image, reason: str) -> Failure:
    return Failure(image.path, "repair", reason, image.size, image.mtime_ns)
