"""Decodes random TIFFs and PNGs, and compares the pixels with those written and with those that other decoders read.

Each case chooses the type and depth of samples, how they are laid out and compressed, the range that their values fill,
and what else the file holds. tifffile, imagecodecs and libvips (through pyvips, if it is installed) read it too. The
picture must have the same pixels, within the rounding to 8 bits, or be refused with a reason.

    python tests/campaigns/pixels.py --size full --out tests/campaigns/results/pixels.json
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from campaign import Figures, main
from PIL import Image

from imgindex.decoding.decode import decode
from imgindex.errors import UnreadableImage

CASES = {"ci": 500, "full": 5_000}
SHOWN = 20

KINDS = ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8")
# photometric interpretation, samples, extra samples
LAYOUTS = (
    ("minisblack", 1, ()),
    ("miniswhite", 1, ()),
    ("minisblack", 2, ("unspecified",)),
    ("minisblack", 2, ("unassalpha",)),
    ("rgb", 3, ()),
    ("rgb", 4, ("unassalpha",)),
    ("rgb", 4, ("assocalpha",)),
    ("rgb", 5, ("unspecified", "unspecified")),
    ("separated", 4, ()),
    ("palette", 1, ()),
)
COMPRESSIONS = (None, "lzw", "zlib", "packbits", "zstd", "lzma", "png", "jpeg2000", "webp", "jpegxl", "lerc")
# Compressions that write samples in a byte order of their own, whatever the file's is. tifffile gives them the samples
# in the file's order: those of JPEG 2000 would be swapped, and others refuse them.
OWN_BYTE_ORDER = {"jpeg2000", "png", "jpegxl"}
# Refused although some other program reads them: Pillow and tifffile cannot, or not all versions of them.
METADATA_OF_PNG = {
    b"tEXt": b"Comment\0" + b"x" * 100,
    b"zTXt": b"Comment\0\0" + zlib.compress(bytes(5_000_000)),
    b"iTXt": b"broken",
    b"iCCP": b"profile\0\0" + zlib.compress(bytes(3_000_000)),
    b"gAMA": b"\0",
    b"cHRM": b"\0\0",
    b"pHYs": b"\0",
    b"sRGB": b"",
    b"eXIf": b"broken",
    b"tIME": b"",
    b"prVt": b"anything",
}


@dataclass
class Case:
    """A file, the samples written into it, and the pixels that are expected of it, composed on white."""

    name: str
    data: bytes
    samples: np.ndarray
    expected: np.ndarray
    # What hot pixels and those without a value become is not compared.
    ignored: np.ndarray
    tolerance: float = 1.5
    options: dict[str, Any] = field(default_factory=dict)


def run(size: str, *, seed: int = 0, cases: int | None = None) -> Figures:
    """Decode so many cases; every difference stands in "lost"."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    lost = []
    for number in range(cases or CASES[size]):
        dice = random.Random(f"{seed}/{number}")
        case = tiff_case(dice) if dice.random() < 0.75 else png_case(dice)
        if case is None:
            outcomes["not written"] += 1
            continue
        outcomes["read by another decoder"] += read_elsewhere(case)
        try:
            found = np.asarray(decode(case.data, alpha="white").image).astype(int)
        except UnreadableImage as error:
            outcomes["refused"] += 1
            reasons[error.reason.partition("(")[0].strip()] += 1
            continue
        fault = difference(case, found)
        outcomes["equal" if fault is None else "different"] += 1
        if fault:
            lost.append(f"case {number}: {case.name}: {fault}")
    return {"outcomes": dict(outcomes), "reasons": dict(reasons.most_common(12)), "lost": lost[:SHOWN]}


def difference(case: Case, found: np.ndarray) -> str | None:
    """Return how the pixels found differ from those expected, or None."""
    if found.shape != case.expected.shape:
        return f"shape {found.shape} instead of {case.expected.shape}"
    off = np.abs(found - case.expected)
    off[case.ignored] = 0
    return f"up to {off.max():.0f} off" if off.max() > case.tolerance else None


