"""TIFF: every layout of samples has the right pixels, whether Pillow or tifffile decodes it, or is refused."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import ALPHA, COLUMN, NOISE, ROW, SMOOTH, Array, encoded, pixels, reason

from imgindex.decoding.decode import Draft, decode
from imgindex.errors import UnreadableImage

RAMP = (ROW * 64 + COLUMN) / (48 * 64 - 1)
GREY = np.rint(RAMP * 255).astype(np.uint8)
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)

# With negative values.
WIDE_NOISE = NOISE.astype("i2") * 100 - 9000


def tiff(samples: Array, *, byteorder: Any = "<", preview: bool = False, **options: Any) -> bytes:
    """Return a TIFF of the samples; preview: behind a small page of 8 bits."""
    file = io.BytesIO()
    options = {"metadata": None, "photometric": "minisblack" if samples.ndim == 2 else "rgb"} | options
    with tifffile.TiffWriter(file, byteorder=byteorder) as writer:
        if preview:
            writer.write(GREY[::6, ::6], photometric="minisblack", subfiletype=1, metadata=None)
        writer.write(samples, **options)
    return file.getvalue()


def is_near(data: bytes, expected: Array, tolerance: int = 1) -> bool:
    return bool(np.abs(pixels(data).astype(int) - expected).max() <= tolerance)


GREYS = {
    "u2": GREY.astype("u2") * 257,
    "u4": GREY.astype("u4") << 24,
    "u8": GREY.astype("u8") << 24,
    "i1": (GREY.astype("i2") - 128).astype("i1"),
    "i2": GREY.astype("i2") * 100 - 9000,
    "i4": GREY.astype("i4") * 1000 - 9000,
    "f2": RAMP.astype("f2"),
    "f4": RAMP.astype("f4"),
    "f8": RAMP,
}


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", GREYS)
def test_grey_of_every_type(kind: str, photometric: str, byteorder: str, compression: str | None) -> None:
    data = tiff(GREYS[kind], byteorder=byteorder, photometric=photometric, compression=compression)
    assert is_near(data, GREY_RGB if photometric == "minisblack" else 255 - GREY_RGB)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "f2", "f4", "f8"])
def test_colour_of_every_type(kind: str, planes: str, byteorder: str, compression: str | None) -> None:
    samples = NOISE / 255 if kind[0] == "f" else NOISE.astype(kind) << (8 * int(kind[1:]) - 8)
    samples = samples.astype(kind)
    if planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    assert is_near(tiff(samples, byteorder=byteorder, planarconfig=planes, compression=compression), NOISE)


def with_own_byte_order(samples: Array, *, byteorder: str, **options: Any) -> bytes:
    """Return a TIFF of a codec that writes samples in its own byte order; tifffile would give it those of the file."""
    data = tiff(samples, **options)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        parts = [data[at : at + count] for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    written = io.BytesIO()
    with tifffile.TiffWriter(written, byteorder=byteorder) as writer:  # type: ignore[arg-type]
        options = {"photometric": "rgb", "metadata": None} | options
        writer.write(iter(parts), shape=samples.shape, dtype=samples.dtype, **options)
    return written.getvalue()


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(
    ("compression", "kind"),
    [*(("jpeg2000", kind) for kind in ("u1", "i1", "u2", "i2", "i4")), ("png", "u2"), ("jpegxl", "u2"), ("webp", "u1")],
)
def test_codecs_with_a_byte_order_of_their_own(
    kind: str, compression: str, planes: str, byteorder: str, tile: tuple[int, int] | None
) -> None:
    if compression == "webp" and planes == "separate":
        pytest.skip("WebP has colours alone")
    samples = {
        "u1": NOISE,
        "i1": (NOISE.astype("i2") - 128).astype("i1"),
        "u2": NOISE.astype("u2") << 8,
        "i2": WIDE_NOISE,
        "i4": NOISE.astype("i4") * 1000 - 9000,
    }[kind]
    if planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    options = {"planarconfig": planes, "compression": compression, "tile": tile, "rowsperstrip": 16}
    assert is_near(with_own_byte_order(samples, byteorder=byteorder, **options), NOISE)


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_a_compression_that_pillow_does_not_know(planes: str, kind: str, preview: bool) -> None:
    samples = {"u1": NOISE, "u2": NOISE.astype("u2") << 8, "i2": WIDE_NOISE, "f4": (NOISE / 255).astype("f4")}[kind]
    if planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    assert is_near(tiff(samples, planarconfig=planes, compression="lerc", preview=preview), NOISE)


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_more_samples_than_colour_and_opacity_are_left_out(planes: str, kind: str, preview: bool) -> None:
    samples = np.dstack([NOISE, ALPHA, ALPHA]).astype(kind) << (8 * int(kind[1:]) - 8)
    if planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    extra = ["unspecified", "unspecified"]
    assert is_near(tiff(samples, planarconfig=planes, extrasamples=extra, preview=preview), NOISE)


def test_a_preview_before_the_samples_is_not_the_picture() -> None:
    preview = encoded(GREY_RGB, "JPEG")
    samples = np.dstack([NOISE, ALPHA, ALPHA]).astype("u2") << 8
    tag = (65000, 7, len(preview), preview, True)
    data = tiff(samples, extrasamples=["unspecified", "unspecified"], extratags=[tag])
    assert data.index(preview) < 1000
    assert is_near(data, NOISE)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_colour_of_fewer_bits_than_its_type(planes: str, bits: int) -> None:
    samples = NOISE.astype(np.uint16) << (bits - 8)
    if planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    assert np.array_equal(pixels(tiff(samples, planarconfig=planes)), NOISE)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_a_fourth_sample_is_opacity_only_if_the_file_says_so(extra: str, planes: str, kind: str) -> None:
    rgba = np.dstack([NOISE, ALPHA]) / 255
    if extra == "assocalpha":
        rgba[..., :3] *= rgba[..., 3:]
    samples = rgba.astype("f4") if kind == "f4" else np.rint(rgba * np.iinfo(kind).max).astype(kind)
    if planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    share = ALPHA[..., None] / 255
    expected = NOISE if extra == "unspecified" else NOISE * share + 255 * (1 - share)
    assert is_near(tiff(samples, planarconfig=planes, extrasamples=[extra]), expected, 3)


@pytest.mark.parametrize("width", [63, 64])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_twelve_bits_packed(byteorder: str, width: int) -> None:
    values = (GREY[:, :width].astype(np.uint16) << 4).reshape(-1)
    rows = []
    for row in values.reshape(48, width):
        bits = "".join(f"{value:012b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    packed = b"".join(rows)
    # A file of 8 bits with as many bytes, whose tags are then changed.
    data = bytearray(tiff(np.frombuffer(packed, np.uint8).reshape(48, -1), byteorder=byteorder, rowsperstrip=48))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        for name, value in (("ImageWidth", width), ("BitsPerSample", 12)):
            tag = tags[name]
            size = 2 if tag.dtype == 3 else 4
            order = "little" if byteorder == "<" else "big"
            data[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
    assert np.array_equal(pixels(bytes(data)), GREY_RGB[:, :width])


def test_a_palette_of_16_bits() -> None:
    colours = np.random.default_rng(3).integers(0, 65536, (3, 65536), np.uint16)
    indices = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    data = tiff(indices, photometric="palette", colormap=colours)
    assert np.array_equal(pixels(data), np.moveaxis(colours[:, indices] >> 8, 0, -1))


# What the file declares


def test_the_declared_greatest_value_counts() -> None:
    dark = (GREY.astype(np.uint16) << 4) // 3
    assert is_near(tiff(dark, extratags=[(341, 3, 1, 4095, True)]), dark[..., None] >> 4)
    assert is_near(tiff(dark, extratags=[(281, 3, 1, 4095, True)]), dark[..., None] >> 4)
    low = [(340, 3, 1, 0, True), (341, 3, 1, 65535, True)]
    assert is_near(tiff(GREY.astype(np.uint16) << 4, extratags=low), GREY_RGB)


@pytest.mark.parametrize("value", ["-9999", "-3.4028234663852886e+38", "nan"])
def test_gdals_value_for_nothing_counts(value: str) -> None:
    samples = (RAMP * 300 + 100).astype(np.float32)
    samples[:20] = float(value)
    found = pixels(tiff(samples, extratags=[(42113, 2, len(value) + 1, value, True)]))
    assert not found[:20].any()
    assert np.ptp(found[20:]) >= 250


def test_a_mask_of_two_classes_is_black_and_white() -> None:
    classes = (GREY > 99).astype(np.uint8)
    for data in (tiff(classes), encoded(classes), encoded(classes, "BMP"), tiff(classes.astype(np.uint16))):
        assert np.unique(pixels(data)).tolist() == [0, 255]


# Refused


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (RAMP.astype(np.complex64), {}),
        (np.moveaxis((NOISE / 255).astype("f4"), -1, 0), {"photometric": "cielab", "planarconfig": "separate"}),
        ((np.dstack([NOISE, ALPHA]).astype("i2") - 9), {"photometric": "separated"}),
    ],
)
def test_a_layout_that_cannot_be_read_is_named(samples: Array, options: dict[str, Any]) -> None:
    assert reason(tiff(samples, **options)).startswith("TIFF of a kind that cannot be read (")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_files_that_tifffile_decodes_are_refused(kept: float, compression: str | None) -> None:
    samples = np.moveaxis(NOISE.astype(np.uint16) * 257, -1, 0)
    data = tiff(samples, planarconfig="separate", compression=compression, rowsperstrip=8)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        first, end = min(page.dataoffsets), max(page.dataoffsets) + page.databytecounts[-1]
    assert reason(data[: first + int((end - first) * kept)])


@pytest.mark.parametrize("compression", ["zlib", "lzw"])
def test_a_damaged_strip_is_refused(compression: str) -> None:
    samples = np.moveaxis(NOISE.astype(np.uint16) * 257, -1, 0)
    data = bytearray(tiff(samples, planarconfig="separate", compression=compression, rowsperstrip=16))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        at, count = page.dataoffsets[3], page.databytecounts[3]
    data[at + count // 2 : at + count] = bytes(count - count // 2)
    assert reason(bytes(data))


def test_a_codec_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(RAMP, compression="lzw")
    assert is_near(data, GREY_RGB)

    def missing(*arguments: object, **options: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(UnreadableImage, match="needs `pip install imagecodecs`") as caught:
        decode(data)
    assert caught.value.decoder == "imagecodecs"


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded() -> None:
    assert "more than the limit" in reason(tiff(RAMP), max_pixels=3000)
    seen: list[int] = []
    decode(tiff(RAMP), before_load=seen.append)
    assert seen == [48 * 64]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pages_that_tifffile_decodes_are_turned_upright(orientation: int) -> None:
    upright = {1: SMOOTH, 3: SMOOTH[::-1, ::-1], 6: np.rot90(SMOOTH, -1)}[orientation]
    samples = (SMOOTH / 255).astype("f4")
    picture = decode(tiff(samples, extratags=[(274, 3, 1, orientation, True)]), draft=Draft(64))
    assert (picture.width, picture.height) == upright.shape[1::-1]
    scaled = np.asarray(Image.fromarray(np.ascontiguousarray(upright)))
    assert np.abs(np.asarray(picture.image).astype(int) - scaled).max() <= 1


def test_the_other_decoder_is_loaded_for_tiffs_only() -> None:
    import subprocess

    code = "import io, sys; from PIL import Image; from imgindex.decoding.decode import decode; f = io.BytesIO();"
    code += "Image.new('RGB', (9, 9)).save(f, 'PNG'); decode(f.getvalue()); sys.exit('tifffile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
