"""Every error that imgindex raises on purpose, each with its exit code and the way out.

    ImgindexError                   1
    ├── UsageError                  2   the call cannot mean anything
    ├── IndexNotFound                   there is no index where one was asked for
    ├── IndexExists                     one is there already
    ├── IndexLocked                     another process is writing
    ├── IndexDamaged                    the files on disk contradict the catalogue
    ├── FormatTooNew                    written by a newer imgindex
    ├── RecipeMismatch                  vectors of two recipes are not comparable
    ├── WeightsUnavailable              the network's weights cannot be had
    ├── WeightsMismatch                 a weights file that does not fit the recipe
    ├── DeviceUnavailable               a device or precision that this machine lacks
    ├── DecoderUnavailable              no process can be started that decodes images
    ├── ExtraMissing                    what was asked for needs a library that is not installed
    ├── PathNotFound                    a path that was named does not exist or cannot be read
    ├── UnreadableImage                 one image that was asked for by name cannot be read
    ├── TooFewDistinctVectors           k-means is asked for more clusters than there are points
    └── SampleMismatch                  the sample's ids are not the index's ids

What befalls one image of many is not an error but a `Failure` (see types.py).
"""

from __future__ import annotations


class ImgindexError(Exception):
    """Something that imgindex refuses to do, or cannot do; `hint` says the way out."""

    exit_code = 1
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(ImgindexError, ValueError):
    """The call cannot mean anything."""

    exit_code = 2


class IndexNotFound(ImgindexError):
    """There is no index where one was asked for."""

    hint = "make one with `imgindex add FOLDER`, or name one with --index DIR"


class IndexExists(ImgindexError):
    """There is an index already where one was to be made."""

    hint = "open it with ImageIndex.open, or choose another folder"


class IndexLocked(ImgindexError):
    """Another process is writing to this index."""

    hint = "try again when it has finished, or wait for it with --wait; reading needs no lock"


class IndexDamaged(ImgindexError):
    """The files on disk contradict the catalogue."""

    hint = "see what is hurt with `imgindex verify --full`, mend it with `imgindex repair`"


class FormatTooNew(ImgindexError):
    """The index was written by a newer version of imgindex."""

    hint = "upgrade with `pip install --upgrade imgindex`"


class RecipeMismatch(ImgindexError):
    """Vectors of two recipes are not comparable, so one index holds one recipe."""

    hint = (
        "leave --recipe, --size, --weights and --store out to go on with this index, or make another with --index DIR"
    )


class WeightsUnavailable(ImgindexError):
    """The network's weights are not on this disk and cannot be downloaded."""


class WeightsMismatch(ImgindexError):
    """A weights file does not hold what the recipe needs."""

    hint = "give a VGG-16 state dict shaped as torchvision's (.pth, .safetensors or .npz)"


class DeviceUnavailable(ImgindexError):
    """This machine lacks the device or the precision that was asked for."""

    hint = "leave --device and --precision at auto"


class DecoderUnavailable(ImgindexError):
    """No process can be started that decodes images."""

    hint = "check that this Python starts by itself, and that memory and processes are left"


class ExtraMissing(ImgindexError):
    """What was asked for needs a library that is not installed; the hint names the extra that brings it."""


class PathNotFound(ImgindexError):
    """A path that was named does not exist or cannot be read."""

    hint = "check the path, or that the disk is mounted (nothing was changed)"


class UnreadableImage(ImgindexError):
    """An image that was asked for by name cannot be read."""

    hint = ""

    def __init__(self, reason: str, *, stage: str = "decode") -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage


class TooFewDistinctVectors(ImgindexError):
    """There are fewer distinct vectors than clusters asked for."""

    hint = "choose a smaller k"


class SampleMismatch(ImgindexError):
    """The ids of the sample and those of the index differ."""
