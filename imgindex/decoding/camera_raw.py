"""Recognises camera raw files by their content, and develops them by rawpy, which brings LibRaw."""

from __future__ import annotations

import importlib
import io
from typing import Any

from PIL import Image

from imgindex.decoding.plugins import RAW_MODULE
from imgindex.errors import UnreadableImage

# Files of raw formats that are not a TIFF by their header; those that are: see `tiff.inspect`.
_SIGNATURES = (
    b"FUJIFILMCCD-RAW",
    b"IIRO",
    b"IIRS",
    b"MMOR",
    b"IIU\0",
    b"\0MRM",
    b"FOVb",
    b"II\x1a\0\0\0HEAPCCDR",
    b"ARRI\x12\x34\x56\x78",
)
_SWAPPED_FLIPS = {5, 6}  # LibRaw turned the picture by a quarter


def has_signature(data: bytes) -> bool:
    """Whether the first bytes are those of a camera raw file that is not a TIFF."""
    phase_one = data[:4] in {b"II*\0", b"MM\0*"} and data[8:12] in {b"IIII", b"MMMM"}
    return data.startswith(_SIGNATURES) or data[4:12] == b"ftypcrx " or phase_one


def develop(data: bytes, *, draft_side: int | None, max_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the upright picture of a camera raw file, and its size before it is drafted.

    With the white balance of the camera. draft_side: the picture may be developed at half its size if its longer side
    then still has twice as many pixels. Raises UnreadableImage, which names rawpy where it is not installed.
    """
    try:
        rawpy: Any = importlib.import_module(RAW_MODULE)
    except ImportError as error:
        raise UnreadableImage(f"a camera raw file needs `pip install {RAW_MODULE}`", decoder=RAW_MODULE) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes = raw.sizes
            if sizes.raw_width * sizes.raw_height > max_pixels:
                raise UnreadableImage("more pixels than the limit")
            size = (sizes.width, sizes.height)
            half = draft_side is not None and max(size) >= 4 * draft_side
            pixels = raw.postprocess(use_camera_wb=True, half_size=half)
    except rawpy.LibRawError as error:
        text = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise UnreadableImage(
            f"LibRaw cannot develop this camera raw file: {text.strip() or 'damaged'}"[:200]
        ) from error
    return Image.fromarray(pixels), size[::-1] if sizes.flip in _SWAPPED_FLIPS else size
