"""One `repair`: what is damaged is made again from the images where their bytes still match, or dropped by name."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress

from imgindex.adding.survey import Watch
from imgindex.adding.work import Work
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage
from imgindex.images.fingerprint import read_content
from imgindex.searching import renew_alone
from imgindex.storage.mending import Mending, mending
from imgindex.storage.store import Store
from imgindex.storage.worklist import WorkList
from imgindex.types import Embedder, Failure, FoundFile, Image, Progress, RepairReport

OTHER_BYTES = "its file does not have the same bytes any more"
GONE = "its file is gone"

# Images shown again in one commit.
AT_ONCE = 4096

MakeEmbedder = Callable[[Recipe, dict[str, str]], Embedder]


def repair(path: str, *, make_embedder: MakeEmbedder, workers: int | None, watch: Watch) -> RepairReport:
    """Mend whatever is damaged in the index at `path`; one that is sound is left as it is.

    make_embedder: from the recipe and the settings of the index; called when a vector must be made again.

    Raises IndexNotFound, IndexLocked, FormatTooNew; IndexDamaged when the recipe itself is lost; and what the making
    of the embedder raises, before anything is dropped.
    """
    started = time.perf_counter()
    with mending(path, wait=watch.go_on_waiting) as mend:
        lost = mend.lost()
        reasons, files = _look(lost)
        if files:
            recipe = Recipe.from_json(mend.settings["recipe"])
            embedder = make_embedder(recipe, mend.settings)
            ids = frozenset(image.id for image in lost)
            with closing(Decoders(recipe)) as decoders:
                work = Work(mend.writer, decoders, lambda: embedder, workers, distrusted=ids)
                _embed(work, files, watch)
            reasons |= {failure.path: failure.reason for failure in work.failures}
        unseen = _confirm(mend)
        dropped = mend.finish()
        failures = [_failure(image, reasons.get(image.path, GONE)) for image in dropped]
        failures += [_failure(image, OTHER_BYTES) for image in unseen]
        report = RepairReport(
            mended=tuple(mend.said),
            embedded=len(lost) - len(dropped),
            dropped=tuple(failures),
            seconds=round(time.perf_counter() - started, 3),
        )
    with closing(Store(path)) as store:
        renew_alone(store, wait=watch.go_on_waiting)
    return report


def _look(lost: Iterable[Image]) -> tuple[dict[str, str], list[FoundFile]]:
    """Tell which images can be embedded again, their bytes being the same, and why the others cannot."""
    reasons, files = {}, []
    for image in lost:
        try:
            content = read_content(image.path)
        except UnreadableImage as error:
            reasons[image.path] = error.reason
            continue
        if content.sha256.hex() == image.sha256:
            files.append(FoundFile(image.path, content.size, content.mtime_ns))
        else:
            reasons[image.path] = OTHER_BYTES
    return reasons, files


def _embed(work: Work, files: list[FoundFile], watch: Watch) -> None:
    with closing(WorkList()) as todo:
        todo.extend(files)
        for done in work.run(todo):
            watch.on_progress(Progress("repair", done, len(files), work.waits.longest))
            if done < len(files) and watch.stop():
                raise KeyboardInterrupt  # nothing is dropped; the next repair goes on from here


def _confirm(mend: Mending) -> list[Image]:
    """Show the images of a damaged catalogue whose files are what it says; return those whose files are others."""
    others, misspelt = [], []
    for image in mend.doubtful():
        try:
            content = read_content(image.path)
        except UnreadableImage:
            continue  # gone, or out of reach: hidden until it comes back
        if content.sha256.hex() != image.sha256:
            others.append(image)
            continue
        mend.writer.move(image.id, FoundFile(image.path, content.size, content.mtime_ns))
        if not _looks_like(content.data, image):
            misspelt.append(image)
        if len(mend.writer) >= AT_ONCE:
            mend.writer.commit()
    mend.writer.commit()
    with closing(Decoders(Recipe.from_json(mend.settings["recipe"]))) as decoders:
        for image in misspelt:
            with suppress(UnreadableImage):  # its bytes are the same, so it could be read once
                picture = decoders.decode(read_content(image.path).data)
                mend.describe(image.id, picture.width, picture.height, picture.format)
    return others


def _looks_like(data: bytes, image: Image) -> bool:
    """Whether a file's header says of the picture what the catalogue says; upright or not, it cannot tell."""
    from PIL import Image as Pictures

    try:
        with Pictures.open(io.BytesIO(data)) as picture:
            return (sorted(picture.size), picture.format) == (sorted((image.width, image.height)), image.format)
    except Exception:  # noqa: BLE001  whatever it is, decoding will tell
        return False


def _failure(image: Image, reason: str) -> Failure:
    return Failure(image.path, "repair", reason, image.size, image.mtime_ns)
