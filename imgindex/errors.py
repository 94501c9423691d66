"""Every error that imgindex raises on purpose, each with its exit code and a hint on the way out.

    ImgindexError                   1
    ├── UsageError                  2   the call is wrong: impossible values, or options that contradict
    │   ├── FileNotOurs                 a file to write exists already, and imgindex did not write it
    │   └── FolderNotOurs               a folder for links or copies has files that imgindex did not write
    ├── IndexNotFound                   the folder does not hold an index
    ├── IndexExists                     the folder already holds an index
    ├── IndexLocked                     another process is writing to the index
    ├── IndexDamaged                    the files on disk contradict the catalogue
    ├── FormatTooNew                    a newer imgindex wrote the index
    ├── RecipeMismatch                  the index has another recipe: its vectors are not comparable
    ├── EncoderMissing                  the index needs the encoder of the user's own that made it
    ├── WeightsUnavailable              the network's weights are not on disk and cannot be downloaded
    ├── WeightsMismatch                 the weights file does not fit the recipe
    ├── DeviceUnavailable               this machine lacks the device or the precision
    ├── DecoderUnavailable              the processes that decode images cannot be started
    ├── ClusterUnavailable              the Ray cluster does not answer, has no free CPUs, or was lost
    ├── ExtraMissing                    a library that this call needs is not installed
    ├── PathNotFound                    a given path does not exist or cannot be read
    ├── UnreadableImage                 a given image cannot be read
    │   └── SourceUnavailable           nothing of its source can be read now
    ├── ClusteringNotFound              the index does not keep a clustering with this id
    ├── TooFewDistinctVectors           there are fewer distinct vectors than clusters
    ├── SampleMismatch                  the ids of the sample differ from those of the index
    ├── SearchUnavailable               the server that searches does not answer
    ├── CollectionNotOurs               a collection of that server does not belong to this index
    ├── IndexClosed                     the index was closed before the call
    └── AddressTaken                    another program listens where `serve` should

A hint names parameters in backticks, such as `weights=FILE`; the command line shows them as its flags (cli/flags.py).

If one of many images cannot be read, that is not an error but a `Failure` (see types.py). Results that are not errors
have exit codes too: see cli/options.py.
"""

from __future__ import annotations

import errno

OUT_OF_MEMORY = (
    "out of memory; close other programs or raise the limit, or try a smaller `batch_size=N` or fewer `workers=N`"
)
# What libraries write when they cannot get memory. A library that cannot be loaded for that reason is an ImportError.
_ALLOCATION_FAILED = (
    # CUDNN_STATUS_ALLOC_FAILED and CUBLAS_STATUS_ALLOC_FAILED
    "_status_alloc_failed",
    "allocate memory",
    "bad_alloc",
    "can't alloc",
    "can't start new thread",
    "failed to allocate",
    "failed to map segment",
    "memory allocation",
    "not enough memory",
    "out of memory",
    "unable to allocate",
    # A SystemError: a compiled module that did not check an allocation.
    "without exception set",
    "without setting an exception",
)


class ImgindexError(Exception):
    """An error that imgindex raises on purpose; `hint` is a way out, for people."""

    exit_code = 1
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(ImgindexError, ValueError):
    """The call is wrong: it has an impossible value, or options that contradict each other."""

    exit_code = 2


class IndexNotFound(ImgindexError):
    """The folder does not hold an index."""

    hint = "make an index with `imgindex add FOLDER`, or name another one with `path=DIR`"


class IndexExists(ImgindexError):
    """The folder already holds an index."""

    hint = "open it with ImageIndex.open, or choose another folder"


class IndexLocked(ImgindexError):
    """Another process is writing to the index."""

    hint = "try again when it has finished, or wait for it with `wait=True`; commands that only read need not wait"


class IndexDamaged(ImgindexError):
    """The files on disk contradict the catalogue."""

    hint = "list the damage with `imgindex verify --full`, repair it with `imgindex repair`"


class FormatTooNew(ImgindexError):
    """A newer version of imgindex wrote the index."""

    hint = "upgrade with `pip install --upgrade imgindex`"


class RecipeMismatch(ImgindexError):
    """The index has another recipe. One index holds one recipe, because vectors of two recipes are not comparable."""

    hint = (
        "leave out `recipe=`, `size=`, `weights=` and `store=` to use this index, or make another one with `path=DIR`"
    )


