"""Pairs that may be copies: by hashes and by vectors, against all pairs; and hashes that an index lacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from collections_of import indexed, of_vectors
from groups_of import only
from pictures import draw
from textures import textured, write

from imgindex import ImageIndex
from imgindex.curation.candidates import (
    MOST_BITS,
    NEAREST_HASHES,
    Hashes,
    near_hashes,
    near_vectors,
    read_hashes,
    sorted_pairs,
)
from imgindex.curation.rotations import ALL, Turn
from imgindex.storage.comparisons import hashes_by_image

GOLDEN = Path(__file__).parents[1] / "storage/golden"


def hashes_of(index: ImageIndex) -> Hashes:
    ids = np.array(list(index._store.catalogue.image_paths()), dtype=np.int64)
    return read_hashes(index._store, index._decoders, ids, on_progress=lambda progress: None, wait=lambda: False)


def forget_hashes(index: ImageIndex) -> None:
    with index._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.connection.execute("update images set hashes = null, blank = null")


def test_images_that_an_older_imgindex_added_get_their_hashes_now(gallery: ImageIndex) -> None:
    def hashes() -> list[bytes | None]:
        return [one.hashes for one in hashes_by_image(gallery._store.catalogue).values()]

    forget_hashes(gallery)
    assert set(hashes()) == {None}
    assert len(only(gallery.duplicates().groups)) == 3
    assert None not in hashes()


def test_hashes_that_are_computed_now_are_those_that_adding_computes(gallery: ImageIndex) -> None:
    added, stored = hashes_of(gallery), hashes_by_image(gallery._store.catalogue)
    (grey,) = (id for id, path in gallery._store.catalogue.image_paths().items() if path.endswith("alone.png"))
    assert (added.blank.keys(), added.failures, len(added.codes)) == ({grey}, (), 6)
    forget_hashes(gallery)
    for _ in ("computed", "read back"):
        found = hashes_of(gallery)
        assert (found.blank, found.failures, found.codes.keys()) == (added.blank, (), added.codes.keys())
        for id, codes in added.codes.items():
            np.testing.assert_array_equal(found.codes[id], codes)
    assert hashes_by_image(gallery._store.catalogue) == stored


def test_hashes_of_another_version_are_computed_again(gallery: ImageIndex) -> None:
    stored = hashes_by_image(gallery._store.catalogue)
    with gallery._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.connection.execute("update images set hashes = cast(x'00' || substr(hashes, 2) as blob)")
    assert len(hashes_of(gallery).codes) == 6
    assert hashes_by_image(gallery._store.catalogue) == stored


def test_blank_pictures_of_which_only_hashes_are_stored_get_digests_of_their_pixels(gallery: ImageIndex) -> None:
    stored, added = hashes_by_image(gallery._store.catalogue), hashes_of(gallery)
    with gallery._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.connection.execute("update images set hashes = x'01FFFFFFFFFFFFFFFF' where blank")
    assert hashes_of(gallery).blank == added.blank
    assert [len(digest) for digest in added.blank.values()] == [32]
    assert hashes_by_image(gallery._store.catalogue) == stored


def test_an_index_of_an_older_format_is_filled_in(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "v1", tmp_path / "golden")
    with ImageIndex.open(tmp_path / "golden/golden.imgindex") as index:
        found = hashes_of(index)
        paths = index._store.catalogue.image_paths()
        # Its pictures have one colour each, and the file of one is not there.
        (failure,) = found.failures
        assert (Path(failure.path).name, failure.stage) == ("caf\udce9.png", "read")
        assert (found.codes, set(found.blank)) == ({}, {id for id, path in paths.items() if path != failure.path})
        stored = hashes_by_image(index._store.catalogue)
        assert {id for id, one in stored.items() if one.blank} == set(found.blank)


def test_a_locked_index_gets_the_hashes_and_does_not_keep_them(gallery: ImageIndex) -> None:
    forget_hashes(gallery)
    with ImageIndex.open(gallery.path) as other, other._store.writing():
        assert len(hashes_of(gallery).codes) == 6
    assert {one.hashes for one in hashes_by_image(gallery._store.catalogue).values()} == {None}


def test_files_that_are_gone_or_were_changed_are_failures_without_hashes(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"p/{number}.png", textured(number, (96, 96)))
    with indexed(tmp_path, tmp_path / "p") as index:
        forget_hashes(index)
        (tmp_path / "p/0.png").unlink()
        draw(tmp_path / "p/1.png", (255, 255, 255))
        found = hashes_of(index)
        stored = {
            Path(path).name: hashes_by_image(index._store.catalogue)[id].hashes is not None
            for id, path in index._store.catalogue.image_paths().items()
        }
    assert (len(found.codes), found.blank) == (1, {})
    reasons = {Path(one.path).name: one.reason for one in found.failures}
    assert reasons.keys() == {"0.png", "1.png"}
    assert "imgindex add" in reasons["1.png"]
    assert stored == {"0.png": False, "1.png": False, "2.png": True}


def random_hashes(rng: np.random.Generator, first: int, count: int, centre: int) -> dict[int, np.ndarray]:
    """Ids from `first` up with one to three hashes each, which differ from `centre` in up to 12 random bits."""
    found = {}
    for id in range(first, first + count):
        codes = []
        for _ in range(rng.integers(1, 4)):
            flipped = rng.choice(64, rng.integers(0, 13), replace=False)
            codes.append(centre ^ sum(1 << int(bit) for bit in flipped))
        found[id] = np.array(codes, dtype=np.uint64)
    return found


def all_near(
    queries: dict[int, np.ndarray], among: dict[int, np.ndarray], turns: dict[str, Turn]
) -> list[tuple[int, int, str, int]]:
    """What `near_hashes` yields, by comparing everything."""
    found = []
    for name, turn in turns.items():
        for query, codes in queries.items():
            bits = {
                id: int(np.bitwise_count(turn.hashes(codes)[:, None] ^ others).min())
                for id, others in among.items()
                if id != query
            }
            near = sorted((one, id) for id, one in bits.items() if one <= MOST_BITS)
            found += [(query, id, name, one) for one, id in near[:NEAREST_HASHES]]
    return found


def test_near_hashes_are_the_nearest_of_each_query_and_turn() -> None:
    rng = np.random.default_rng(2)
    centres = [int(centre) for centre in rng.integers(0, 2**64, 3, dtype=np.uint64)]
    # More of the first centre than are proposed, and ids that have no order.
    queries = {
        id: codes
        for first, count, centre in zip((100, 0, 50), (60, 8, 8), centres, strict=True)
        for id, codes in random_hashes(rng, first, count, centre).items()
    }
    turned = {
        200 + number: turn.hashes(queries[number]) for number, turn in enumerate(ALL.values()) if number in queries
    }
    among = queries | turned
    found = list(near_hashes(queries, among, dict(ALL)))
    assert found == all_near(queries, among, dict(ALL))
    assert {name for _, _, name, _ in found} == set(ALL)
    assert len([query for query, _, name, _ in found if (query, name) == (100, "")]) == NEAREST_HASHES


def test_near_hashes_of_nothing_are_none() -> None:
    some = {1: np.array([7], dtype=np.uint64)}
    assert list(near_hashes({}, some, {"": Turn()})) == list(near_hashes(some, {}, {"": Turn()})) == []
    assert list(near_hashes(some, some, {"": Turn()})) == []


def test_near_vectors_are_the_nearest_within_the_distance(tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).uniform(0, 1, (40, 12)).astype(np.float32)
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(distances, np.inf)
    limit = float(np.median(np.sort(distances, axis=1)[:, 2]))
    only, among = np.arange(1, 21), np.arange(11, 41)
    progress = []
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        found = list(near_vectors(index._store, only, limit, n=3, on_progress=progress.append))
        between = list(near_vectors(index._store, only, limit, among=among, n=3))
    for pairs, others in ((found, only), (between, among)):
        wanted = {
            (int(a), int(b))
            for a in only
            for b in others[np.argsort(distances[a - 1, others - 1])[:3]]
            if distances[a - 1, b - 1] <= limit
        }
        assert {(a, b) for a, b, _ in pairs} == wanted
        assert len(pairs) == len(wanted) > 0
        for a, b, distance in pairs:
            np.testing.assert_allclose(distance, distances[a - 1, b - 1], rtol=1e-5)
    assert (progress[-1].done, progress[-1].total) == (20, 20)


def test_each_pair_is_named_once_the_smaller_id_first() -> None:
    assert sorted_pairs([(3, 1), (2, 2), (1, 3), (1, 2)]) == [(1, 2), (1, 3)]
