"""Decodes in the process of the test."""

from __future__ import annotations

from dataclasses import replace

from imgindex.decoding import blank, perceptual_hash
from imgindex.decoding.decode import decode
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage
from imgindex.decoding.transforms import draft, prepare


def decode_here(decoders: DecoderPool, data: bytes) -> DecodedImage:
    """What `DecoderPool.decode` does, without processes of their own: those would take longer than all the rest."""
    recipe = decoders._recipe
    picture = decode(data, alpha=recipe.alpha, draft=draft(recipe))
    decoded = DecodedImage(
        prepare(picture.image, recipe), picture.width, picture.height, picture.format, picture.is_transparent
    )
    if not decoders._hashes:
        return decoded
    if blank.is_blank(picture.image):
        return replace(decoded, hashes=blank.digest_of_file(data), blank=True)
    return replace(decoded, hashes=perceptual_hash.of_file(data, picture, alpha=recipe.alpha, draft=draft(recipe)))


class DecodersHere(DecoderPool):
    """Decodes in this process: to start others would take longer than most tests. tests/decoding has real ones."""

    def start(self) -> None:
        """Start nothing."""

    def decode(self, data: bytes) -> DecodedImage:
        return decode_here(self, data)
