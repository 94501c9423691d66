"""Fuzzes decoding: bytes become a picture of the right shape, or a reason.

Guided by coverage it runs with atheris, which is not a dependency of the tests:

    pip install atheris && python tests/campaigns/fuzz_pictures.py build/fuzz -max_total_time=3600
"""

from __future__ import annotations

import contextlib
import functools
import io
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
from campaign import TESTS
from fetch_corpus import CACHE, files_below
from fuzz_bytes import Outcome, altered, tried
from PIL import Image

from imgindex.decoding.decode import decode
from imgindex.decoding.transforms import prepare
from imgindex.errors import UnreadableImage
from imgindex.recipe import RECIPES, Recipe

assert TESTS
MODES = ("RGB", "L", "RGBA", "P", "1", "LA", "CMYK", "I;16", "I", "F", "YCbCr")
VARIANTS = (
    ("JPEG", {"progressive": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    *(("TIFF", {"compression": way}) for way in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4")),
    ("WEBP", {"lossless": True}),
    ("JPEG2000", {"irreversible": True, "num_resolutions": 2}),
    ("PNG", {"transparency": 0, "dpi": (72, 72)}),
)
ANIMATED = ("GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF")
SEED_BYTES = 1 << 16
RECIPE_NAMES = ("vgg16-pool5", "article")


def seeds() -> list[bytes]:
    """Return small pictures in every format and mode that Pillow writes here, and small files of the corpora."""
    return [*dict.fromkeys([*drawn(), *_from_corpora()])]


@functools.cache
def drawn() -> tuple[bytes, ...]:
    """Return small pictures in every format and mode that Pillow writes here."""
    rough = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    pictures = {mode: Image.fromarray(rough).convert("L" if mode == "I;16" else mode) for mode in MODES}
    pictures["I;16"] = pictures["L"].convert("I").convert("I;16")
    pillow_heif.register_heif_opener()
    plans = [(format, mode, {}) for format in sorted(Image.SAVE) for mode in MODES]
    plans += [(format, mode, options) for format, options in VARIANTS for mode in ("RGB", "L", "1", "RGBA")]
    more = [pictures["RGB"], pictures["RGB"].rotate(90)]
    plans += [(format, "RGB", {"save_all": True, "append_images": more}) for format in ANIMATED]
    written = []
    for format, mode, options in plans:
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Raised by writers that cannot write that mode.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
                pictures[mode].save(out, format, **options)
                written.append(out.getvalue())
    return tuple(written)


def _from_corpora() -> list[bytes]:
    if not CACHE.is_dir():
        return []
    return [path.read_bytes() for path in files_below(CACHE) if 0 < path.stat().st_size <= SEED_BYTES]


class Pictures:
    """Cases of altered pictures."""

    def __init__(self, place: Path) -> None:
        del place
        self.drawn, self.seeds = drawn(), seeds()
        warnings.simplefilter("ignore")

    def case(self, dice: random.Random) -> list[Outcome]:
        """Try one altered picture; anything but a picture or a reason is a fault."""
        # Many files of the corpora are broken already.
        data = altered(dice.choice(dice.choice((self.drawn, self.seeds))), dice, self.seeds)
        recipe = RECIPES[dice.choice(RECIPE_NAMES)]
        return [tried("decode", lambda: attempt(data, recipe))]


def attempt(data: bytes, recipe: Recipe) -> str:
    """Decode and prepare; raise for anything but a picture of the right shape or a reason in one line."""
    try:
        picture = decode(data, alpha=recipe.alpha)
    except UnreadableImage as error:
        if not error.reason.strip() or len(error.reason.splitlines()) != 1:
            raise AssertionError(f"not a reason in one line: {error.reason!r}") from error
        return "no memory" if "not enough memory" in error.reason else "a reason"
    image = picture.image
    if image.mode != "RGB" or image.size != (picture.width, picture.height) or min(image.size) < 1:
        raise AssertionError(f"a picture in mode {image.mode} of {image.size}: {picture}")
    pixels = prepare(image, recipe)
    if pixels.shape != (recipe.side, recipe.side, 3) or pixels.dtype != np.uint8:
        raise AssertionError(f"pixels {pixels.shape} {pixels.dtype}")
    return "a picture"


def guided(folder: Path, options: list[str]) -> None:
    """Fuzz guided by coverage until libFuzzer's options end it; what it finds interesting stays in the folder."""
    import atheris

    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (folder / f"seed-{number}").write_bytes(data)
    warnings.simplefilter("ignore")

    def one(data: bytes) -> None:
        attempt(data, RECIPES["vgg16-pool5"])

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], str(folder), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    guided(Path(sys.argv[1]), sys.argv[2:])
