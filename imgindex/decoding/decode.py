"""Decodes the bytes of an image file to an upright RGB picture, or gives the reason in one line.

Colours are those stored in the file: ICC profiles and gamma are not applied, as in OpenCV and torchvision.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from imgindex.decoding import camera_raw, integrity, plugins
from imgindex.decoding.scaling import Box, scale
from imgindex.decoding.sizes import reduced_size, scaled_size
from imgindex.decoding.transparency import Alpha, flatten
from imgindex.decoding.values import Range, to_bytes
from imgindex.errors import UnreadableImage
from imgindex.recipe import Scaling

if TYPE_CHECKING:
    from imgindex.decoding.tiff import Tiff

MAX_PIXELS = 256 * 1024**2

# EPS would run the file's program in Ghostscript. Pillow can identify the others, but not decode them.
_REFUSED_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_WIDE_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_TIFF_HEADERS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})
# Formats whose frames follow each other in time; AVIF and JPEG XL hold still pictures too. Those of a HEIC are still
# pictures, of which the file names one as the primary.
_ANIMATED_FORMATS = frozenset({"GIF", "PNG", "WEBP", "AVIF", "JXL", "FLI", "TIFF"})
# Where the first frame is of one colour, so many are searched for a picture; and so many pixels.
MAX_FRAMES = 256
MAX_FRAME_PIXELS = MAX_PIXELS // 2
# Lossy compression makes one colour to neighbouring ones.
_ONE_COLOUR = 8
# A grey picture of fewer levels, of 256, is a mask: its values are numbers of classes.
_MASK_LEVELS = 16
# What Pillow decodes to the values that the file has: the others may have more bits or colours than it keeps.
_EXACT_FORMATS = frozenset({"BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"})
_EXACT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
MAX_STORED_PIXELS = 64 * 1024**2
_LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "AVIF", "HEIF", "JXL", "JPEG2000"})

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
class Draft:
    """A size to which a picture may be scaled while it is decoded.

    side: the pixels of the longer side that it gets. margin: a JPEG that is decoded at a half, a quarter or an eighth
    of its size keeps at least so many times the pixels on each side, and is scaled from there. enlarges: whether a
    smaller picture is scaled up. scaling: the arithmetic (see scaling.py).
    """

    side: int
    margin: float = 2.0
    enlarges: bool = True
    scaling: Scaling = "pillow"

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) that a picture of the given size gets."""
        return scaled_size(size, self.side) if self.enlarges else reduced_size(size, self.side)


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture in mode RGB, fully in memory; `format` is Pillow's name of the file's format, or RAW.

    width, height: of the picture in the file, upright. `image` has another size if a draft was asked for.
    is_transparent: whether the file has pixels that are not opaque.
    """

    image: Image.Image
    width: int
    height: int
    format: str
    is_transparent: bool = False


@dataclass(frozen=True, slots=True)
class _Options:
    """The parameters of `decode`."""

    alpha: Alpha
    draft: Draft | None
    max_pixels: int
    before_load: Callable[[int], None]


def decode(
    data: bytes,
    *,
    alpha: Alpha = "visible",
    draft: Draft | None = None,
    max_pixels: int = MAX_PIXELS,
    before_load: Callable[[int], None] = lambda pixels: None,
) -> Picture:
    """Return the picture of an image file; raise UnreadableImage, and nothing else, whatever its bytes are.

    Of several pages the largest is taken, of the pictures of a HEIC the primary one, and of the frames of an animation
    the first that is not of one colour. Thumbnails are never taken.

    alpha: "visible" composes transparency on white, or on black if the drawing cannot be seen on white; "white" and
    "black" compose on that colour; "drop" reads as OpenCV's IMREAD_COLOR does: the first picture, its colours as
    stored, and of 16 bits the high byte. With "drop", PNG and JPEG (CMYK too) are equal to OpenCV's pixel for pixel; a
    CMYK TIFF is converted by Pillow. Otherwise values of more than 8 bits are scaled as `values.to_bytes` describes.
    draft: scale the picture to this size. A much larger JPEG is decoded at a half, a quarter or an eighth of its own,
    which takes a fraction of the time.
    before_load: called with the number of pixels in the file's header, before they take memory and time.

    A truncated file is refused if its format shows that it is truncated. Some do not: a JPEG that breaks off but ends
    with an end marker, and a WebP or BMP of full length whose last part is zeros.

    Pillow's warnings go where the host program sends them. If it turns them into errors, they become reasons.
    """
    try:
        with _pillow_settings(max_pixels):
            return _decode(data, _Options(alpha, draft, max_pixels, before_load))
    except UnreadableImage:
        raise
    except Exception as error:
        # Decoders raise anything on broken bytes: IndexError, struct.error, RecursionError, zlib.error, ...
        raise _unreadable(error, data) from error


def _decode(data: bytes, options: _Options) -> Picture:
    significant_bits, tiff = 0, None
    if data.startswith(integrity.PNG_SIGNATURE):
        data, significant_bits = integrity.pixel_chunks(data)
    elif data[:4] in _TIFF_HEADERS:
        from imgindex.decoding.tiff import inspect

        tiff = inspect(data)
    if camera_raw.has_signature(data) or (tiff and tiff.is_raw):
        return _decode_raw(data, options)
    if tiff and _needs_tifffile(tiff):
        return _decode_page(data, tiff, options)
    try:
        data, image = _open(data)
        if options.alpha != "drop":
            _seek_largest(image, tiff)
    except (UnidentifiedImageError, SyntaxError, IndexError, KeyError):
        # The last two where a later page has a layout for which the file would not be opened.
        if tiff:
            return _decode_page(data, tiff, options)
        raise
    _check_size(image, options.max_pixels)
    format = image.format or ""
    integrity.check(data, format=format)
    options.before_load(image.width * image.height)
    if format in {"JPEG", "MPO"} and integrity.lacks_end(data):
        image = _without_end(data)
    size, drafted = image.size, _draft(image, options.draft) if options.draft else None
    reading = _Reading(data, significant_bits, tiff, image.tile[0] if image.tile else ())
    image.load()
    # An icon's header may give a smaller size than the picture inside it has.
    _check_size(image, options.max_pixels)
    size = size if drafted else image.size
    orientation = _orientation(image)
    upright, is_transparent = _to_rgb(image, options.alpha, reading)
    if options.alpha != "drop" and format in _ANIMATED_FORMATS and _is_one_colour(upright):
        upright = upright.copy()  # Pillow draws later frames into the same memory
        for frame in _later_frames(image, tiff):
            found, transparent = _to_rgb(frame, options.alpha, reading)
            if not _is_one_colour(found):
                upright, is_transparent, size = found, transparent, found.size
                orientation = _orientation(frame)
                break
    return _finish(upright, size, orientation, format, is_transparent, options.draft, drafted)


def decode_as_stored(data: bytes, max_pixels: int = MAX_STORED_PIXELS) -> Image.Image | None:
    """Return the upright picture of a file in mode RGBA with the values that the file has, at its own size.

    None for a file that cannot be read so exactly: one with several pictures, with more than 8 bits a sample, with
    other colours than grey, RGB or a palette, of another format than those of _EXACT_FORMATS, or with more than
    `max_pixels`. Raises MemoryError.
    """
    try:
        with _pillow_settings(max_pixels):
            return _decode_as_stored(data, max_pixels)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise anything on broken bytes
        return None


def _decode_as_stored(data: bytes, max_pixels: int) -> Image.Image | None:
    tiff = None
    if data[:4] in _TIFF_HEADERS:
        from imgindex.decoding.tiff import inspect

        tiff = inspect(data)
        if tiff is None or _needs_tifffile(tiff):
            return None
    elif data.startswith(integrity.PNG_SIGNATURE):
        data, _ = integrity.pixel_chunks(data)
    data, image = _open(data)
    if image.format not in _EXACT_FORMATS or getattr(image, "n_frames", 1) > 1 or image.mode not in _EXACT_MODES:
        return None
    _check_size(image, max_pixels)
    reading = _Reading(data, 0, tiff, image.tile[0] if image.tile else ())
    if reading.is_wide_colour(image):
        return None
    image.load()
    orientation = _orientation(image)
    picture = image.convert("RGBA")
    if orientation in _TRANSPOSE_BY_ORIENTATION:
        picture = picture.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
    return picture


def _finish(
    picture: Image.Image,
    size: tuple[int, int],
    orientation: int,
    format: str,
    is_transparent: bool,
    draft: Draft | None,
    drafted: Box | None = None,
) -> Picture:
    """Return the picture scaled and upright; size: of the whole picture, before it was drafted."""
    if draft:
        picture = scale(picture, draft.size(size), draft.scaling, drafted)
    if orientation in _TRANSPOSE_BY_ORIENTATION:
        picture = picture.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
    # EXIF and profiles may be megabytes, and pictures wait in queues.
    picture.info = {}
    width, height = size[::-1] if orientation in _SWAPPED_ORIENTATIONS else size
    return Picture(picture, width, height, format, is_transparent)


def _open(data: bytes) -> tuple[bytes, ImageFile.ImageFile]:
    """Return the data without bytes before a JPEG, and the image opened."""
    plugins.load_for(data)
    formats = [name for name in Image.ID if name not in _REFUSED_FORMATS]
    try:
        return data, Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        # A TIFF may hold a preview, or bytes that look like the start of one.
        rest = data if data[:4] in _TIFF_HEADERS else integrity.without_leading_bytes(data)
        if rest is data:
            raise
        return rest, Image.open(io.BytesIO(rest), formats=["JPEG", "MPO"])


def _without_end(data: bytes) -> ImageFile.ImageFile:
    """Return a JPEG without an end marker, opened; raise UnreadableImage if its pixels are not complete."""
    body = integrity.without_fill(data)
    if _is_complete(body):
        return _with_end(body)
    # The scan of one colour is zeros at its end. Those that fill the end of a damaged file are more, or too few.
    if _is_complete(data) and not _is_complete(data[:-2]) and _is_one_colour(_with_end(data).convert("RGB")):
        return _with_end(data)
    raise UnreadableImage("JPEG breaks off: it has no end marker")


def _with_end(body: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(integrity.with_ends(body)[0]), formats=["JPEG"])


def _is_complete(body: bytes) -> bool:
    """Whether a JPEG without an end marker has all its pixels."""
    pixels = [Image.open(io.BytesIO(end), formats=["JPEG"]).tobytes() for end in integrity.with_ends(body)]
    return bool(pixels) and pixels.count(pixels[0]) == len(pixels)


def _decode_raw(data: bytes, options: _Options) -> Picture:
    image, size = camera_raw.develop(
        data, draft_side=options.draft.side if options.draft else None, max_pixels=options.max_pixels
    )
    return _finish(image, size, 1, "RAW", False, options.draft)


def _needs_tifffile(tiff: Tiff) -> bool:
    from imgindex.decoding.tiff import is_right_in_pillow

    return tiff.number is None or not is_right_in_pillow(tiff.page)


def _decode_page(data: bytes, tiff: Tiff, options: _Options) -> Picture:
    """Decode a page of a TIFF by tifffile."""
    from imgindex.decoding.tiff import orientation, read

    width, height = tiff.page.imagewidth, tiff.page.imagelength
    if width * height > options.max_pixels:
        raise UnreadableImage(f"{width} × {height} pixels, more than the limit of {options.max_pixels:,}")
    options.before_load(width * height)
    picture, is_transparent = _plain_to_rgb(read(data, tiff.page, options.max_pixels), options.alpha)
    return _finish(picture, picture.size, orientation(tiff.page), "TIFF", is_transparent, options.draft)


def _seek_largest(image: ImageFile.ImageFile, tiff: Tiff | None) -> None:
    """Go to the page that counts: the largest of a TIFF or of the pictures in an MPO."""
    if tiff and tiff.number:
        image.seek(tiff.number)
    elif image.format == "MPO" and getattr(image, "n_frames", 1) > 1:
        largest, area = 0, image.width * image.height
        for number in range(1, min(image.n_frames, MAX_FRAMES)):  # type: ignore[attr-defined]
            try:
                image.seek(number)
            except Exception:  # noqa: BLE001 - a broken second picture does not concern the first
                break
            if image.width * image.height > area:
                largest, area = number, image.width * image.height
        image.seek(largest)


def _later_frames(image: ImageFile.ImageFile, tiff: Tiff | None) -> Iterator[ImageFile.ImageFile]:
    """Yield the image at its later frames, decoded, until there are none, one is broken, or they are many."""
    if not getattr(image, "is_animated", False):
        return
    numbers: Iterable[int] = range(MAX_FRAMES)
    if tiff:
        numbers = tiff.same_size[1:]
    pixels, first = 0, image.tell()
    for number in numbers:
        if number == first:
            continue
        pixels += image.width * image.height
        if pixels > MAX_FRAME_PIXELS:
            return
        try:
            image.seek(number)
            image.load()
        except Exception:  # noqa: BLE001 - EOFError behind the last frame, and anything for a broken one
            return
        yield image


def _is_one_colour(picture: Image.Image) -> bool:
    return all(high - low <= _ONE_COLOUR for low, high in picture.getextrema())  # type: ignore[misc]


def _draft(image: ImageFile.ImageFile, draft: Draft) -> Box | None:
    """Set a JPEG to be decoded at a reduced size; return the part of it that the picture covers, or None.

    The part has fractions of pixels: an eighth of 4001 pixels is 500.125, and the decoder gives 501. None: the format
    cannot be decoded at a reduced size.
    """
    if image.format not in {"JPEG", "MPO"}:
        return None  # an HEIC's draft is the preview in it, which may show something else
    width, height = draft.size(image.size)
    drafted = image.draft(None, (math.ceil(draft.margin * width), math.ceil(draft.margin * height)))
    return drafted and drafted[1]


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UnreadableImage(f"{image.width} × {image.height} pixels, more than the limit of {max_pixels:,}")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and means no rotation
        return 1


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is known about the values of an image: the file, PNG's significant bits, the page, how Pillow reads it."""

    data: bytes
    significant_bits: int
    tiff: Tiff | None
    tile: tuple[Any, ...]

    def is_wide_colour(self, image: ImageFile.ImageFile) -> bool:
        """Whether samples have 16 bits, of which Pillow keeps the high byte."""
        if image.format == "PNG":
            return len(self.tile) > 3 and str(self.tile[3]).endswith(";16B")
        if self.tiff:
            from imgindex.decoding.tiff import is_wide_colour

            return is_wide_colour(self.tiff.page)
        return False