def read_elsewhere(case: Case) -> bool:
    """Check that another decoder reads the samples that were meant to be written; return whether one could."""
    with contextlib.suppress(imagecodecs.DelayedImportError, ValueError, NotImplementedError):
        if case.data.startswith(b"\x89PNG"):
            read = imagecodecs.png_decode(case.data)
        else:
            with tifffile.TiffFile(io.BytesIO(case.data)) as file:
                page = max(file.pages, key=lambda page: page.imagewidth * page.imagelength)
                read = page.asarray()
            if page.planarconfig == 2 and page.samplesperpixel > 1:
                read = np.moveaxis(read, 0, -1)
        # libpng makes colours of palettes, and bytes of fewer bits.
        if read.shape == case.samples.shape and not (case.samples.max() < 16 and read.dtype == np.uint8):
            assert np.array_equal(read, case.samples, equal_nan=read.dtype.kind == "f"), case.name
        return True
    return False


# Values


def drawn(dice: random.Random, samples: int) -> np.ndarray:
    """Return smooth numbers from 0 to 1 with some noise, (height, width, samples), that fill that range."""
    height, width = dice.randrange(17, 90), dice.randrange(17, 90)
    row, column = np.mgrid[:height, :width]
    planes = []
    for _ in range(samples):
        wave = np.sin(row * dice.uniform(0.02, 0.2) + dice.random()) * np.cos(column * dice.uniform(0.02, 0.2))
        wave += np.random.default_rng(dice.randrange(2**32)).random((height, width)) * 0.1
        planes.append((wave - wave.min()) / np.ptp(wave))
    return np.stack(planes, axis=-1)


def values(dice: random.Random, kind: str, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return samples of a type made of shares of its range, the 8 bits expected of them, and the range's name."""
    if kind == "bool":
        return share > 0.5, (share > 0.5) * 255.0, "1 bit"
    if kind[0] == "u":
        most = 8 * int(kind[1:])
        bits = dice.choice([bits for bits in (8, 10, 12, 14, 16, 32) if bits <= most])
        made = np.floor(share * (2.0**bits - 1)).astype(kind)
        return made, np.floor(made / 2.0 ** (bits - 8)), f"{bits} of {most} bits"
    if kind == "i1":
        made = np.floor(share * 255 - 128).astype(kind)
        return made, made + 128.0, "signed"
    if kind[0] == "i":
        least, most = sorted(dice.sample(range(-30_000, 30_000), 2))
        most = max(most, least + 300)
        made = np.floor(least + share * (most - least)).astype(kind)
        if made.min() >= 0:
            made -= made.min() + 5
        return made, stretched(made), "signed"
    if dice.random() < 0.5:
        made = share.astype(kind)
        return made, np.rint(made.astype(float) * 255), "0 to 1"
    made = (share * dice.uniform(300, 30_000) - dice.choice([0, 20, 9000])).astype(kind)
    return made, stretched(made.astype(float)), "measured"


def stretched(numbers: np.ndarray) -> np.ndarray:
    low, high = float(numbers.min()), float(numbers.max())
    return np.rint((numbers - low) * 255.0 / (high - low))


# TIFF


def tiff_case(dice: random.Random) -> Case | None:
    """Return a TIFF with random samples in a random layout, or None if tifffile cannot write it."""
    kind = dice.choice(KINDS)
    photometric, count, extra = dice.choice(LAYOUTS if kind != "bool" else LAYOUTS[:2])
    if photometric == "palette" and kind not in {"u1", "u2"}:
        return None
    share = drawn(dice, count)
    if "assocalpha" in extra:
        share[..., :3] *= share[..., 3:]
    if count > 2 and kind[0] == "u":
        share[0, 0], share[0, 1] = 0, 1  # all channels have one range
    samples, eight, range_name = values(dice, kind, share)
    if extra and extra[0] != "unspecified" and not full_opacity(samples):
        return None
    options = written_options(dice, photometric, count, extra)
    if photometric == "palette":
        options["colormap"] = np.random.default_rng(1).integers(0, 65536, (3, 1 << (8 * int(kind[1:]))), np.uint16)
        samples = np.floor(share * (2.0 ** (8 * int(kind[1:])) - 1)).astype(kind)
    ignored, tags = np.zeros(share.shape[:2], bool), []
    if count == 1 and kind[0] in "if" and kind not in {"i1", "f2"}:
        samples, ignored, tags = with_odd_values(dice, samples)
    written = samples[..., 0] if count == 1 else samples
    if options.get("planarconfig") == "separate":
        written = np.moveaxis(written, -1, 0)
    if is_lost_by(options["compression"], samples):
        return None
    file, byte_order = io.BytesIO(), dice.choice("<>")
    try:
        with tifffile.TiffWriter(file, byteorder=byte_order, bigtiff=dice.random() < 0.2) as writer:
            if dice.random() < 0.3:
                writer.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1, metadata=None)
            data, known = written, {}
            if byte_order == ">" and options["compression"] in OWN_BYTE_ORDER:
                data, known = compressed(written, options), {"shape": written.shape, "dtype": written.dtype}
            writer.write(data, metadata=None, extratags=tags, **known, **options)
    except Exception:  # noqa: BLE001 - tifffile and its codecs raise anything for what they cannot write
        return None
    name = f"TIFF {kind} {range_name} {photometric} {extra} {options} {bool(tags)}"
    expected = colours(eight, photometric, extra, options, samples)
    shape = written if options.get("planarconfig") != "separate" else np.moveaxis(written, 0, -1)
    return Case(name, file.getvalue(), shape, expected, ignored, 3.0 if "assocalpha" in extra else 1.5)


