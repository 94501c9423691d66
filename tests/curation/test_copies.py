"""Copies are proposed by vectors and hashes, and verified with their turn; blank ones by all their pixels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from collections_of import indexed, of_vectors
from grid_mean import GRID_RECIPE
from groups_of import only
from PIL import Image
from textures import encoded, textured, write

from imgindex import ImageIndex, Recipe
from imgindex.curation.candidates import Hashes, read_hashes
from imgindex.curation.copies import CopyFinder
from imgindex.curation.neighbours import StoredVectors
from imgindex.curation.rotations import Turn, turns
from imgindex.curation.thresholds import candidate_distance
from imgindex.curation.verification import Verifier
from imgindex.recipe import get_recipe

# A recipe for which the distance of copies is calibrated.
CALIBRATED = get_recipe()
BOTH = turns(rotations=True, flips=True)
NO_HASHES = Hashes({}, {}, ())


@contextmanager
def finding(
    index: ImageIndex, ways: Mapping[str, Turn], hashes: Hashes | None = None, recipe: Recipe = GRID_RECIPE
) -> Iterator[tuple[CopyFinder, Verifier]]:
    """A finder of the copies in an index, by the hashes of its images if no others are given."""
    store = index._store
    ids = np.array(list(store.catalogue.image_paths()), dtype=np.int64)
    with (
        store.reading(),
        Verifier(store, index._decoders, on_progress=lambda progress: None, wait=lambda: False) as verifier,
    ):
        if hashes is None:
            hashes = read_hashes(store, index._decoders, ids, on_progress=lambda progress: None, wait=lambda: False)
        yield CopyFinder(store, recipe, hashes, verifier, ways), verifier


def candidates(finder: CopyFinder, index: ImageIndex) -> list[tuple[int, int]]:
    ids = np.array(list(index._store.catalogue.image_paths()), dtype=np.int64)
    return finder.candidates(ids, StoredVectors(index._store.blocks(ids)), lambda progress: None)


def ids_of(index: ImageIndex) -> dict[str, int]:
    return {Path(path).stem: id for id, path in index._store.catalogue.image_paths().items()}


def pairs_of(names: Mapping[str, int], *pairs: str) -> list[tuple[int, int]]:
    """Pairs of ids, ascending, from `one other`."""
    return sorted(tuple(sorted(names[name] for name in pair.split())) for pair in pairs)


def test_hashes_propose_each_pair_once_and_turned_ones_on_request(gallery: ImageIndex) -> None:
    names = ids_of(gallery)
    upright = pairs_of(names, "red copy", "red larger", "copy larger")
    turned = pairs_of(names, *(f"{one} {way}" for one in ("red", "copy", "larger") for way in ("turned", "mirrored")))
    both = pairs_of(names, "turned mirrored")
    with finding(gallery, {}) as (finder, _):
        assert candidates(finder, gallery) == upright
    with finding(gallery, BOTH) as (finder, verifier):
        assert candidates(finder, gallery) == sorted(upright + turned + both)
        assert verifier.compared == 0


def test_near_vectors_are_proposed_where_a_distance_is_calibrated(tmp_path: Path) -> None:
    within = candidate_distance(CALIBRATED)
    assert within is not None
    vectors = np.zeros((34, 12), dtype=np.float32)
    vectors[:30, 0] = 5
    vectors[30, :2] = 5, 0.9 * within
    vectors[31, :2] = 5, -1.1 * within
    vectors[32, 0] = vectors[33, 0] = 9
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        # Thirty images with one vector do not hide the one that is near them.
        same = [(1, other) for other in range(2, 31)]
        with finding(index, {}, NO_HASHES, CALIBRATED) as (finder, _):
            assert candidates(finder, index) == sorted([*same, (1, 31), (33, 34)])
        with finding(index, {}, replace(NO_HASHES, blank={1: b"", 33: b""}), CALIBRATED) as (finder, _):
            assert candidates(finder, index) == sorted([*((2, other) for other in range(3, 31)), (2, 31)])
        with finding(index, {}, NO_HASHES, GRID_RECIPE) as (finder, _):
            assert candidates(finder, index) == []


def test_between_two_sets_each_pair_has_one_image_of_each(tmp_path: Path) -> None:
    vectors = np.zeros((8, 12), dtype=np.float32)
    vectors[:, 0] = [0, 0.01, 0.02, 5, 5.01, 9, 9.01, 9.02]
    a, b = np.array([1, 2, 4, 6, 7]), np.array([3, 5, 7, 8])
    # Only their hashes propose the first and the last.
    hashes = Hashes({id: np.array([7], dtype=np.uint64) for id in (1, 8)}, {}, ())
    by_vectors = {(1, 3), (2, 3), (4, 5), (6, 7), (6, 8), (7, 8)}
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        with finding(index, {}, hashes, CALIBRATED) as (finder, _):
            assert finder.between(a, b, 8, lambda progress: None) == sorted({*by_vectors, (1, 8)})
            assert finder.between(a, b, 1, lambda progress: None) == sorted({*by_vectors, (1, 8)} - {(6, 8)})
            assert (
                finder.between(a, b[:0], 8, lambda progress: None)
                == finder.between(a[:0], b, 8, lambda progress: None)
                == []
            )
        with finding(index, {}, replace(hashes, blank={3: b"", 6: b""}), CALIBRATED) as (finder, _):
            assert finder.between(a, b, 8, lambda progress: None) == [(1, 8), (4, 5), (7, 8)]


def test_each_pair_is_verified_with_the_turn_of_its_second_image(gallery: ImageIndex) -> None:
    names = ids_of(gallery)
    wanted = {
        ("red", "larger"): "",
        ("red", "turned"): "turned by 270°",
        ("larger", "mirrored"): "mirrored left to right",
        ("red", "other"): None,
        ("other", "turned"): None,
        ("red", "alone"): None,
    }
    pairs = [(names[a], names[b]) for a, b in wanted]
    with finding(gallery, BOTH) as (finder, verifier):
        assert finder.verify(pairs) == list(wanted.values())
        compared = verifier.compared
        assert compared >= len(pairs)
        # The other way round it is the same comparison, turned back.
        backwards = finder.verify([(b, a) for a, b in pairs])
        assert backwards == ["", "turned by 90°", "mirrored left to right", None, None, None]
        assert verifier.compared == compared
    with finding(gallery, BOTH) as (finder, verifier):
        assert finder.verify(pairs) == list(wanted.values())
        assert verifier.compared == 0
    with finding(gallery, {}) as (finder, _):
        assert finder.verify(pairs) == ["", None, None, None, None, None]
        assert finder.verify([]) == []


def test_a_part_of_a_picture_does_not_show_as_much(tmp_path: Path) -> None:
    whole = textured(1)
    write(tmp_path / "p/whole.png", whole)
    write(tmp_path / "p/compressed.png", encoded(whole, 80))
    write(tmp_path / "p/part.png", whole.crop((24, 18, 216, 162)))
    with indexed(tmp_path, tmp_path / "p") as index, finding(index, {}) as (finder, _):
        names = ids_of(index)
        pairs = pairs_of(names, "whole compressed", "whole part", "part compressed")
        assert finder.verify(pairs) == ["", "", ""]
        as_much = dict(zip(pairs, finder.show_as_much(pairs), strict=True))
        assert [pair for pair in pairs if as_much[pair]] == pairs_of(names, "whole compressed")


def blank_files(folder: Path) -> None:
    """Blank files: white and half transparent in several formats, and others that look like them."""
    white, half = Image.new("RGB", (60, 40), "white"), Image.new("RGBA", (60, 40), (9, 9, 9, 128))
    nearly = white.copy()
    nearly.putpixel((7, 9), (255, 255, 250))
    write(folder / "white.png", white)
    write(folder / "white as webp.webp", white, lossless=True)
    write(folder / "white as bmp.bmp", white)
    write(folder / "white grey.png", white.convert("L"))
    write(folder / "opaque.png", white.convert("RGBA"))
    write(folder / "half.png", half)
    write(folder / "half as webp.webp", half, lossless=True, exact=True)
    write(folder / "clear.png", Image.new("RGBA", (60, 40), (255, 255, 255, 0)))
    write(folder / "black drawing.png", Image.new("RGBA", (60, 40), (0, 0, 0, 255)))
    write(folder / "larger.png", white.resize((120, 80)))
    write(folder / "turned.png", white.resize((40, 60)))
    write(folder / "nearly.png", nearly)
    write(folder / "white 16 bits.png", Image.new("I;16", (60, 40), 65535))
    write(folder / "white 16 bits as tiff.tif", Image.new("I;16", (60, 40), 65535))


WHITE = {"white.png", "white as webp.webp", "white as bmp.bmp", "white grey.png", "opaque.png"}
HALF = {"half.png", "half as webp.webp"}


def test_blank_pictures_are_copies_only_if_all_pixels_and_their_opacity_agree(tmp_path: Path) -> None:
    blank_files(tmp_path / "p")
    with indexed(tmp_path) as index:
        assert index.add(tmp_path / "p").blank == 14
        found = index.duplicates(rotations=True)
        assert [{Path(one.path).name for one in group.images} for group in found.groups] == [WHITE, HALF]
        assert {one.how for group in found.groups for one in group.others} == {"copy"}
        assert found.compared > 0
        assert index.duplicates().compared == 0


def test_a_blank_file_that_changed_since_it_was_added_is_no_copy(tmp_path: Path) -> None:
    blank_files(tmp_path / "p")
    with indexed(tmp_path, tmp_path / "p") as index:
        write(tmp_path / "p/half.png", textured(1))
        found = index.duplicates()
    assert [{Path(one.path).name for one in group.images} for group in found.groups] == [WHITE]
    assert [(Path(one.path).name, "changed" in one.reason) for one in found.failures] == [("half.png", True)]


def test_blank_pictures_leak_if_all_pixels_agree(tmp_path: Path) -> None:
    blank_files(tmp_path / "p")
    with indexed(tmp_path, tmp_path / "p") as index:
        found = index.leak(tmp_path / "p/opaque.png", tmp_path / "p")
        assert {Path(one.b).name: one.how for one in found} == dict.fromkeys(WHITE - {"opaque.png"}, "copy")
        assert len(index.leak(tmp_path / "p/opaque.png", tmp_path / "p", n=2)) == 2
        assert not index.leak(tmp_path / "p/clear.png", tmp_path / "p")
        assert not index.leak(tmp_path / "p/white 16 bits.png", tmp_path / "p")


def test_blank_pictures_with_the_same_bytes_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "p/white.png", Image.new("RGB", (60, 40), "white"))
    shutil.copy(tmp_path / "p/white.png", tmp_path / "p/again.png")
    with indexed(tmp_path, tmp_path / "p") as index:
        assert only(index.duplicates().groups) == {"white.png": ("kept", ""), "again.png": ("same", "")}