def _to_rgb(image: ImageFile.ImageFile, alpha: Alpha, reading: _Reading) -> tuple[Image.Image, bool]:
    """Return an image as RGB, and whether it has transparent pixels."""
    if alpha == "drop":
        return _as_opencv(image), False
    if image.mode in _WIDE_MODES:
        return _wide_to_rgb(image, alpha, reading)
    if image.mode in {"RGB", "RGBA"} and reading.is_wide_colour(image) and _is_dim(image):
        return _all_bits(image, alpha, reading)
    if image.mode == "L" and image.format not in _LOSSY_FORMATS and "transparency" not in image.info:
        declared = _declared(image, reading)
        if declared or 0 < image.getextrema()[1] < _MASK_LEVELS:  # type: ignore[operator]
            return _wide_to_rgb(image, alpha, reading)
    return _plain_to_rgb(image, alpha)


def _plain_to_rgb(image: Image.Image, alpha: Alpha) -> tuple[Image.Image, bool]:
    """Return an image of 8 bits as RGB, and whether it has transparent pixels."""
    if image.mode == "RGB" and "transparency" not in image.info:
        # Shares the pixels and lets go of the file: a copy would take longer than decoding a JPEG.
        return image._new(image.im), False
    if image.mode in {"La", "RGBa"}:
        image = image.convert(image.mode[:-1] + "A")
    if alpha != "drop" and image.has_transparency_data:
        key = image.info.get("transparency")
        if isinstance(key, tuple) and max(key) > 255:
            # The transparent colour of a 16-bit PNG; Pillow keeps only the high bytes of its pixels.
            image.info["transparency"] = tuple(value >> 8 for value in key)
        return flatten(image if image.mode == "LA" else image.convert("RGBA"), alpha)
    image.info.pop("transparency", None)
    return image.convert("RGB"), False