class EncoderMissing(ImgindexError):
    """The index was made by an encoder of the user's own, and a new picture needs it."""

    hint = (
        "give it in Python: ImageIndex.open(path, encoder=...); without it the images of the index can still be"
        " searched, clustered and exported"
    )


class WeightsUnavailable(ImgindexError):
    """The network's weights are not on this disk and cannot be downloaded."""

    hint = "connect to the network, or name a weights file with `weights=FILE`"


class WeightsMismatch(ImgindexError):
    """The weights file does not hold what the recipe needs."""

    hint = "give a state dict of the recipe's network, with torchvision's names for VGG-16 (.pth or .safetensors)"


class DeviceUnavailable(ImgindexError):
    """This machine lacks the device or the precision that was asked for."""

    hint = "leave `device=` and `precision=` at auto"


class DecoderUnavailable(ImgindexError):
    """The processes that decode images cannot be started."""

    hint = "check that this Python starts by itself, and that memory and process numbers are left"


class ClusterUnavailable(ImgindexError):
    """The Ray cluster does not answer, does not give any CPUs, or was lost."""

    hint = (
        "look at it with `ray status` on this machine, which has to be one of its nodes; finished batches are kept, "
        "and the same command continues"
    )


class ExtraMissing(ImgindexError):
    """A library that this call needs is not installed; the hint names the package to install."""


class PathNotFound(ImgindexError):
    """A given path does not exist or cannot be read."""

    hint = "check the path, and that its disk is mounted; nothing was changed"


class UnreadableImage(ImgindexError):
    """A given image cannot be read: at which `stage` (as of a `Failure`), and for what `reason`.

    decoder: the module that would decode it, where the reason is that it is not installed; else "".
    """

    def __init__(self, reason: str, *, stage: str = "decode", decoder: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage
        self.decoder = decoder


class SourceUnavailable(UnreadableImage):
    """Nothing of an image's source can be read now: an archive is gone, or a server does not answer.

    `add` ends, instead of counting failures.
    """

    hint = "make it available, and run the same command again; finished batches are kept, and nothing was removed"

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason, stage="read")
        if hint is not None:
            self.hint = hint


class ClusteringNotFound(ImgindexError):
    """The index does not keep a clustering with this id."""

    hint = "`imgindex clusterings` lists those that are kept; `imgindex cluster -k 5` makes one"


class TooFewDistinctVectors(ImgindexError):
    """There are fewer distinct vectors than clusters."""

    hint = "choose a smaller k"


class SampleMismatch(ImgindexError):
    """The ids of the sample differ from the ids of the images in the index."""


class SearchUnavailable(ImgindexError):
    """The server that searches for this index does not answer, or cannot do what it was asked."""

    hint = "see whether it runs, or search on this machine with `imgindex compact --search local`"


class CollectionNotOurs(ImgindexError):
    """A collection of the server that searches does not belong to this index; it was not changed."""

    hint = "name another collection, or a new one, with `imgindex compact --search milvus://HOST:PORT/COLLECTION`"


class FileNotOurs(UsageError):
    """A file to write exists already and imgindex did not write it, or its name is that of an image."""

    hint = "name another file, or replace it with `overwrite=True`"


class FolderNotOurs(UsageError):
    """A folder for links or copies has files that imgindex did not write."""

    hint = "name a new or empty folder, or move these files away"


class IndexClosed(ImgindexError):
    """The index was closed before the call."""

    hint = "open it again with ImageIndex.open, and call its methods within the `with` block"


class AddressTaken(ImgindexError):
    """Another program listens at the port or socket already."""

    hint = "choose another port or a socket, or name no port: then a free one is taken"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, means that the process cannot get more memory."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, MemoryError) or getattr(current, "errno", None) == errno.ENOMEM:
            return True
        # What a library in Rust raises that was given a null pointer.
        if type(current).__name__ == "PanicException":
            return True
        is_from_library = (
            isinstance(current, (ImportError, OSError, RuntimeError, SystemError))
            or "sqlite3" in type(current).__module__
        )
        if is_from_library and any(words in str(current).lower() for words in _ALLOCATION_FAILED):
            return True
        # What OpenVINO raises for a thread that cannot be started. An OSError with these words has other causes.
        if isinstance(current, RuntimeError) and "resource temporarily unavailable" in str(current).lower():
            return True
        current = current.__cause__ or current.__context__
    return False
