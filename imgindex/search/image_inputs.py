"""What a caller may give as an image: a path, a picture, an array, the bytes of a file, an open file, or a vector.

What is in memory becomes the bytes of a lossless file, so that it is decoded as files are: turned by its EXIF, composed
where it is transparent, scaled by the same steps.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from imgindex.errors import UsageError
from imgindex.sources.base import Content
from imgindex.types import Path, Vectors

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ImageInput: TypeAlias = Union[Path, "PillowImage", npt.NDArray[Any], bytes, BinaryIO]

ACCEPTED = "an image may be a path, a Pillow image, a uint8 array (h, w, 3), bytes, an open file, or a vector"
# Modes that PNG keeps as they are; TIFF keeps the others.
PNG_MODES = frozenset({"1", "I;16", "L", "LA", "P", "RGB", "RGBA"})
# Transparency in a form that neither has; every other mode becomes RGB, or I if it has 16 bits in another order.
OTHER_MODES = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
TIFF_MODES = frozenset({"CMYK", "F", "I", "LAB", "YCbCr"})


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """An image without a path: its bytes, those of a file, or its vector (dimension,). path: what stands for one."""

    path: str
    data: bytes = b""
    vector: Vectors | None = None

    @property
    def content(self) -> Content:
        """The bytes, as a source would give them."""
        return Content(self.data, hashlib.sha256(self.data).digest(), len(self.data), 0)


def is_single(images: Any) -> bool:
    """Return whether a value is one image, rather than several: an iterable of images, or an array of them."""
    if isinstance(images, np.ndarray):
        return images.ndim in (0, 1, 3) or (images.ndim == 2 and images.dtype == np.uint8)
    known = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "read")
    return known or _is_pillow(images) or not isinstance(images, Iterable)


def as_images(images: Any) -> Iterable[Any]:
    """Return one image or several as several, without reading an iterator: it may be endless."""
    return [images] if is_single(images) else images


def as_input(image: Any, dimension: int) -> Any:
    """Return a path as text, and anything in memory as `InMemory`.

    dimension: of a vector. Raises UsageError for anything else, which says what is accepted.
    """
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    if isinstance(image, InMemory):
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _file(bytes(image), f"<{len(image):,} bytes>")
    if isinstance(image, np.ndarray):
        return _of_array(image, dimension)
    if _is_pillow(image):
        return _file(_bytes_of(image), f"<picture of {image.width} × {image.height}>")
    if hasattr(image, "read"):
        data = image.read()
        if not isinstance(data, bytes):
            raise UsageError("the file gives text, not bytes", hint="open it with the mode 'rb'")
        return _file(data, str(getattr(image, "name", "")) or f"<file of {len(data):,} bytes>")
    raise UsageError(f"an object of the type {type(image).__name__} is not an image", hint=ACCEPTED)


def _file(data: bytes, path: str) -> InMemory:
    if not data:
        raise UsageError("the image has no bytes", hint="read the file from its beginning")
    return InMemory(path, data)


def _of_array(array: npt.NDArray[Any], dimension: int) -> InMemory:
    if array.ndim == 1 and array.dtype.kind in "fiu":
        if array.shape != (dimension,):
            raise UsageError(f"the vector has {len(array)} numbers, and those of this index have {dimension}")
        vector = array.astype(np.float32)
        if not np.isfinite(vector).all():
            raise UsageError("the vector has numbers that are not finite")
        return InMemory(f"<vector of {dimension} numbers>", vector=vector)
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        if 0 in array.shape:
            raise UsageError(f"the picture has no pixels: its shape is {array.shape}")
        from PIL import Image

        return as_input(Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array), dimension)  # type: ignore[no-any-return]
    raise UsageError(f"an array of {array.dtype} {array.shape} is neither a picture nor a vector", hint=ACCEPTED)


def _is_pillow(image: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def _bytes_of(picture: PillowImage) -> bytes:
    """Return a picture as the bytes of a file, with its values, its transparency and its orientation."""
    format = "PNG" if picture.mode in PNG_MODES else "TIFF"
    if picture.mode not in PNG_MODES | TIFF_MODES:
        picture = picture.convert("I" if picture.mode.startswith("I;16") else OTHER_MODES.get(picture.mode, "RGB"))
        format = "TIFF" if picture.mode == "I" else "PNG"
    file = io.BytesIO()
    # Without compression, which would take longer than everything else.
    options = {"compress_level": 0} if format == "PNG" else {}
    picture.save(file, format, exif=picture.getexif(), **options)
    return file.getvalue()
