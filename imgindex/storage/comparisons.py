"""How perceptual hashes of images are stored, and which pairs of contents were compared by their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType

from imgindex.storage.catalogue import WITH_HASHES, Catalogue

# Two contents by their SHA-256, and how the second picture was turned before it was compared, "" for not at all.
Key = tuple[bytes, bytes, str]


@dataclass(frozen=True, slots=True)
class StoredHashes:
    """The hashes of an image, and whether it is blank, as in `DecodedImage`; None: not computed."""

    hashes: bytes | None
    blank: int | None


def hashes_by_image(catalogue: Catalogue) -> dict[int, StoredHashes]:
    """Return the hashes of every present image."""
    kinds = (int, (bytes, NoneType), (int, NoneType))
    rows = catalogue.connection.rows(kinds, f"select id, {catalogue.hash_columns} from images where present")
    return {id: StoredHashes(hashes, blank) for id, hashes, blank in rows}


def record_hashes(catalogue: Catalogue, hashes: Iterable[tuple[bytes, bytes, bool]]) -> None:
    """Record hashes and blankness by content (SHA-256, hashes, blank); the caller commits."""
    catalogue.connection.executemany(
        "update images set hashes = ?2, blank = ?3 where sha256 = ?1", ((a, b, int(blank)) for a, b, blank in hashes)
    )


def compared(catalogue: Catalogue, method: int) -> dict[Key, tuple[bool, float]]:
    """Return for each pair that was compared by a method whether both show the same picture, and the score."""
    if catalogue.version < WITH_HASHES:
        return {}
    rows = catalogue.connection.rows(
        (bytes, bytes, str, int, float),
        "select first, second, turned, copy, score from comparisons where method = ?",
        (method,),
    )
    return {(first, second, turned): (bool(copy), score) for first, second, turned, copy, score in rows}


def record_compared(catalogue: Catalogue, method: int, results: Iterable[tuple[Key, bool, float]]) -> None:
    """Record comparisons, each with its score; the caller commits."""
    catalogue.connection.executemany(
        "insert or replace into comparisons values (?, ?, ?, ?, ?, ?)",
        ((*key, method, int(copy), score) for key, copy, score in results),
    )


def forget_unused(catalogue: Catalogue) -> None:
    """Delete comparisons of contents that no image has any more; the caller commits."""
    known = "(select sha256 from images)"
    catalogue.connection.execute(f"delete from comparisons where first not in {known} or second not in {known}")
