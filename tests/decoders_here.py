"""Decodes in the process of the test: to start others would take longer than most tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imgindex.decoding import blank, perceptual_hash
from imgindex.decoding.decode import decode
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage, Done, Outcome, Task
from imgindex.decoding.transforms import draft, prepare
from imgindex.errors import UnreadableImage
from imgindex.sources.content import read_content


def decode_here(decoders: DecoderPool, data: bytes) -> DecodedImage:
    """Return the picture in a file's bytes, as a decoder process would."""
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


def work_here(decoders: DecoderPool, tasks: Sequence[Task]) -> list[Outcome]:
    """What `DecoderPool.work` does, in this process."""
    return [_outcome(decoders, task) for task in tasks]


def _outcome(decoders: DecoderPool, task: Task) -> Outcome:
    try:
        content = read_content(task.path) if task.path else None
        if content and task.sha256 not in (b"", content.sha256):
            return UnreadableImage("file changed while it was read", stage="read")
        picture = decode_here(decoders, content.data if content else task.data) if task.decode else None
        return Done(content and replace(content, data=b""), picture)
    except UnreadableImage as error:
        return error


class DecodersHere(DecoderPool):
    """Decodes in this process: to start others would take longer than most tests. tests/decoding has real ones."""

    def start(self) -> None:
        """Start nothing."""

    def work(self, tasks: Sequence[Task]) -> list[Outcome]:
        return work_here(self, tasks)
