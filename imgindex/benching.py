"""How fast each step of `add` is on this machine with these images, alone and together, and which one limits."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imgindex.adding.survey import check_roots
from imgindex.embedding.pipeline import ahead, in_lanes, worker_count
from imgindex.embedding.prepare import fit, prepare
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage, UsageError
from imgindex.images.decode import decode
from imgindex.images.find import find
from imgindex.images.fingerprint import Content, read_content
from imgindex.index import ImageIndex
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import Embedder, Engine, FoundFile, Pixels, Vectors

if TYPE_CHECKING:
    from imgindex.embedding.embedder import VggEmbedder

log = logging.getLogger(__name__)

# What of the sample is read is kept in memory.
SAMPLE_BYTES = 1 << 30
# Batches for each lane of the network, at least: fewer would measure how it begins and ends.
BATCHES = 3
# What an image costs: the other steps are parts of these, or none of `add`.
COSTS = ("read", "decode in processes", "forward", "write")
# Pictures that the transform is measured on.
FEW = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One step: how many images it took in how many seconds, with all the workers or lanes that `add` gives it."""

    name: str
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else float("inf")


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `bench` measured. All rates are images a second.

    `ceiling` is what the steps would allow if nothing were lost between them: on a processor they share its cores, so
    their times add up; a GPU computes beside them, so the slower of both counts. `together` is a real `add`.
    `limit` names the step that takes most.
    """

    recipe: str
    side: int
    device: str
    precision: str
    workers: int
    lanes: int
    batch_size: int
    images: int
    unreadable: int
    megabytes: float
    steps: tuple[Step, ...]
    ceiling: float
    together: float
    limit: str


@dataclass(slots=True)
class Bench:
    """The steps as they are measured, one by one, on a sample of images."""

    index: ImageIndex
    files: list[FoundFile]
    workers: int
    steps: list[Step] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)

    def read(self) -> None:
        readable, contents = [], []
        with self.measured("read", len(self.files)), ThreadPoolExecutor(self.workers) as pool:
            for file, content in ahead(pool, _read, self.files, depth=2 * self.workers):
                if content is not None:
                    readable.append(file)
                    contents.append(content)
        self.files, self.contents = readable, contents

    def decode_in_processes(self) -> None:
        """Decode and prepare as `add` does; whatever cannot be decoded leaves the sample."""

        def decoded(content: Content) -> Pixels | None:
            try:
                return decoders.decode(content.data).pixels
            except UnreadableImage:
                return None

        with closing(Decoders(self.index.recipe)) as decoders, ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(decoded, self.contents[: 2 * self.workers]))  # while processes start
            with self.measured("decode in processes", len(self.contents)):
                pixels = list(ahead(pool, decoded, self.contents, depth=64))
        sound = [item for item in zip(self.files, self.contents, pixels, strict=True) if item[2] is not None]
        self.files, self.contents = [file for file, _, _ in sound], [content for _, content, _ in sound]
        self.pixels = [found for _, _, found in sound if found is not None]

    def decode_and_transform(self) -> None:
        """Decode and prepare each by itself, in threads of this process: only what the processes could decode."""
        recipe = self.index.recipe
        with ThreadPoolExecutor(self.workers) as pool:

            def decoded(content: Content) -> Any:
                return decode(content.data, alpha=recipe.alpha, fit=fit(recipe)).image

            with self.measured("decode", len(self.contents)):
                # Not all of them kept: a recipe that crops needs whole pictures.
                few = list(pool.map(decoded, self.contents[:FEW]))
                for _ in ahead(pool, decoded, self.contents[FEW:], depth=2 * self.workers):
                    pass
            with self.measured("transform", len(few)):
                for _ in ahead(pool, lambda image: prepare(image, recipe), few, depth=2 * self.workers):
                    pass

    def forward(self, embedder: Embedder) -> list[Vectors]:
        most = max(len(self.pixels), BATCHES * embedder.lanes * embedder.batch_size)
        batch = embedder.batch_size
        pictures = [self.pixels[number % len(self.pixels)] for number in range(-(-most // batch) * batch)]
        batches = [np.stack(pictures[start : start + batch]) for start in range(0, len(pictures), batch)]
        list(in_lanes(embedder, embedder.embed, batches[: embedder.lanes]))
        with self.measured("forward", len(pictures)):
            vectors = list(in_lanes(embedder, embedder.embed, batches))
        return [vector for part in vectors for vector in part][: len(self.pixels)]

    def write(self, store: Store, vectors: Sequence[Vectors], batch: int) -> None:
        items = zip(self.files, self.contents, vectors, strict=True)
        with store.writing() as writer, self.measured("write", len(vectors)):
            while part := list(islice(items, batch)):
                for file, content, vector in part:
                    writer.put(NewImage(file, content.sha256, 1, 1, "JPEG"), vector)
                writer.commit()

    def together(self) -> float:
        """Return the rate of a real `add` of the sample; its processes and the network have been at work before."""
        warm, rest = self.files[: self.workers], self.files[self.workers :] or self.files
        log.info("measuring: together …")
        self.index.add([file.path for file in warm])
        return Step("", len(rest), _seconds(lambda: self.index.add([file.path for file in rest]))).images_per_second

    @contextmanager
    def measured(self, name: str, images: int) -> Iterator[None]:
        log.info("measuring: %s …", name)
        started = time.perf_counter()
        yield
        self.steps.append(Step(name, images, time.perf_counter() - started))


def bench(
    paths: Sequence[str | os.PathLike[str]],
    *,
    recipe: str | Recipe = "auto",
    size: int | None = None,
    weights: str | None = None,
    engine: Engine | None = None,
    images: int = 256,
) -> BenchReport:
    """Measure each step of `add` on at most so many of the images below these paths, taken evenly, and all together.

    Nothing of it is kept: an index is made in a temporary folder, beside where one would be made.

    Raises PathNotFound, UsageError where there is no image that can be read, and what the making of an index raises.
    """
    engine = engine or Engine()
    roots = check_roots(paths)
    with ExitStack() as stack:
        beside = os.getcwd() if os.access(os.getcwd(), os.W_OK) else None
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".imgindex-bench-", dir=beside))
        added, written = (os.path.join(folder, name) for name in ("added.imgindex", "written.imgindex"))
        index = ImageIndex.create(added, recipe=recipe, size=size, weights=weights, engine=engine)
        scratch = ImageIndex.create(written, recipe=index.recipe, weights=weights, engine=engine)
        for made in (index, scratch):
            stack.enter_context(made)
        started = time.perf_counter()
        found = [item for item in find(roots, skip=[folder]) if isinstance(item, FoundFile)]
        scanned = Step("scan", len(found), time.perf_counter() - started)
        run = Bench(index, _sample(found, images), worker_count(engine.workers), [scanned])
        wanted = len(run.files)
        if run.files:
            run.read()
            run.decode_in_processes()
        if not run.pixels:
            raise UsageError("there is no image that can be read", hint="name a folder that holds images")
        run.decode_and_transform()
        embedder = cast("VggEmbedder", index.embedder)
        vectors = run.forward(embedder)
        run.write(scratch._store, vectors, embedder.batch_size)
        together = run.together()
        ceiling, limit = _ceiling(run.steps, shared=embedder.device.type == "cpu")
        return BenchReport(
            recipe=index.recipe.name,
            side=index.recipe.side,
            device=str(embedder.device),
            precision=embedder.precision,
            workers=run.workers,
            lanes=embedder.lanes,
            batch_size=embedder.batch_size,
            images=len(run.pixels),
            unreadable=wanted - len(run.pixels),
            megabytes=round(sum(len(content.data) for content in run.contents) / 1e6, 3),
            steps=tuple(run.steps),
            ceiling=ceiling,
            together=together,
            limit=limit,
        )


def _sample(found: Sequence[FoundFile], most: int) -> list[FoundFile]:
    """At most so many files, taken evenly, that fit into memory together."""
    if most < 1:
        raise UsageError(f"--images {most}: at least one image must be measured")
    chosen: list[FoundFile] = []
    size = 0
    for file in found[:: max(1, len(found) // most)][:most]:
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


def _ceiling(steps: Sequence[Step], *, shared: bool) -> tuple[float, str]:
    """Return the rate that the steps allow, and the one that takes most; shared: they all use the same processor."""
    costs = {step.name: step.seconds / step.images for step in steps if step.name in COSTS}
    beside = 0.0 if shared else costs.pop("forward")
    ceiling = 1 / max(sum(costs.values()), beside, 1e-9)
    return ceiling, "forward" if beside > sum(costs.values()) else max(costs, key=costs.__getitem__)
