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

from imgindex.decoding.decode import decode
from imgindex.errors import UnreadableImage

RAMP = (ROW * 64 + COLUMN) / (48 * 64 - 1)
GREY = np.rint(RAMP * 255).astype(np.uint8)
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)


def tiff(samples: Array, *, byteorder: Any = "<", **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"metadata": None, "photometric": "minisblack" if samples.ndim == 2 else "rgb"} | options
    with tifffile.TiffWriter(file, byteorder=byteorder) as writer:
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
    picture = decode(tiff(samples, extratags=[(274, 3, 1, orientation, True)]), draft_size=64)
    assert (picture.width, picture.height) == upright.shape[1::-1]
    scaled = np.asarray(Image.fromarray(np.ascontiguousarray(upright)))
    assert np.abs(np.asarray(picture.image).astype(int) - scaled).max() <= 1


def test_the_other_decoder_is_loaded_for_tiffs_only() -> None:
    import subprocess

    code = "import io, sys; from PIL import Image; from imgindex.decoding.decode import decode; f = io.BytesIO();"
    code += "Image.new('RGB', (9, 9)).save(f, 'PNG'); decode(f.getvalue()); sys.exit('tifffile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
