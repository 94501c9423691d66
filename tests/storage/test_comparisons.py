"""Hashes and comparisons are stored by content, and read back by the method that compared them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from catalogue_images import image, record

from imgindex import ImageIndex
from imgindex.storage import comparisons
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.comparisons import StoredHashes
from imgindex.storage.store import Store

GOLDEN = Path(__file__).parent / "golden"
ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


def put(catalogue: Catalogue, *contents: int) -> None:
    for number, content in enumerate(contents):
        record(catalogue, image(f"/home/ann/{number}.png", content), 1, number, 0)


def test_hashes_are_recorded_for_every_image_with_the_content(catalogue: Catalogue) -> None:
    put(catalogue, 1, 2, 1)
    unknown = StoredHashes(None, None)
    assert comparisons.hashes_by_image(catalogue) == {1: unknown, 2: unknown, 3: unknown}
    comparisons.record_hashes(catalogue, [(ONE, b"hashes", False), (THREE, b"of no image", True)])
    known = StoredHashes(b"hashes", 0)
    assert comparisons.hashes_by_image(catalogue) == {1: known, 2: unknown, 3: known}
    comparisons.record_hashes(catalogue, [(TWO, b"", True)])
    assert comparisons.hashes_by_image(catalogue)[2] == StoredHashes(b"", 1)


def test_missing_images_have_no_hashes(catalogue: Catalogue) -> None:
    put(catalogue, 1, 2)
    catalogue.set_present([1], False)
    assert list(comparisons.hashes_by_image(catalogue)) == [2]


def test_comparisons_are_read_back_by_content_turn_and_method(catalogue: Catalogue) -> None:
    results = {
        (ONE, TWO, ""): (False, 0.0),
        (ONE, TWO, "turned by 90°"): (True, 0.75),
        (ONE, THREE, ""): (True, 1.0),
    }
    comparisons.record_compared(catalogue, 5, ((key, *result) for key, result in results.items()))
    assert comparisons.compared(catalogue, 5) == results
    assert comparisons.compared(catalogue, 4) == comparisons.compared(catalogue, 6) == {}


def test_a_newer_method_replaces_the_comparison_of_an_older_one(catalogue: Catalogue) -> None:
    comparisons.record_compared(catalogue, 1, [((ONE, TWO, ""), True, 0.5), ((ONE, THREE, ""), True, 1.0)])
    comparisons.record_compared(catalogue, 2, [((ONE, TWO, ""), False, 0.0)])
    assert comparisons.compared(catalogue, 1) == {(ONE, THREE, ""): (True, 1.0)}
    assert comparisons.compared(catalogue, 2) == {(ONE, TWO, ""): (False, 0.0)}


def test_comparisons_of_contents_that_no_image_has_are_forgotten(catalogue: Catalogue) -> None:
    put(catalogue, 1, 2, 3)
    pairs = [(ONE, TWO, ""), (ONE, THREE, "turned by 180°"), (TWO, THREE, "")]
    comparisons.record_compared(catalogue, 1, ((pair, True, 1.0) for pair in pairs))
    # A missing image may come back, so that its comparisons are kept.
    catalogue.set_present([3], False)
    comparisons.forget_unused(catalogue)
    assert set(comparisons.compared(catalogue, 1)) == set(pairs)
    catalogue.forget([3])
    comparisons.forget_unused(catalogue)
    assert set(comparisons.compared(catalogue, 1)) == {(ONE, TWO, "")}


def test_a_catalogue_of_an_older_format_has_neither_and_is_left_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "v3/golden.imgindex", tmp_path / "old.imgindex")
    before = (tmp_path / "old.imgindex/catalogue.db").read_bytes()
    with contextlib.closing(Store(str(tmp_path / "old.imgindex"))) as store:
        hashes = comparisons.hashes_by_image(store.catalogue)
        assert list(hashes) == [one.id for one in store.catalogue.images()]
        assert set(hashes.values()) == {StoredHashes(None, None)}
        assert comparisons.compared(store.catalogue, 1) == {}
    assert (tmp_path / "old.imgindex/catalogue.db").read_bytes() == before


def test_compacting_forgets_the_comparisons_of_files_that_were_replaced(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    first, second, third = (bytes.fromhex(one.sha256) for one in list(index._store.catalogue.images())[:3])
    with index._store.writing() as writer, writer.catalogue.atomic():
        results = [((first, second, ""), False, 0.0), ((second, third, ""), False, 0.0)]
        comparisons.record_compared(writer.catalogue, 1, results)
    shutil.copy(index.paths()[1], index.paths()[0])
    index.add([folder])
    index.compact()
    assert set(comparisons.compared(index._store.catalogue, 1)) == {(second, third, "")}
