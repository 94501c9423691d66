"""Decoding: every mode, the pixels of OpenCV, upright, whole or refused, with the host program's settings kept."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin
from PIL import __version__ as pillow_version
from samples import ALPHA, NOISE, RNG, SMOOTH, TRUNCATED, Array, encoded, pixels, reason

from imgindex.decoding import decode as module
from imgindex.decoding.decode import decode
from imgindex.errors import UnreadableImage


def palette_with_alpha() -> Image.Image:
    image = Image.fromarray(NOISE).quantize(64)
    image.info["transparency"] = bytes(range(0, 256, 4))
    return image


def on_white(colour: Array, alpha: Array) -> Array:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


# What comes out


def test_a_picture_has_its_size_and_format_and_keeps_nothing_of_its_file() -> None:
    picture = decode(encoded(SMOOTH, "JPEG", exif=b"Exif\0\0" + bytes(1000), icc_profile=bytes(500)))
    assert (picture.width, picture.height, picture.format) == (64, 48, "JPEG")
    assert (picture.image.mode, picture.image.size, picture.image.info) == ("RGB", (64, 48), {})
    assert type(picture.image) is Image.Image


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "SGI", "QOI", "DDS"])
def test_lossless_formats_come_out_exactly(format: str) -> None:
    assert np.array_equal(pixels(encoded(NOISE, format)), NOISE)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_lossy_formats_come_out_nearly(format: str) -> None:
    assert np.abs(pixels(encoded(SMOOTH, format)).astype(int) - SMOOTH).mean() < 8


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_taken(format: str) -> None:
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    first = pixels(encoded(red, format, save_all=True, append_images=[blue, red]))
    assert np.abs(first.astype(int) - [255, 0, 0]).max() < 8


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_every_colour_space_comes_near_to_the_colours_it_was_made_from(mode: str) -> None:
    stored = Image.fromarray(SMOOTH).convert(mode)
    expected = stored.convert("RGB") if mode in {"1", "L", "P"} else Image.fromarray(SMOOTH)
    data = encoded(stored, "TIFF")
    if mode == "YCbCr" and int(pillow_version.split(".")[0]) < 13:
        pytest.skip("Pillow itself cannot read such a TIFF before version 13")
    assert np.abs(pixels(data).astype(int) - np.asarray(expected)).mean() < 8


def test_hsv_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(SMOOTH).convert("HSV")
    assert np.abs(np.asarray(module._plain_to_rgb(image, "white")[0]).astype(int) - SMOOTH).max() <= 8


def test_adobes_inverted_inks_come_out_right() -> None:
    found = pixels(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG"))
    assert np.abs(found.astype(int) - [0, 255, 255]).max() < 8


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey_keeps_its_high_byte(order: str) -> None:
    wide = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    mode = {"<": "I;16", ">": "I;16B"}[order]
    image = Image.frombytes(mode, (64, 48), wide.astype(order + "u2").tobytes())
    assert np.array_equal(pixels(encoded(image, "TIFF"))[..., 0], wide >> 8)
    assert np.array_equal(pixels(b"P5 64 48 65535\n" + wide.astype(">u2").tobytes())[..., 1], wide >> 8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 256, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 155]], np.int32), [0, 100, 255]),
        (np.array([[0, 50_000, 100_000]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0.2, 0.2, 0.2]], np.float32), [51, 51, 51]),
        (np.array([[-3, 0, 3]], np.float32), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.float32), [0, 0, 0]),
        (np.array([[0, np.nan, np.inf]], np.float32), [0, 0, 255]),
        (np.array([[np.nan, np.nan, np.nan]], np.float32), [0, 0, 0]),
        (np.array([[-3e38, 0, 3e38]], np.float32), [0, 128, 255]),
    ],
)
def test_wide_numbers_are_scaled_to_eight_bits(values: Array, expected: list[int]) -> None:
    assert pixels(encoded(values, "TIFF"))[0, :, 2].tolist() == expected


def fits(values: Array, bits: int, *cards: str) -> bytes:
    header = ["SIMPLE  = T", f"BITPIX  = {bits}", "NAXIS   = 2", f"NAXIS1  = {values.shape[1]}"]
    header += [f"NAXIS2  = {values.shape[0]}", *cards, "END"]
    text = "".join(card.ljust(80) for card in header).encode()
    body = values[::-1].tobytes()
    return text.ljust(-(-len(text) // 2880) * 2880) + body.ljust(-(-len(body) // 2880) * 2880, b"\0")


@pytest.mark.parametrize("offset", [0, 32768])
def test_fits_values_are_signed_and_have_an_offset(offset: int) -> None:
    values = (SMOOTH[..., 0].astype(np.int32) << 8) if offset else SMOOTH[..., 0].astype(np.int32) * 50 - 3000
    data = fits((values - offset).astype(">i2"), 16, f"BZERO   = {offset}")
    stretched = np.rint((values - values.min()) * 255.0 / (values.max() - values.min()))
    expected = values >> 8 if offset else stretched
    assert np.abs(pixels(data)[..., 0].astype(int) - expected).max() <= 1


def test_fits_floats_are_stretched_without_their_hot_pixels() -> None:
    values = (SMOOTH[..., 0] * 3.0 + 50).astype(">f4")
    expected = pixels(fits(values, -32))
    values[20, 20] = 1e9
    found = pixels(fits(values, -32)).copy()
    found[20, 20] = expected[20, 20]
    assert np.array_equal(found, expected)
    assert np.ptp(expected) == 255


@pytest.mark.parametrize(("most", "bits"), [(1023, 10), (4095, 12), (65535, 16)])
def test_the_greatest_value_that_a_pgm_declares_counts(most: int, bits: int) -> None:
    dark = SMOOTH[..., 0].astype(np.uint16) * (most // 255) // 3
    if most == 65535:
        dark = dark * 3
    data = b"P5 64 48 %d\n" % most + dark.astype(">u2").tobytes()
    assert np.abs(pixels(data)[..., 0].astype(int) - (dark >> (bits - 8))).max() <= 1


# Transparency


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composed_on_white(format: str) -> None:
    data = encoded(np.dstack([NOISE, ALPHA]), format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    assert np.abs(pixels(data) - on_white(NOISE, ALPHA)).max() <= 1
    assert np.array_equal(pixels(data, alpha="drop"), NOISE)


def test_grey_with_alpha_is_composed_on_white() -> None:
    data = encoded(np.dstack([NOISE[..., 0], ALPHA]))
    assert Image.open(io.BytesIO(data)).mode == "LA"
    grey = np.repeat(NOISE[..., :1], 3, axis=2)
    assert np.abs(pixels(data) - on_white(grey, ALPHA)).max() <= 1
    assert np.array_equal(pixels(data, alpha="drop"), grey)


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa"])
def test_rare_modes_with_alpha_are_composed_and_dropped(mode: str) -> None:
    rgba = np.dstack([SMOOTH, np.full((48, 64), 200, np.uint8)])
    straight = Image.fromarray(rgba).convert({"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}[mode])
    image = straight.convert(mode)
    colour = np.asarray(straight.convert("RGB"))
    # A palette of 256 colours is not exact; the others only round.
    near = 40 if mode == "PA" else 2
    white = np.asarray(module._plain_to_rgb(image.copy(), "white")[0]).astype(int)
    drop = np.asarray(module._plain_to_rgb(image.copy(), "drop")[0]).astype(int)
    assert np.abs(white - on_white(colour, rgba[..., 3])).max() <= near
    assert np.abs(drop - colour).max() <= near


def test_a_transparent_palette_is_composed_on_white() -> None:
    image = palette_with_alpha()
    data = encoded(image)
    alpha = np.frombuffer(image.info["transparency"], np.uint8)[np.asarray(image)]
    colour = np.asarray(image.convert("RGBA").convert("RGB"))
    assert np.abs(pixels(data) - on_white(colour, alpha)).max() <= 1
    assert np.array_equal(pixels(data, alpha="drop"), colour)


def test_a_transparent_gif_is_white_where_nothing_is_drawn() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    data = encoded(image, "GIF", transparency=0)
    assert pixels(data).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    assert pixels(data, alpha="drop").tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("image", "key", "grey"),
    [
        (np.array([[5, 9]], np.uint8), 5, 9),
        (np.array([[5 * 257, 200 * 257]], np.uint16), 5 * 257, 200),
        (np.array([[[5, 5, 5], [9, 9, 9]]], np.uint8), (5, 5, 5), 9),
    ],
)
def test_a_key_colour_becomes_white(image: Array, key: Any, grey: int) -> None:
    data = encoded(image, transparency=key)
    assert pixels(data)[0].tolist() == [[255] * 3, [grey] * 3]
    assert pixels(data, alpha="drop")[0].tolist() == [[5] * 3, [grey] * 3]


def test_a_key_colour_of_sixteen_bits_becomes_white() -> None:
    wide = np.array([[[0x1234] * 3, [0x5678] * 3]], np.uint16)
    ok, plain = cv2.imencode(".png", wide)
    assert ok
    data = plain.tobytes()
    key = b"tRNS" + struct.pack(">HHH", 0x1234, 0x1234, 0x1234)
    data = data[:33] + struct.pack(">I", 6) + key + struct.pack(">I", zlib.crc32(key)) + data[33:]
    assert pixels(data)[0].tolist() == [[255] * 3, [0x56] * 3]


# The same as OpenCV


def opencv_cases() -> dict[str, bytes]:
    wide = RNG.integers(0, 65536, (48, 64, 3)).astype(np.uint16)
    inks = Image.frombytes("CMYK", (64, 48), np.dstack([NOISE, ALPHA]).tobytes())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return {
        "RGB PNG": encoded(NOISE),
        "RGBA PNG": encoded(np.dstack([NOISE, ALPHA])),
        "palette PNG": encoded(Image.fromarray(NOISE).quantize(16)),
        "palette PNG with transparency": encoded(palette_with_alpha()),
        "grey PNG": encoded(NOISE[..., 0]),
        "black and white PNG": encoded(Image.fromarray(NOISE).convert("1")),
        "grey PNG with alpha": encoded(np.dstack([NOISE[..., 0], ALPHA])),
        "grey PNG with a key colour": encoded(NOISE[..., 0], transparency=5),
        "16-bit grey PNG": encoded(wide[..., 0]),
        "16-bit RGB PNG": cv2.imencode(".png", wide)[1].tobytes(),
        "16-bit RGBA PNG": cv2.imencode(".png", np.dstack([wide, wide[..., 0]]))[1].tobytes(),
        "JPEG 4:4:4": encoded(NOISE, "JPEG", subsampling=0, quality=95),
        "JPEG 4:2:0": encoded(SMOOTH, "JPEG", subsampling=2),
        "progressive JPEG": encoded(SMOOTH, "JPEG", progressive=True),
        "grey JPEG": encoded(NOISE[..., 0], "JPEG"),
        "rotated JPEG": encoded(SMOOTH, "JPEG", exif=exif),
        "CMYK JPEG": encoded(inks, "JPEG", quality=95),
        "BMP": encoded(NOISE, "BMP"),
        "lossless WebP with alpha": encoded(np.dstack([NOISE, ALPHA]), "WEBP", lossless=True, exact=True),
    }


@pytest.mark.parametrize("name", opencv_cases())
def test_dropping_alpha_gives_what_opencv_gives(name: str) -> None:
    data = opencv_cases()[name]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(pixels(data, alpha="drop"), expected)


# Upright


@pytest.mark.parametrize("alpha", ["white", "drop"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int, format: str, alpha: str) -> None:
    upright = np.repeat(np.repeat(RNG.integers(0, 2, (3, 4, 1)), 16, 0), 16, 1).astype(np.uint8) * np.uint8(255)
    upright = np.repeat(upright, 3, axis=2)
    # How a camera stores the upright picture, by the standard's "row 0 is the visual ..., column 0 the visual ...".
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    picture = decode(encoded(np.ascontiguousarray(stored), format, exif=exif, **options), alpha=alpha)  # type: ignore[arg-type]
    assert (picture.width, picture.height) == (64, 48)
    assert np.abs(np.asarray(picture.image).astype(int) - upright).max() < 30


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", bytes(9)])
def test_broken_exif_means_no_rotation(exif: bytes) -> None:
    assert decode(encoded(SMOOTH, "JPEG", exif=exif)).width == 64


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_means_no_rotation(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    assert decode(encoded(SMOOTH, "JPEG", exif=exif)).width == 64


# Broken files


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_file_is_refused(name: str, kept: float) -> None:
    whole = TRUNCATED[name]
    assert decode(whole)
    reason(whole[: int(len(whole) * kept)])


def strips_after_their_directory() -> tuple[bytes, int]:
    """A compressed TIFF as scanners write it, with its directory first, and where its strips begin."""
    source = encoded(NOISE, "TIFF", compression="tiff_lzw", tiffinfo={TiffImagePlugin.ROWSPERSTRIP: 8})
    with Image.open(io.BytesIO(source)) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        strips = [source[at : at + n] for at, n in zip(tags[273], tags[279], strict=True)]
    count = len(strips)
    fields = [(256, 4, [64]), (257, 4, [48]), (258, 3, [8, 8, 8]), (259, 3, [5]), (262, 3, [2]), (273, 4, [0] * count)]
    fields += [(277, 3, [3]), (278, 4, [8]), (279, 4, [len(strip) for strip in strips])]
    extra = 8 + 2 + 12 * len(fields) + 4
    begin = extra + 6 + 8 * count
    fields[5] = (273, 4, [begin + sum(len(strip) for strip in strips[:i]) for i in range(count)])
    directory, values = struct.pack("<H", len(fields)), b""
    for tag, kind, numbers in fields:
        raw = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        directory += struct.pack("<HHI", tag, kind, len(numbers))
        directory += raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", extra + len(values))
        values += raw if len(raw) > 4 else b""
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + values + b"".join(strips), begin


def test_a_tiff_whose_directory_comes_first_is_refused_when_truncated() -> None:
    data, begin = strips_after_their_directory()
    assert np.array_equal(pixels(data), NOISE)
    for kept in (begin, (begin + len(data)) // 2, len(data) - 5):
        assert reason(data[:kept])


def test_truncated_files_are_refused_even_if_the_host_program_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for name in ("JPEG", "PNG", "GIF", "BMP"):
        assert reason(TRUNCATED[name][: len(TRUNCATED[name]) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello world\n" * 50, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM"]
)
def test_data_that_is_not_an_image_is_refused_with_a_reason(data: bytes) -> None:
    assert reason(data) == "not an image that Pillow can read"


def test_postscript_is_never_run() -> None:
    assert (
        reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
        == "not an image that Pillow can read"
    )


@pytest.mark.parametrize(
    "error",
    [ValueError("x\ny"), TypeError(), MemoryError(), RecursionError("deep"), zlib.error("<A at 0x7f>"), KeyError(3)],
)
def test_any_exception_of_a_decoder_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    text = reason(encoded(NOISE, "BMP"))
    assert text
    assert "\n" not in text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_passes_through(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Image.Image) -> None:
        raise error

    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(ImageFile.ImageFile, "load", stop)
    with pytest.raises(error):
        decode(encoded(NOISE, "BMP"))
    assert limit == Image.MAX_IMAGE_PIXELS


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(TRUNCATED)), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6))
def test_no_damage_raises_anything_else(name: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(TRUNCATED[name])
    for at, byte in damage:
        data[at % len(data)] = byte
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(UnreadableImage):
            decode(bytes(data), max_pixels=10**6)


# Too large, or made to keep us busy


def test_the_pixel_limit_is_checked_before_anything_is_decoded() -> None:
    header = b"P6 70000 70000 255\n"
    assert reason(header) == "more pixels than the limit"
    assert reason(b"P6 20000 20000 255\n", max_pixels=300_000_000) in {
        "20000 × 20000 pixels, more than the limit of 300,000,000",
        "more pixels than the limit",
    }
    assert reason(encoded(NOISE), max_pixels=64 * 48 - 1)
    assert decode(encoded(NOISE), max_pixels=64 * 48)


@pytest.mark.parametrize("theirs", [89_478_485, 1000, None])
def test_two_hundred_megapixels_are_fine_and_the_hosts_limit_stays(
    theirs: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", theirs)
    seen = []

    def no_load(self: ImageFile.ImageFile) -> None:
        seen.append((self.size, Image.MAX_IMAGE_PIXELS))
        raise ValueError("far enough")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_load)
    assert "far enough" in reason(b"P6 16000 12500 255\n")
    assert seen == [((16000, 12500), module.MAX_PIXELS)]
    assert theirs == Image.MAX_IMAGE_PIXELS


def test_a_small_icon_cannot_hide_a_large_picture() -> None:
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "ICO", sizes=[(64, 64)]))
    at = data.find(b"IHDR")
    data[at + 4 : at + 12] = struct.pack(">II", 60000, 60000)
    data[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(data[at : at + 17]))
    assert reason(bytes(data)) == "more pixels than the limit"


def test_threads_decode_side_by_side_and_leave_the_hosts_settings() -> None:
    cases = opencv_cases()
    limit = Image.MAX_IMAGE_PIXELS
    alone = {name: pixels(data) for name, data in cases.items()}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(pixels, list(cases.values()) * 5))
    for name, found in zip(list(cases) * 5, together, strict=True):
        assert np.array_equal(found, alone[name])
    assert (limit, False) == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
