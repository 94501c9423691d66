"""Pairs are compared once, by content, whichever image is first; files that cannot be read for it are failures."""

from __future__ import annotations

from pathlib import Path

import pytest
from collections_of import indexed
from groups_of import only
from pictures import draw
from textures import encoded, textured, write

import imgindex.curation.verification
from imgindex import ImageIndex
from imgindex.curation.same_picture import DIFFERENT, METHOD, Features, View
from imgindex.curation.verification import Pair, Verifier
from imgindex.errors import UnreadableImage
from imgindex.storage import comparisons


def verifier(index: ImageIndex) -> Verifier:
    return Verifier(index._store, index._decoders, on_progress=lambda progress: None, wait=lambda: False)


def ids_of(index: ImageIndex) -> dict[str, int]:
    return {Path(path).stem: id for id, path in index._store.catalogue.image_paths().items()}


def test_a_second_run_compares_nothing_again(gallery: ImageIndex) -> None:
    first = gallery.duplicates()
    assert first.compared > 0
    with ImageIndex.open(gallery.path) as again:
        second = again.duplicates()
    assert (second.groups, second.compared) == (first.groups, 0)


def test_a_pair_is_compared_once_whichever_image_is_first_and_however_its_content_is_named(gallery: ImageIndex) -> None:
    ids = ids_of(gallery)
    copies = [Pair(ids["red"], ids["larger"]), Pair(ids["larger"], ids["red"]), Pair(ids["larger"], ids["copy"])]
    with verifier(gallery) as first:
        assert first.are_copies([*copies, Pair(ids["red"], ids["other"])]) == [True, True, True, False]
        assert first.compared == 2
    stored = comparisons.compared(gallery._store.catalogue, METHOD)
    assert sorted(copy for copy, _ in stored.values()) == [False, True]
    with verifier(gallery) as second:
        assert second.are_copies([*reversed(copies), Pair(ids["other"], ids["copy"])]) == [True, True, True, False]
        assert second.compared == 0


def test_a_turned_pair_is_the_pair_turned_back_with_the_other_image_first(gallery: ImageIndex) -> None:
    ids = ids_of(gallery)
    with verifier(gallery) as first:
        assert first.are_copies([Pair(ids["red"], ids["turned"], "turned by 270°")]) == [True]
        assert first.are_copies([Pair(ids["turned"], ids["red"], "turned by 90°")]) == [True]
        assert first.compared == 1
        wrong = [Pair(ids["turned"], ids["red"], "turned by 270°"), Pair(ids["turned"], ids["red"])]
        assert first.are_copies(wrong) == [False, False]
        mirrored = Pair(ids["mirrored"], ids["red"], "mirrored left to right")
        assert first.are_copies([mirrored]) == [True]
        assert first.compared == 4


def test_results_of_another_method_are_not_used(gallery: ImageIndex) -> None:
    ids = ids_of(gallery)
    pair = Pair(ids["red"], ids["larger"])
    with verifier(gallery) as first:
        first.are_copies([pair])
    with gallery._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.connection.execute("update comparisons set method = ?, copy = 0", (METHOD + 1,))
    with verifier(gallery) as second:
        assert second.are_copies([pair]) == [True]
        assert second.compared == 1
    assert [copy for copy, _ in comparisons.compared(gallery._store.catalogue, METHOD).values()] == [True]


def test_an_index_that_cannot_be_written_to_still_answers(gallery: ImageIndex) -> None:
    with ImageIndex.open(gallery.path) as other, other._store.writing():
        assert len(only(gallery.duplicates().groups)) == 3
    assert gallery.duplicates().compared > 0


def test_a_locked_index_stays_as_it_was(gallery: ImageIndex) -> None:
    ids = ids_of(gallery)
    with ImageIndex.open(gallery.path) as other, other._store.writing(), verifier(gallery) as found:
        assert found.are_copies([Pair(ids["red"], ids["larger"])]) == [True]
    assert (found.compared, found.failures) == (1, {})
    assert comparisons.compared(gallery._store.catalogue, METHOD) == {}