def _as_opencv(image: ImageFile.ImageFile) -> Image.Image:
    if image.mode == "CMYK" and image.format in {"JPEG", "MPO"}:
        return _cmyk_as_opencv(image)
    if image.mode in _WIDE_MODES:
        values = np.asarray(image)
        whole = values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 65535
        return Image.fromarray((values >> 8).astype(np.uint8) if whole else to_bytes(values)).convert("RGB")
    return _plain_to_rgb(image, "drop")[0]


def _wide_to_rgb(image: ImageFile.ImageFile, alpha: Alpha, reading: _Reading) -> tuple[Image.Image, bool]:
    """Return an image of one channel as RGB, its values scaled to 8 bits."""
    values, nothing = np.asarray(image), None
    if reading.tiff:
        from imgindex.decoding.tiff import nodata

        nothing = nodata(reading.tiff.page)
    elif image.format == "FITS":
        values, nothing = _fits_values(values, reading.data)
    grey = to_bytes(values, declared=_declared(image, reading), nodata=nothing)
    if reading.tiff and image.mode in _WIDE_MODES:
        from imgindex.decoding.tiff import is_inverted

        grey = 255 - grey if is_inverted(reading.tiff.page) else grey
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(grey).convert("RGB"), False
    opacity = np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)
    return flatten(Image.fromarray(np.dstack([grey, opacity]), "LA"), alpha)  # type: ignore[arg-type]


