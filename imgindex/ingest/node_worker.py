"""What runs on a node of a cluster: reads, decodes and embeds files with the same pipeline as one machine does."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgindex.decoding.lookahead import worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.encoders.registry import make_encoder
from imgindex.ingest.items import Copied, Failed, Opened, Outcome, Prepared, Relocated
from imgindex.ingest.pipeline import IngestPipeline
from imgindex.recipe import Recipe
from imgindex.sources.registry import use_settings
from imgindex.storage.records import NewImage
from imgindex.types import Engine, Failure, FoundFile, Vectors


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a worker is: its precision, and how many files keep it busy for a while."""

    precision: str
    files_at_once: int


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file to embed; `known_sha256`: of the content that the index has at its path, which needs no vector."""

    number: int
    file: FoundFile
    known_sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of a file: an image with its vector, or a failure, or neither if its content is the known one.

    file: as it was when it was read. sha256: b"" if it was not read.
    """

    number: int
    file: FoundFile
    sha256: bytes
    image: NewImage | None = None
    vector: Vectors | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class NodeBatch:
    """The results of some files, and one of the images with its pixels."""

    results: list[NodeResult]
    sample: Prepared | None


class NodeWorker:
    """Embeds files on a node.

    recipe: as JSON. settings: those of the index. weights: where the weights file is, None for where it was. hashes: as
    in `DecoderPool`.

    Raises WeightsUnavailable or RecipeMismatch unless the node has the weights of the recipe; DeviceUnavailable.
    """

    def __init__(
        self, *, recipe: str, settings: Mapping[str, str], weights: str | None, engine: Engine, hashes: bool
    ) -> None:
        use_settings(settings)
        self._recipe = Recipe.from_json(recipe)
        self._encoder = make_encoder(self._recipe, dict(settings), weights, engine)
        self._decoders = DecoderPool(self._recipe, hashes=hashes)
        self._workers = worker_count(engine.workers)
        self._sampling = threading.Lock()

    def describe(self) -> NodeInfo:
        """Return what this worker is."""
        # Two batches for each stream: one is decoded while the other is in the network.
        return NodeInfo(self._encoder.precision, 2 * self._encoder.batch_size * self._encoder.streams)

    def embed(self, files: Sequence[NodeFile], with_sample: bool) -> NodeBatch:
        """Return what comes of some files. Raises SourceUnavailable; several threads may call it."""
        recorder = NodeRecorder(files)
        pipeline = IngestPipeline(recorder, self._decoders, lambda: self._encoder, self._workers)
        for _ in pipeline.run([one.file for one in files]):
            pass
        sample = pipeline.samples[0] if with_sample and pipeline.samples else None
        return NodeBatch(recorder.results, sample)


class NodeRecorder:
    """Collects what a pipeline computed; implements `Recorder`."""

    def __init__(self, files: Sequence[NodeFile]) -> None:
        self.results: list[NodeResult] = []
        self._files = {one.file.path: one for one in files}
        self.is_first = not any(one.known_sha256 for one in files)

    @property
    def done(self) -> int:
        return len(self.results)

    def decide(self, lot: list[Opened | Failed]) -> list[Opened | Outcome]:
        decided: list[Opened | Outcome] = []
        for item in lot:
            if isinstance(item, Opened) and self._files[item.file.path].known_sha256 == item.content.sha256:
                number = self._files[item.file.path].number
                self.results.append(NodeResult(number, item.file, item.content.sha256))
            else:
                decided.append(item)
        return decided

    def record(self, batch: Sequence[Prepared], vectors: Vectors) -> None:
        for item, vector in zip(batch, vectors, strict=True):
            image = item.image
            number = self._files[image.file.path].number
            self.results.append(NodeResult(number, image.file, image.sha256, image, vector))

    def record_outcome(self, outcome: Relocated | Copied | Failed) -> None:
        assert isinstance(outcome, Failed)  # `decide` returns none of the others
        failure, asked = outcome.failure, self._files[outcome.failure.path]
        file = FoundFile(failure.path, failure.size, failure.mtime_ns, failure.ctime_ns, failure.inode, failure.version)
        self.results.append(NodeResult(asked.number, file, outcome.sha256, failure=failure))

    def take_again(self) -> list[FoundFile]:
        """Return nothing: each file has its result."""
        return []

    def commit(self, *, if_due: bool = False) -> None:
        """Do nothing: the machine with the index commits."""

    def commit_after(self, error: BaseException) -> None:
        """Do nothing: the machine with the index commits."""
