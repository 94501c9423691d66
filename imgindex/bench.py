"""Measure how fast each step of `add` is on this machine with these images, and which step limits the whole."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from imgindex.decoding.decode import decode
from imgindex.decoding.lookahead import map_ahead, map_in_streams, worker_count
from imgindex.decoding.plugins import readable_raw_endings
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import draft, prepare
from imgindex.errors import UnreadableImage, UsageError
from imgindex.index import ImageIndex
from imgindex.ingest.mounts import check_roots
from imgindex.recipe import DEFAULT, Recipe
from imgindex.sources.base import Content
from imgindex.sources.registry import find_files, only_images, read_content
from imgindex.storage.paths import as_list
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import Encoder, Engine, FoundFile, Path, Pixels, Vectors

log = logging.getLogger(__name__)

# The files of the sample are kept in memory: no more of them are taken than fit into this.
SAMPLE_BYTES = 1 << 30
# Each stream of the encoder computes at least so many batches; fewer would measure how it starts and ends.
BATCHES_PER_STREAM = 3
# The steps whose times add up to the cost of an image; the others are parts of these, or not done for each image.
COST_STEPS = ("read", "decode in processes", "forward", "write")
# The transform is measured on so many images.
TRANSFORM_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One step: how many images it processed in how many seconds, with the workers or streams that `add` gives it."""

    name: str
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """The rate of the step."""
        return self.images / self.seconds if self.seconds else float("inf")


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `benchmark` measured. All rates are images per second.

    ceiling: the rate that the steps would allow if nothing were lost between them. On a CPU they share its cores, so
    their times add up. A GPU computes beside them, so the slower of the two counts.
    together: the rate of a real `add`.
    limit: the step that takes the most time.
    images: how many were measured. unreadable: how many of the sample could not be read or decoded.
    megabytes: the size of the files that were measured, in units of 1,000,000 bytes.
    """

    recipe: str
    side: int
    device: str
    precision: str
    workers: int
    streams: int
    batch_size: int
    images: int
    unreadable: int
    megabytes: float
    steps: tuple[Step, ...]
    ceiling: float
    together: float
    limit: str


@dataclass(slots=True)
class AddBenchmark:
    """Measures the steps one by one on a sample of images; each step passes its result to the next ones."""

    index: ImageIndex
    files: list[FoundFile]
    workers: int
    steps: list[Step] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)

    def read(self) -> None:
        """Read the files as `add` does; those that cannot be read leave the sample."""
        readable, contents = [], []
        with self.measured("read", len(self.files)), ThreadPoolExecutor(self.workers) as pool:
            for file, content in map_ahead(pool, _read, self.files, depth=2 * self.workers):
                if content is not None:
                    readable.append(file)
                    contents.append(content)
        self.files, self.contents = readable, contents

    def decode_in_processes(self) -> None:
        """Decode and transform as `add` does; images that cannot be decoded leave the sample."""

        def decoded(content: Content) -> Pixels | None:
            try:
                return decoders.decode(content.data).pixels
            except UnreadableImage:
                return None

        with closing(DecoderPool(self.index.recipe)) as decoders, ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(decoded, self.contents[: 2 * self.workers]))  # not measured: the processes start
            with self.measured("decode in processes", len(self.contents)):
                pixels = list(map_ahead(pool, decoded, self.contents, depth=64))
        sample = list(zip(self.files, self.contents, pixels, strict=True))
        self.files = [file for file, _, found in sample if found is not None]
        self.contents = [content for _, content, found in sample if found is not None]
        self.pixels = [found for found in pixels if found is not None]

    def decode_and_transform(self) -> None:
        """Measure decoding and the transform separately, in threads of this process, on images that can be decoded."""
        recipe = self.index.recipe
        with ThreadPoolExecutor(self.workers) as pool:

            def decoded(content: Content) -> Any:
                return decode(content.data, alpha=recipe.alpha, draft=draft(recipe)).image

            with self.measured("decode", len(self.contents)):
                # Few decoded images are kept: for a recipe that crops they have their full size.
                images = list(pool.map(decoded, self.contents[:TRANSFORM_IMAGES]))
                for _ in map_ahead(pool, decoded, self.contents[TRANSFORM_IMAGES:], depth=2 * self.workers):
                    pass
            with self.measured("transform", len(images)):
                for _ in map_ahead(pool, lambda image: prepare(image, recipe), images, depth=2 * self.workers):
                    pass

    def forward(self, encoder: Encoder) -> list[Vectors]:
        """Encode the sample in whole batches, images repeated where they are too few; return the vectors."""
        size = encoder.batch_size
        batch_count = max(-(-len(self.pixels) // size), BATCHES_PER_STREAM * encoder.streams)
        images = list(islice(cycle(self.pixels), batch_count * size))
        batches = [np.stack(images[start : start + size]) for start in range(0, len(images), size)]
        list(map_in_streams(encoder, encoder.encode, batches[: encoder.streams]))
        with self.measured("forward", len(images)):
            vectors = list(map_in_streams(encoder, encoder.encode, batches))
        return [vector for batch in vectors for vector in batch][: len(self.pixels)]

    def write(self, store: Store, vectors: Sequence[Vectors], batch_size: int) -> None:
        """Write the vectors to a store, with a commit for each batch."""
        items = zip(self.files, self.contents, vectors, strict=True)
        with store.writing() as writer, self.measured("write", len(vectors)):
            while batch := list(islice(items, batch_size)):
                for file, content, vector in batch:
                    writer.put(NewImage(file, content.sha256, 1, 1, "JPEG"), vector)
                writer.commit()

    def together(self) -> float:
        """Return the rate of a real `add` of the sample.

        An `add` of the first files, which is not measured, starts the decoder processes and the network.
        """
        first, rest = self.files[: self.workers], self.files[self.workers :] or self.files
        log.info("measuring: together …")
        self.index.add([file.path for file in first])
        return Step("", len(rest), _seconds(lambda: self.index.add([file.path for file in rest]))).images_per_second

    @contextmanager
    def measured(self, name: str, images: int) -> Iterator[None]:
        """Append the step of that name, with the seconds that the block takes."""
        log.info("measuring: %s …", name)
        started = time.perf_counter()
        yield
        self.steps.append(Step(name, images, time.perf_counter() - started))


def benchmark(
    paths: Path | Iterable[Path],
    *,
    recipe: str | Recipe = DEFAULT,
    size: int | None = None,
    weights: str | None = None,
    engine: Engine | None = None,
    images: int = 256,
) -> BenchReport:
    """Measure each step of `add` separately, and a real `add`, on a sample of the images at these paths.

    images: the size of the sample, which is taken evenly. recipe, size, weights, engine: as in `ImageIndex.create`. The
    index that is measured is made in a temporary folder in the current folder, so on the same disk as a real one, and
    is deleted afterwards.

    Raises PathNotFound, UsageError when no image can be read, and the errors of `ImageIndex.create`.
    """
    engine = engine or Engine()
    roots = check_roots(as_list(paths))
    with ExitStack() as stack:
        parent = os.getcwd() if os.access(os.getcwd(), os.W_OK) else None
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".imgindex-bench-", dir=parent))
        added, written = (os.path.join(folder, name) for name in ("added.imgindex", "written.imgindex"))
        index = ImageIndex.create(added, recipe=recipe, size=size, weights=weights, engine=engine)
        scratch = ImageIndex.create(written, recipe=recipe, size=size, weights=weights, engine=engine)
        for opened in (index, scratch):
            stack.enter_context(opened)
        started = time.perf_counter()
        files = find_files(roots, skip=[folder], further_endings=readable_raw_endings())
        found = [item for item in only_images(files) if isinstance(item, FoundFile)]
        scanned = Step("scan", len(found), time.perf_counter() - started)
        run = AddBenchmark(index, _sample(found, images), worker_count(engine.workers), [scanned])
        sample_size = len(run.files)
        if run.files:
            run.read()
            run.decode_in_processes()
        if not run.pixels:
            raise UsageError("no image at these paths can be read", hint="name a folder that holds images")
        run.decode_and_transform()
        encoder = index.encoder
        vectors = run.forward(encoder)
        run.write(scratch._store, vectors, encoder.batch_size)
        together = run.together()
        ceiling, limit = _ceiling(run.steps, on_cpu=encoder.device == "cpu")
        return BenchReport(
            recipe=index.recipe.name,
            side=index.recipe.side,
            device=encoder.device,
            precision=encoder.precision,
            workers=run.workers,
            streams=encoder.streams,
            batch_size=encoder.batch_size,
            images=len(run.pixels),
            unreadable=sample_size - len(run.pixels),
            megabytes=round(sum(len(content.data) for content in run.contents) / 1e6, 3),
            steps=tuple(run.steps),
            ceiling=ceiling,
            together=together,
            limit=limit,
        )


def _sample(found: Sequence[FoundFile], count: int) -> list[FoundFile]:
    """Return at most so many files, taken evenly, whose bytes fit into SAMPLE_BYTES together."""
    if count < 1:
        raise UsageError(f"images is {count}", hint="measure at least one image")
    chosen: list[FoundFile] = []
    size = 0
    for file in found[:: max(1, len(found) // count)][:count]:
        size += file.size
        if chosen and size > SAMPLE_BYTES:
            break
        chosen.append(file)
    return chosen


def _read(file: FoundFile) -> tuple[FoundFile, Content | None]:
    try:
        return file, read_content(file.path)
    except UnreadableImage:
        return file, None


def _seconds(task: Callable[[], object]) -> float:
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def _ceiling(steps: Sequence[Step], *, on_cpu: bool) -> tuple[float, str]:
    """Return the rate that the steps allow, and the step that takes most; on_cpu: the encoder shares the cores."""
    costs = {step.name: step.seconds / step.images for step in steps if step.name in COST_STEPS}
    on_gpu = 0.0 if on_cpu else costs.pop("forward")
    ceiling = 1 / max(sum(costs.values()), on_gpu, 1e-9)
    return ceiling, "forward" if on_gpu > sum(costs.values()) else max(costs, key=costs.__getitem__)