def _declared(image: ImageFile.ImageFile, reading: _Reading) -> Range | None:
    """Return the least and greatest value of one channel, if the file declares others than its type has."""
    if reading.tiff:
        from imgindex.decoding.tiff import declared_range

        declared = declared_range(reading.tiff.page)
        return None if image.mode == "L" and (declared or (0, 0))[1] <= 255 and declared[0] == 0 else declared  # type: ignore[index]
    bits = reading.significant_bits
    if 0 < bits < 16 and image.getextrema()[1] < 1 << bits:  # type: ignore[operator]
        # PNG wants samples scaled to all bits of their type, but not all writers do so.
        return (0.0, float((1 << bits) - 1)) if bits != 8 or image.mode != "L" else None
    # Pillow has scaled these by the depth that the file declares.
    is_scaled = image.format == "JPEG2000" or (reading.tile and reading.tile[0] in {"ppm", "ppm_plain"})
    return (0.0, 65535.0) if is_scaled and image.mode in {"I", "I;16"} else None


def _fits_values(values: npt.NDArray[Any], data: bytes) -> tuple[npt.NDArray[Any], float | None]:
    """Return the values of a FITS file, which are signed before an offset is added, and the one for "no value"."""
    if values.dtype.kind == "f" or values.dtype == np.uint8:
        return values, None
    cards = dict(re.findall(rb"(BZERO|BLANK) *= *([-+.0-9E]+)", data[: 36 * 2880]))
    offset = int(float(cards.get(b"BZERO", b"0")))
    signed = values.view(np.int16) if values.dtype.itemsize == 2 else values
    blank = float(cards[b"BLANK"]) + offset if b"BLANK" in cards else None
    return signed.astype(np.int64) + offset, blank


