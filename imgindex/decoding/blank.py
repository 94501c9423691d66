"""Which pictures are blank, and a digest of all their pixels: nothing else distinguishes two of them."""

from __future__ import annotations

import hashlib

from PIL import Image, ImageFilter

from imgindex.decoding.decode import decode_as_stored

# A picture is blank if no channel differs by more than this anywhere, at the size that the network sees.
BLANK_RANGE = 20
# Without this, noise would make a blank scan of the network's own size look like a picture.
NOISY_RANGE = 60
# Stored in the place of perceptual hashes, whose first byte is a smaller number; increased as theirs is.
VERSION = 0x81
# Rows that are digested at once, so that memory does not grow with the picture.
ROWS = 256
# Pixels of each side that are looked at first.
SAMPLED = 16


def is_blank(picture: Image.Image) -> bool:
    """Return whether an RGB picture has one colour, or nearly so."""

    def widest(image: Image.Image) -> int:
        return max(high - low for low, high in image.getextrema())  # type: ignore[misc]

    # A few pixels show it of most pictures, in a fifth of the time.
    sample = picture.resize((SAMPLED, SAMPLED), Image.Resampling.NEAREST)
    if widest(sample) > NOISY_RANGE or widest(picture) > NOISY_RANGE:
        return False
    return widest(picture.filter(ImageFilter.BoxBlur(1))) <= BLANK_RANGE


def digest_of_file(data: bytes) -> bytes:
    """Return a byte with VERSION, then the SHA-256 of the size and of all pixels of a blank picture, with opacity.

    Only the byte for a file whose pixels cannot be compared: see `decode_as_stored`.
    """
    picture = decode_as_stored(data)
    if picture is None:
        return bytes([VERSION])
    digest = hashlib.sha256(f"{picture.width} × {picture.height}\n".encode())
    for top in range(0, picture.height, ROWS):
        rows = picture.crop((0, top, picture.width, min(top + ROWS, picture.height)))
        digest.update(rows.tobytes())
    return bytes([VERSION]) + digest.digest()


def parse(stored: bytes | None) -> bytes | None:
    """Return the digest that `digest_of_file` returned, empty where the pixels cannot be compared; else None."""
    if not stored or stored[0] != VERSION or len(stored) not in (1, 1 + hashlib.sha256().digest_size):
        return None
    return stored[1:]
