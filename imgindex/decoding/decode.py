"""Decodes the bytes of an image file to an upright RGB picture, or gives the reason in one line.

Colours are those stored in the file: ICC profiles and gamma are not applied, as in OpenCV and torchvision.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from imgindex.decoding import integrity, plugins
from imgindex.errors import UnreadableImage

MAX_PIXELS = 256 * 1024**2
# A JPEG decoded at a reduced size keeps at least this many times the wanted pixels on each side: see docs/decisions.md.
DRAFT_FACTOR = 2

Box = tuple[float, float, float, float]

# EPS would run the file's program in Ghostscript. Pillow can identify the others, but not decode them.
_REFUSED_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_WIDE_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})

_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED_ORIENTATIONS = range(5, 9)  # those that swap width and height

# At import: otherwise the first images load the formats, in several threads at once.
Image.preinit()
Image.init()


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture in mode RGB, fully in memory; `format` is Pillow's name of the file's format, such as JPEG.

    width, height: of the picture in the file, upright. `image` has another size if `draft_size` was given.
    """

    image: Image.Image
    width: int
    height: int
    format: str


def decode(
    data: bytes,
    *,
    alpha: Literal["white", "drop"] = "white",
    draft_size: int | None = None,
    max_pixels: int = MAX_PIXELS,
    before_load: Callable[[int], None] = lambda pixels: None,
) -> Picture:
    """Return the first picture of an image file; raise UnreadableImage, and nothing else, whatever its bytes are.

    alpha: "white" composes transparency on white; "drop" takes the colours as stored, as OpenCV's IMREAD_COLOR does.
    With "drop", PNG and JPEG (CMYK too) are equal to OpenCV's pixel for pixel; a CMYK TIFF is converted by Pillow.
    16-bit grey is cut to its high byte; floats in [0, 1] are multiplied by 255, others stretched from min to max.
    draft_size: scale the picture until its longer side has so many pixels. A JPEG that is more than twice as large is
    decoded at a half, a quarter or an eighth of its size, which takes a fraction of the time.
    before_load: called with the number of pixels in the file's header, before they take memory and time.

    A truncated file is refused if its format shows that it is truncated. Some do not: a JPEG that breaks off but ends
    with an end marker, and a WebP or BMP of full length whose last part is zeros.

    Pillow's warnings go where the host program sends them. If it turns them into errors, they become reasons.
    """
    try:
        with _pillow_settings(max_pixels):
            return _decode(data, alpha, draft_size, max_pixels, before_load)
    except UnreadableImage:
        raise
    except Exception as error:
        # Decoders raise anything on broken bytes: IndexError, struct.error, RecursionError, zlib.error, ...
        raise UnreadableImage(_reason(error, data)) from error


def _decode(
    data: bytes,
    alpha: Literal["white", "drop"],
    draft_size: int | None,
    max_pixels: int,
    before_load: Callable[[int], None],
) -> Picture:
    plugins.load_for(data)
    image = Image.open(io.BytesIO(data), formats=[name for name in Image.ID if name not in _REFUSED_FORMATS])
    _check_size(image, max_pixels)
    format = image.format or ""
    integrity.check(data, format=format)
    before_load(image.width * image.height)
    size, drafted = image.size, _draft(image, draft_size) if draft_size else None
    image.load()
    # An icon's header may give a smaller size than the picture inside it has.
    _check_size(image, max_pixels)
    size = size if drafted else image.size
    orientation = _orientation(image)
    upright = _to_rgb(image, alpha)
    if draft_size:
        upright = upright.resize(scaled_size(size, draft_size), Image.Resampling.BILINEAR, drafted)
    if orientation in _TRANSPOSE_BY_ORIENTATION:
        upright = upright.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
    # EXIF and profiles may be megabytes, and pictures wait in queues.
    upright.info = {}
    return Picture(upright, *(size[::-1] if orientation in _SWAPPED_ORIENTATIONS else size), format)


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (width, height) of a picture of the given size after its longer side is scaled to `side` pixels."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _draft(image: ImageFile.ImageFile, draft_size: int) -> Box | None:
    """Set a JPEG to be decoded at a reduced size; return the part of it that the picture covers, or None.

    The part has fractions of pixels: an eighth of 4001 pixels is 500.125, and the decoder gives 501. None: the format
    cannot be decoded at a reduced size.
    """
    width, height = scaled_size(image.size, draft_size)
    drafted = image.draft(None, (DRAFT_FACTOR * width, DRAFT_FACTOR * height))
    return drafted and drafted[1]


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UnreadableImage(f"{image.width} × {image.height} pixels, more than the limit of {max_pixels:,}")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and means no rotation
        return 1