def is_lost_by(compression: str | None, samples: np.ndarray) -> bool:
    """Whether a codec of imagecodecs does not write these samples as they are."""
    if compression == "jpeg2000":
        return samples.dtype.itemsize > 2
    return compression == "lerc" and bool(np.isnan(samples).any())


def compressed(samples: np.ndarray, options: dict[str, Any]) -> Iterator[bytes]:
    """Yield the strips or tiles of samples as a little-endian file has them."""
    file = io.BytesIO()
    tifffile.imwrite(file, samples, byteorder="<", metadata=None, **options)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[0]
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            yield file.getvalue()[start : start + count]


def written_options(dice: random.Random, photometric: str, count: int, extra: tuple[str, ...]) -> dict[str, Any]:
    compression = dice.choice(COMPRESSIONS[:6] if dice.random() < 0.9 else COMPRESSIONS)
    options: dict[str, Any] = {"photometric": photometric, "compression": compression}
    if compression in {"lzw", "zlib", "zstd", "lzma"} and dice.random() < 0.5:
        options["predictor"] = True
    if dice.random() < 0.3:
        options["tile"] = (dice.choice([16, 32]), dice.choice([16, 48]))
    else:
        options["rowsperstrip"] = dice.choice([1, 7, 1000])
    if count > 1:
        options["planarconfig"] = dice.choice(["contig", "separate"])
    if extra:
        options["extrasamples"] = extra
    return options


def full_opacity(samples: np.ndarray) -> bool:
    """Whether the type's own range is filled: opacity is a part of it."""
    if samples.dtype.kind == "u":
        return bool(samples[..., -1].max() > np.iinfo(samples.dtype).max * 0.9)
    return samples.dtype.kind == "f" and samples.min() >= 0 and samples.max() <= 1


