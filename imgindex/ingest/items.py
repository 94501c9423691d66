"""The states of a file on its way through a pipeline: opened, then prepared, relocated, copied or failed.

A pipeline computes, and a recorder keeps what comes of it. `IngestPipeline` in pipeline.py computes on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imgindex.decoding.process import DecodedImage
from imgindex.errors import UnreadableImage
from imgindex.ingest.worklist import WorkList
from imgindex.sources.base import Content
from imgindex.storage.records import NewImage
from imgindex.types import Encoder, Failure, FoundFile, Pixels, Vectors

# Images whose pixels are kept until the end of a run, to measure its precision.
SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was read. The content of a file of this machine is without its data: it is read again to decode it.

    known: whether the catalogue already has its path. picture: where it was decoded at once.
    """

    file: FoundFile
    content: Content
    known: bool = False
    picture: DecodedImage | None = None

    def without_data(self) -> Opened:
        """Return the item without the file's bytes and pixels, to keep it for long."""
        return replace(self, content=replace(self.content, data=b""), picture=None)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image whose pixels are ready for the network."""

    image: NewImage
    pixels: Pixels
    known: bool


@dataclass(frozen=True, slots=True)
class Relocated:
    """An image of the index whose path or times may have changed, but not its content.

    kind: unchanged, restored, renamed. is_recorded: the catalogue has these very numbers of the file.
    """

    id: int
    file: FoundFile
    kind: str
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class Copied:
    """An image with the same content as another image of the index, and that image's vector."""

    image: NewImage
    vector: Vectors
    known: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that could not be read, or not be decoded; `sha256` is empty if it was not read."""

    failure: Failure
    sha256: bytes = b""


Outcome = Prepared | Relocated | Copied | Failed
Files = WorkList | Sequence[FoundFile]


class Recorder(Protocol):
    """Keeps what a pipeline computed; all its methods are called in the thread that runs the pipeline."""

    @property
    def is_first(self) -> bool:
        """Whether nothing is known of any content, so that all files are decoded."""
        ...

    @property
    def done(self) -> int:
        """How many files are recorded."""
        ...

    def decide(self, lot: list[Opened | Failed]) -> list[Opened | Outcome]:
        """Return what becomes of files that were read: those that are Opened are to be decoded.

        A file may be missing: nothing is to be done for it now, because another with its content is on its way.
        """
        ...

    def record(self, batch: Sequence[Prepared], vectors: Vectors) -> None:
        """Record images with their vectors (n, dimension)."""
        ...

    def record_outcome(self, outcome: Relocated | Copied | Failed) -> None:
        """Record a file that needs no new vector."""
        ...

    def take_again(self) -> list[FoundFile]:
        """Return the files that have to go through the pipeline again, and forget them."""
        ...

    def commit(self, *, if_due: bool = False) -> None:
        """Make durable what was recorded; `if_due`: only if it is time to, or if it is much."""
        ...

    def commit_after(self, error: BaseException) -> None:
        """Make durable what was recorded before an error that ends the run, if that is possible."""
        ...


class MeasuredEncoder(Protocol):
    """What is known of an encoder where its precision is measured."""

    @property
    def precision(self) -> str:
        """int8, bf16, fp16 or fp32."""
        ...

    def fp32(self) -> Encoder:
        """Return an encoder that computes the same in fp32."""
        ...


class Pipeline(Protocol):
    """Takes files to a recorder: reads, decodes and embeds them.

    samples: a few images of the run, with the pixels that `encoder` embedded. on_decoded: called with how many images
    are decoded, until the first ones are committed. nodes: how many other machines compute.
    """

    stage_times: StageTimes
    samples: list[Prepared]
    stopping: bool
    nodes: int
    on_decoded: Callable[[int], None]

    @property
    def encoder(self) -> MeasuredEncoder | None:
        """What embedded the images; None before the first one."""
        ...

    def run(self, files: Files) -> Generator[int, None, None]:
        """Process the files; yield after each batch how many are done. All are committed at the end."""
        ...

    def stop(self) -> None:
        """End early: `run` still yields what is in flight, and opens no other files."""
        ...


@dataclass(slots=True)
class StageTimes:
    """Seconds that the run waited for each stage."""

    seconds: dict[str, float] = field(default_factory=lambda: {"decoding": 0.0, "the network": 0.0, "the disk": 0.0})

    @property
    def longest(self) -> str:
        return max(self.seconds, key=self.seconds.__getitem__)


def unreadable(file: FoundFile, error: UnreadableImage) -> Failure:
    """Return the failure of a file that cannot be read or decoded."""
    return replace(failure_of(file, error.stage, error.reason), decoder=error.decoder)


def failure_of(file: FoundFile, stage: str, reason: str) -> Failure:
    """Return the failure of a file as it is now."""
    return Failure(
        file.path,
        stage,
        reason,
        file.size,
        file.mtime_ns,
        ctime_ns=file.ctime_ns,
        inode=file.inode,
        version=file.version,
    )