def _is_dim(image: Image.Image) -> bool:
    """Whether the high bytes fill so little of their range that the low bytes matter."""
    counts = np.array(image.convert("RGB").histogram()).reshape(3, 256).sum(axis=0).cumsum()
    low, high = np.searchsorted(counts, [counts[-1] * 0.001, counts[-1] * 0.999])
    return bool(high - low < 256 // 16 + 1 or counts[63] == counts[-1])


def _all_bits(image: ImageFile.ImageFile, alpha: Alpha, reading: _Reading) -> tuple[Image.Image, bool]:
    """Return an image with 16 bits a sample as RGB, its values scaled to 8 bits by the range that they fill."""
    if reading.tiff:
        from imgindex.decoding.tiff import read

        return _plain_to_rgb(read(reading.data, reading.tiff.page, MAX_PIXELS), alpha)
    high = np.asarray(image).astype(np.uint16)
    raw_mode = str(reading.tile[3])
    # Pillow's decoder of the other byte order takes the low bytes; grey with alpha has as many bytes as RGBA.
    low_mode = "RGBA" if raw_mode == "LA;16B" else raw_mode[:-1] + "L"
    low = np.asarray(_with_raw_mode(reading.data, low_mode)).astype(np.uint16)
    colours = (low[..., :1] << 8 | low[..., 1:2]) if raw_mode == "LA;16B" else (high << 8 | low)[..., :3]
    bits = reading.significant_bits
    declared = (0.0, float((1 << bits) - 1)) if 0 < bits < 16 and colours.max() < 1 << bits else None
    scaled = np.broadcast_to(to_bytes(colours, declared=declared), (*colours.shape[:2], 3))
    key = image.info.get("transparency")
    opacity = high[..., 3] if high.shape[2] == 4 else np.full(high.shape[:2], 255)
    if isinstance(key, tuple):
        opacity = np.where((colours == np.array(key)).all(axis=-1), 0, opacity)
    return flatten(Image.fromarray(np.dstack([scaled, opacity.astype(np.uint8)]), "RGBA"), alpha)  # type: ignore[arg-type]


def _with_raw_mode(data: bytes, raw_mode: str) -> Image.Image:
    """Return a PNG decoded as if its samples were laid out as `raw_mode`, of as many bytes a pixel."""
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    image.tile = [(*image.tile[0][:3], raw_mode)]  # type: ignore[list-item]
    image.load()
    return image


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


def _unreadable(error: Exception, data: bytes) -> UnreadableImage:
    if isinstance(error, UnidentifiedImageError):
        format = plugins.plugin_format(data)
        plugin = plugins.OPTIONAL_PLUGINS.get(format)
        if plugin and plugin.format not in Image.OPEN:
            return UnreadableImage(f"{format} needs `pip install {plugin.package}`", decoder=plugin.module)
        return UnreadableImage("not an image that Pillow can read")
    return UnreadableImage(_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "more pixels than the limit"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)).strip().partition("\n")[0][:200]
    if isinstance(error, (OSError, SyntaxError)) and text and not text.startswith("decoder error"):
        return text
    return f"broken image data ({text or type(error).__name__})"