def with_odd_values(dice: random.Random, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Put in a hot pixel, or values that stand for "nothing measured", declared or not, or none of these."""
    samples, odd = samples.copy(), np.zeros(samples.shape[:2], bool)
    way = dice.choice(["none", "hot", "NaN", "declared", "undeclared"])
    if way == "none" or (way == "NaN" and samples.dtype.kind != "f"):
        return samples, odd, []
    if way == "hot":
        odd[dice.randrange(2, len(odd)), 5] = True
    else:
        odd[3 : 3 + dice.randrange(1, 9)] = True
    least, most = float(samples.min()), float(samples.max())
    samples[0, 0], samples[0, 1] = least, most
    odd[0, :2] = True
    hidden = odd.copy()
    hidden[0, :2] = False
    far = 32767 if samples.dtype.itemsize == 2 else 1e6 * max(1.0, abs(most))
    void = {"hot": min(far, 2e9), "NaN": np.nan, "declared": -9999, "undeclared": -2e9}[way]
    if samples.dtype.itemsize == 2 and way in {"hot", "undeclared"}:
        return samples, odd | hidden, []
    if way == "declared" and least < -9999 < most:
        return samples, odd, []
    samples[hidden] = void
    tags = [(42113, 2, 6, "-9999", True)] if way == "declared" else []
    return samples, odd, tags


def colours(
    eight: np.ndarray, photometric: str, extra: tuple[str, ...], options: dict[str, Any], samples: np.ndarray
) -> np.ndarray:
    """Return the RGB that 8-bit samples stand for, on white."""
    if photometric == "palette":
        return np.moveaxis((options["colormap"] >> 8)[:, samples[..., 0]], 0, -1).astype(float)
    if photometric == "separated":
        inks = np.clip(eight, 0, 255).astype(np.uint8)
        if samples.dtype.kind == "u":
            inks = (samples >> (8 * samples.dtype.itemsize - 8)).astype(np.uint8)
        return np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")).astype(float)
    if photometric == "miniswhite":
        eight = 255 - eight
    colour = eight[..., :3] if photometric == "rgb" else np.repeat(eight[..., :1], 3, axis=2)
    if "assocalpha" in extra:
        return colour + 255 - eight[..., -1:]
    if "unassalpha" in extra:
        return (colour * eight[..., -1:] + 255 * (255 - eight[..., -1:])) / 255
    return colour


# PNG


def png_case(dice: random.Random) -> Case:
    """Return a PNG of random depth and colour type, with metadata that no pixel depends on, some of it damaged."""
    count, wide = dice.choice([1, 2, 3, 4]), dice.random() < 0.6
    share = drawn(dice, count)
    bits = dice.choice([10, 12, 14, 16]) if wide else 8
    samples = np.floor(share * (2.0**bits - 1)).astype("u2" if wide else "u1")
    if count in {2, 4}:
        samples[..., -1] = np.floor(share[..., -1] * (65535 if wide else 255))
    file = imagecodecs.png_encode(samples[..., 0] if count == 1 else samples)
    eight = np.floor(samples / 2.0 ** (bits - 8))
    if count in {2, 4}:
        eight[..., -1] = samples[..., -1] >> 8 if wide else samples[..., -1]
    extra = ("unassalpha",) if count in {2, 4} else ()
    if wide and dice.random() < 0.5:
        file = with_chunk(file, b"sBIT", bytes([bits] * count))
    chosen = dice.sample(sorted(METADATA_OF_PNG), dice.randrange(4))
    for kind in chosen:
        file = with_chunk(file, kind, METADATA_OF_PNG[kind], damaged=dice.random() < 0.5)
    expected = colours(eight, "rgb" if count > 2 else "minisblack", extra, {}, samples)
    name = f"PNG {count} × {bits} bits, {chosen}"
    return Case(name, file, samples[..., 0] if count == 1 else samples, expected, np.zeros(share.shape[:2], bool))


def with_chunk(png: bytes, kind: bytes, content: bytes, *, damaged: bool = False) -> bytes:
    """Put a chunk behind the header of a PNG, if damaged with a wrong checksum."""
    checksum = zlib.crc32(kind + content) ^ damaged
    return png[:33] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum) + png[33:]


if __name__ == "__main__":
    main("pixels", run)
