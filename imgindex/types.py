"""The words that every part shares, as frozen dataclasses and protocols; nothing here imports anything heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

# Strings, so that a command can speak of vectors without importing numpy.
Vectors: TypeAlias = "npt.NDArray[np.float32]"
Ids: TypeAlias = "npt.NDArray[np.int64]"
Pixels: TypeAlias = "npt.NDArray[np.uint8]"
Path: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be an image, as its source lists it: absolute path, size in bytes, times in ns.

    ctime_ns, inode: None where they are unknown, or where the source does not keep them. version: what the source gives
    another value when the content changes, such as a checksum; None for a file of this machine. metadata: what its
    source says of the picture beside it (key → text or number), once the file was read.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int | None = None
    inode: int | None = None
    version: str | None = None
    metadata: Mapping[str, str | float] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class UnnamedFile(FoundFile):
    """A file whose name has no ending: only its content shows whether it is an image."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read or embedded: the stage (find, read, decode, embed or mix) and the reason.

    tried_at: when that was, in UTC; size and mtime_ns: of the file then, -1 where they are unknown; ctime_ns, inode and
    version: as in `FoundFile`. decoder: the module that would decode the file, where the failure is that it is not
    installed.
    """

    path: str
    stage: str
    reason: str
    size: int = -1
    mtime_ns: int = -1
    tried_at: str = ""
    decoder: str = ""
    ctime_ns: int | None = None
    inode: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the index: its file, and what is known of its picture.

    sha256: hex, of the file's bytes. width, height: pixels of the upright picture. format: as Pillow names it. tags,
    and metadata (key → text or number): what people recorded with `tag` and `import_csv`.
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
class Progress:
    """How far a long task has come: `done` of `total` in `unit`; `total` is 0 while it is unknown.

    limit: the step that the others wait for. nodes: how many other machines compute.
    """

    stage: str
    done: int
    total: int
    limit: str = ""
    unit: str = "images"
    nodes: int = 0


OnProgress = Callable[[Progress], None]
Item = TypeVar("Item")


def counted(
    items: Iterable[Item],
    total: int,
    stage: str,
    on_progress: OnProgress,
    *,
    every: int = 1000,
    unit: str = "images",
) -> Iterator[Item]:
    """Yield the items, and report the progress of the stage: at once, after so many of them, and at the end.

    >>> [*counted("abc", 3, "letters", lambda progress: print(progress.done), every=2)]
    0
    2
    3
    ['a', 'b', 'c']
    """
    on_progress(Progress(stage, 0, total, unit=unit))
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        if done % every == 0:
            on_progress(Progress(stage, done, total, unit=unit))
    if done % every:
        on_progress(Progress(stage, done, total, unit=unit))


@dataclass(frozen=True, slots=True)
class Engine:
    """How vectors are computed on this machine; no choice here changes an answer beyond rounding.

    device: auto, cpu, cuda, cuda:N or mps. precision: auto, int8 (on a CPU), fp16 (on a GPU), bf16 or fp32. batch_size:
    pictures that the network takes at once. workers: images that are decoded at once, each in a process of its own.
    None: chosen for the machine.

    >>> Engine(device="cpu", precision="fp32").batch_size is None
    True
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None


class Encoder(Protocol):
    """Turns prepared images into vectors; one image is a batch of one.

    batch_size: how many images to pass at once; it may become smaller when memory runs out.
    streams: how many threads have to call `encode` at the same time to keep the device busy.
    precision: int8, bf16, fp16 or fp32.
    device: cpu, cuda, cuda:N or mps.
    """

    streams: int
    precision: str
    device: str

    @property
    def batch_size(self) -> int: ...

    def encode(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) of uint8 images (n, side, side, 3)."""
        ...

    def fp32(self) -> Encoder:
        """Return an encoder that computes the same in fp32."""
        ...


class CustomEncoder(Protocol):
    """A network of your own, for `ImageIndex.create(path, encoder=...)` and `ImageIndex.open(path, encoder=...)`.

    name: what `status` shows. digest: SHA-256 in hex of all that its vectors depend on, such as the bytes of its
    weights: an index accepts only the encoder with the digest that it was made with. dimension: numbers of a vector.
    side: pixels of the square that it wants. norm: l2 for vectors that imgindex scales to length 1, or none.

    It may also have batch_size (32 if it does not say), streams (1: how many threads may call it at the same time),
    precision and device, as `Encoder` has them.
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def side(self) -> int: ...

    @property
    def norm(self) -> str: ...

    def encode(self, batch: Pixels) -> Vectors:
        """Return vectors (n, dimension) of uint8 images (n, side, side, 3) in RGB, upright, letterboxed on white."""
        ...


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """How far a precision below fp32 changes answers, measured on some pictures of an index.

    overlap: the share of the 10 nearest images that stay the same when the picture is embedded in fp32. cosine: the
    smallest one between the two vectors of a picture.
    """

    precision: str
    pictures: int
    overlap: float
    cosine: float


def unchecked(rows: npt.NDArray[np.int64]) -> None:
    """Accept rows that were not read from a disk, and so cannot be damaged there."""


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """A block of stored vectors (n, dimension) and their ids, int64 (n,); the id is -1 where no image is present.

    check: raises IndexDamaged unless the vectors with these row numbers are the ones that were stored. Code that
    compares rows calls it first: a damaged vector would make a wrong answer, or be missing from the right one.
    """

    ids: Ids
    vectors: Vectors
    check: Callable[[npt.NDArray[np.int64]], None] = unchecked


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest rows of each query, nearest first, ties by id: arrays (queries, n); id -1 where there are fewer."""

    ids: Ids
    distances: Vectors


class VectorSearch(Protocol):
    """Finds the rows nearest to each query by Euclidean distance."""

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension)."""
        ...