def test_files_that_were_changed_since_are_failures(gallery: ImageIndex, tmp_path: Path) -> None:
    write(tmp_path / "p/larger.png", textured(9))
    found = gallery.duplicates()
    assert [Path(one.path).name for one in found.failures] == ["larger.png"]
    assert "larger.png" not in only(found.groups)


def test_an_image_that_cannot_be_read_again_is_a_failure_and_the_others_are_found(
    gallery: ImageIndex, tmp_path: Path
) -> None:
    (tmp_path / "p/turned.png").unlink()
    draw(tmp_path / "p/mirrored.png", (1, 2, 3), (40, 40))
    found = gallery.duplicates(rotations=True, flips=True)
    assert set(only(found.groups)) == {"larger.png", "red.png", "copy.png"}
    reasons = {Path(one.path).name: one.reason for one in found.failures}
    assert reasons.keys() == {"turned.png", "mirrored.png"}
    assert "imgindex add" in reasons["mirrored.png"]


def test_a_pair_that_could_not_be_read_is_compared_when_its_file_is_back(gallery: ImageIndex, tmp_path: Path) -> None:
    ids = ids_of(gallery)
    pair, file = Pair(ids["red"], ids["larger"]), tmp_path / "p/larger.png"
    before = file.read_bytes()
    # The picture is still a copy, but the catalogue has another content for it.
    write(file, encoded(textured(1, (96, 96)), 90))
    with verifier(gallery) as first:
        assert first.are_copies([pair]) == [False]
        (failure,) = first.failures.values()
        assert (failure.path, failure.stage) == (str(file), "read")
        with pytest.raises(UnreadableImage, match="changed since it was added"):
            first.view(ids["larger"])
    assert comparisons.compared(gallery._store.catalogue, METHOD) == {}
    file.write_bytes(before)
    with verifier(gallery) as second:
        assert second.are_copies([pair]) == [True]
        assert second.failures == {}


def test_a_picture_is_compared_at_its_own_size_or_shrunk(tmp_path: Path) -> None:
    write(tmp_path / "p/small.png", textured(1, (96, 60)))
    write(tmp_path / "p/large.png", textured(1, (96, 60)).resize((1200, 750)))
    with indexed(tmp_path, tmp_path / "p") as index, verifier(index) as found:
        ids = ids_of(index)
        found.load(ids.values())
        assert found.view(ids["small"]).pixels.shape == (60, 96, 3)
        assert found.view(ids["large"]).pixels.shape == (480, 768, 3)


def test_features_outlive_the_pictures_that_they_were_found_in(
    gallery: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ids_of(gallery)
    found, find = [], View._find_features

    def counting(view: View) -> Features:
        found.append(view)
        return find(view)

    monkeypatch.setattr(View, "_find_features", counting)
    with verifier(gallery) as before:
        before.load(ids.values())
        largest = max(before.view(id).bytes for id in ids.values())
    monkeypatch.setattr(imgindex.curation.verification, "VIEW_BYTES", 2 * largest)
    names = ("red", "other", "larger", "turned")
    pairs = [Pair(ids[a], ids[b]) for a in names for b in names if a < b and {a, b} != {"red", "larger"}]
    with verifier(gallery) as one:
        assert [one.are_copies([pair]) for pair in pairs] == [[False]] * 5
    assert len(found) == len(names)
    # Without them each pair finds those of both pictures again, and is judged equally.
    found.clear()
    monkeypatch.setattr(imgindex.curation.verification, "FEATURES_KEPT", 0)
    monkeypatch.setattr(imgindex.curation.verification, "VIEW_BYTES", 0)
    with verifier(gallery) as other:
        other.load(ids.values())
        assert [other._compare(pair)[1] for pair in pairs] == [DIFFERENT] * 5
    assert len(found) > len(names)
