"""The words that every part shares, as frozen dataclasses and protocols; nothing here imports anything heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

# Strings, so that a command can speak of vectors without importing numpy.
Vectors: TypeAlias = "npt.NDArray[np.float32]"
Pixels: TypeAlias = "npt.NDArray[np.uint8]"
Path: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be an image, as the file system told of it: absolute path, size in bytes, mtime in ns."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read or embedded: at which stage (find, read, decode, embed, mix) and why."""

    path: str
    stage: str
    reason: str
    size: int = -1
    mtime_ns: int = -1
    tried_at: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A file that the index knows: `sha256` is hex, `width` and `height` are pixels of the upright picture.

    tags, metadata (key → text or number): what people said of it.
    """

    id: int
    path: str
    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    format: str
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str | float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Match:
    """One answer of a search: `distance` is Euclidean, not squared, so small is near; `rank` begins at 1."""

    rank: int
    path: str
    distance: float
    id: int


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image that is little like any other: `distance` to the image that is nearest to it, Euclidean.

    times: how many times as far that is as for the image in the middle of all that have no exact copy.
    reason: what is odd about it, in words.
    """

    rank: int
    path: str
    distance: float
    times: float
    nearest: str
    id: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search says of one query: its matches, nearest first, or the failure that kept it from being read."""

    query: str
    matches: list[Match]
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class AddReport:
    """What one `add` did; every file found is counted in exactly one of the columns from `added` to `failed`.

    `removed` counts known images that are gone from disk, which are not among the files found.
    `failed` counts the files that stand in the ledger, those known from earlier runs included.
    """

    found: int = 0
    added: int = 0
    updated: int = 0
    renamed: int = 0
    unchanged: int = 0
    reused: int = 0
    removed: int = 0
    restored: int = 0
    failed: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What one `compact` freed: `rows_dropped` vectors of no image, and the bytes of catalogue and segments."""

    rows_dropped: int
    segments_before: int
    segments_after: int
    bytes_before: int
    bytes_after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What one `repair` did, told in `mended`; nothing when it is empty.

    `embedded` counts images whose vector was lost and made again from the same bytes, `dropped` names those that the
    index does not show any more, each with the reason; a later `add` takes in what is still there.
    """

    mended: tuple[str, ...] = ()
    embedded: int = 0
    dropped: tuple[Failure, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long task has come, in `unit`; `total` is 0 while it is not known, `limit` names what is waited for."""

    stage: str
    done: int
    total: int
    limit: str = ""
    unit: str = "images"


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Engine:
    """How to compute vectors on this machine; no choice here may change an answer beyond rounding.

    device: auto, cpu, cuda, cuda:N or mps. precision: auto, fp32, bf16 or fp16.
    batch_size and workers (images decoded at once, each in a process): None lets the machine decide.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None


class Embedder(Protocol):
    """Turns prepared pictures into vectors; one picture is a batch of one.

    `lanes` says from how many threads `embed` is to be called at once, to keep the device busy; `precision` is fp32,
    bf16 or fp16.
    """

    batch_size: int
    lanes: int
    precision: str

    def embed(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) for uint8 pictures (n, height, width, 3)."""
        ...

    def exact(self) -> Embedder:
        """Return an embedder that computes the same in fp32."""
        ...


@dataclass(frozen=True, slots=True)
class PrecisionReceipt:
    """How far half precision changes answers, measured on some pictures of an index.

    overlap: share of the 10 nearest images that are the same when a picture is embedded in fp32; cosine: the smallest
    between a picture's vectors in both precisions.
    """

    precision: str
    pictures: int
    overlap: float
    cosine: float


def unchecked(rows: npt.NDArray[np.int64]) -> None:
    """Rows that come from no disk cannot be damaged there."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A block of stored vectors: `ids` int64 (n,), -1 where no image is shown, `vectors` (n, dimension).

    check: raises IndexDamaged unless the vectors with these row numbers are the ones that were stored. Whoever compares
    rows checks them first: a damaged vector would make a wrong answer, or drop out of the right one.
    """

    ids: npt.NDArray[np.int64]
    vectors: Vectors
    check: Callable[[npt.NDArray[np.int64]], None] = unchecked


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Nearest rows of each query, nearest first, ties by id: both arrays (queries, n); id -1 where there are fewer."""

    ids: npt.NDArray[np.int64]
    distances: Vectors


class VectorSearch(Protocol):
    """Finds the rows nearest to each query by Euclidean distance."""

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension)."""
        ...