def _to_rgb(image: ImageFile.ImageFile, alpha: Literal["white", "drop"]) -> Image.Image:
    if image.mode in _WIDE_MODES:
        return _wide_to_rgb(image, alpha)
    if alpha == "drop" and image.mode == "CMYK" and image.format in {"JPEG", "MPO"}:
        return _cmyk_as_opencv(image)
    plain: Image.Image = image
    if image.mode in {"La", "RGBa"}:
        plain = image.convert(image.mode[:-1] + "A")
    if alpha == "white" and plain.has_transparency_data:
        return _on_white(plain)
    plain.info.pop("transparency", None)
    if plain.mode == "RGB":
        # Shares the pixels and lets go of the file: a copy would take longer than decoding a JPEG.
        return plain._new(plain.im)
    return plain.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # The transparent colour of a 16-bit PNG; Pillow keeps only the high bytes of its pixels.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    layer = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(layer, mask=layer)
    return white


def _wide_to_rgb(image: Image.Image, alpha: Literal["white", "drop"]) -> Image.Image:
    values = np.asarray(image)
    grey = _high_byte_or_stretched(values)
    key = image.info.get("transparency")
    if alpha == "white" and isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _high_byte_or_stretched(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 65535:
        return (values >> 8).astype(np.uint8)
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scale = 255 / (high - low) if high > low else 0.0
    with np.errstate(all="ignore"):
        return np.rint(np.nan_to_num(np.clip((numbers - low) * scale, 0, 255))).astype(np.uint8)


def _cmyk_as_opencv(image: Image.Image) -> Image.Image:
    # The formula of icvCvtCMYK2BGR_8u_C4C3R in OpenCV's imgcodecs, which expects inverted inks: Adobe writes them so.
    ink = np.asarray(image).astype(np.uint16)
    paper = 255 - ink[..., 3:]
    return Image.fromarray((paper - (ink[..., :3] * paper >> 8)).astype(np.uint8))


class _HostSettings:
    """The host program's values of Pillow's settings, kept while this module has changed them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.max_pixels: int | None = None
        self.truncated = False


_host = _HostSettings()


@contextmanager
def _pillow_settings(max_pixels: int) -> Iterator[None]:
    """Change two process-wide settings of Pillow while any thread decodes here, and restore the host's values after.

    MAX_IMAGE_PIXELS: Pillow warns from 89 megapixels on and refuses 179, which a good camera reaches. Muting the
    warning (catch_warnings) is not safe in threads, and no limit (None) would let a small icon or GIF contain a frame
    of any size. So the limit is `max_pixels` meanwhile: the host program's other threads always have a limit too.
    LOAD_TRUNCATED_IMAGES: off, because it would let half a picture pass as a whole one.
    """
    with _host.lock:
        if not _host.users:
            _host.max_pixels, _host.truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
            Image.MAX_IMAGE_PIXELS = max_pixels
        _host.users += 1
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        with _host.lock:
            _host.users -= 1
            if not _host.users:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = _host.max_pixels, _host.truncated


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(plugins.plugin_format(data))
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "more pixels than the limit"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)).strip().partition("\n")[0][:200]
    if isinstance(error, (OSError, SyntaxError)) and text and not text.startswith("decoder error"):
        return text
    return f"broken image data ({text or type(error).__name__})"


def _unidentified(format: str) -> str:
    plugin = plugins.OPTIONAL_PLUGINS.get(format)
    if plugin and plugin.format not in Image.OPEN:
        return f"{format} needs `pip install {plugin.package}`"
    return "not an image that Pillow can read"
