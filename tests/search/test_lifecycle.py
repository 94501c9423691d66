"""The search index of a large collection: made unasked, never trusted blindly, answering as an exact search does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw

import imgindex.search.lifecycle
from imgindex import ImageIndex
from imgindex.errors import IndexDamaged, UsageError
from imgindex.search.exact import ExactSearch
from imgindex.search.faiss_ivf import IvfSearch
from imgindex.search.lifecycle import load_search
from imgindex.storage.segments import HEADER_SIZE

COUNT = 60


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(COUNT):
        draw(tmp_path / "p" / f"{number}.png", number)
    return tmp_path / "p"


@pytest.fixture
def large(index: ImageIndex, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """An index that is large because the limit is low."""
    monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", 40)
    monkeypatch.setattr(index._store.segments, "capacity", 25)
    index.add([pictures])
    return index


def reopened(index: ImageIndex) -> ImageIndex:
    again = ImageIndex.open(index.path, encoder=GridMean())
    return again


def file(index: ImageIndex) -> Path:
    """The search index, under the one of its two names that it has now."""
    folder = Path(index.path) / "search"
    return next(folder.glob("*.faiss"), folder / "vectors.faiss")


def kind(index: ImageIndex) -> type:
    return type(load_search(index._store))


def check_answers(index: ImageIndex, pictures: Path) -> None:
    """Every image finds what comparing all vectors finds."""
    paths, vectors = [Path(path).name for path in index.paths()], index.vectors()
    for position in range(0, len(paths), 7):
        distances = np.linalg.norm(vectors - vectors[position], axis=1)
        answer = index.similar(pictures / paths[position], n=5, include_self=True)
        np.testing.assert_allclose([match.distance for match in answer], np.sort(distances)[:5], atol=1e-6)
        for match in answer:
            assert match.distance == pytest.approx(distances[paths.index(Path(match.path).name)], abs=1e-6)


def test_a_small_collection_is_searched_exactly_and_has_no_search_index(index: ImageIndex, pictures: Path) -> None:
    index.add([pictures])
    assert kind(index) is ExactSearch
    assert not file(index).exists()
    assert index.status()["search"] is None


def test_a_large_collection_gets_a_search_index_with_metadata(large: ImageIndex, pictures: Path) -> None:
    assert kind(large) is IvfSearch
    metadata = large.status()["search"]
    assert (metadata["rows"], metadata["bytes"]) == (COUNT, file(large).stat().st_size)
    assert metadata["recall"] >= 0.99
    check_answers(large, pictures)
    assert large.verify(full=True).ok


def test_what_is_added_updated_and_removed_since_is_answered_at_once(large: ImageIndex, pictures: Path) -> None:
    before = file(large).read_bytes()
    draw(pictures / "new.png", (1, 2, 3))
    draw(pictures / "7.png", (250, 1, 1))
    (pictures / "8.png").unlink()
    large.add([pictures])
    large.remove([pictures / "9.png"])
    assert file(large).read_bytes() == before
    assert kind(large) is IvfSearch
    check_answers(large, pictures)
    (nearest, *_) = large.similar(draw(pictures.parent / "query.png", (250, 2, 1)), n=1)
    assert Path(nearest.path).name == "7.png"


def test_it_is_made_again_when_much_is_newer(large: ImageIndex, pictures: Path) -> None:
    for number in range(COUNT, COUNT + 20):
        draw(pictures / f"{number}.png", number)
    large.add([pictures])
    assert large.status()["search"]["rows"] == COUNT + 20
    check_answers(large, pictures)


@pytest.mark.parametrize("how", ["deleted", "folder deleted", "flipped", "short", "long", "another's", "a folder"])
def test_a_search_index_that_is_hurt_is_not_read_and_is_made_again_unasked(
    large: ImageIndex, pictures: Path, how: str
) -> None:
    sound = file(large).read_bytes()
    match how:
        case "deleted" | "a folder":
            file(large).unlink()
        case "folder deleted":
            file(large).unlink()
            file(large).parent.rmdir()
        case "flipped":
            file(large).write_bytes(sound[:500] + bytes([sound[500] ^ 1]) + sound[501:])
        case "short":
            file(large).write_bytes(sound[:-1])
        case "long":
            file(large).write_bytes(sound + b"\0")
        case "another's":
            file(large).write_bytes(bytes(reversed(sound)))
    if how == "a folder":
        file(large).mkdir()
    with reopened(large) as again:
        problems = [(problem.kind, problem.subject) for problem in again.verify(full=True).problems]
        assert problems == ([] if "deleted" in how else [("derived", "vectors.faiss")])
        assert kind(again) is ExactSearch
        check_answers(again, pictures)
        if how == "a folder":
            file(large).rmdir()
        again.add([pictures])
        assert kind(again) is IvfSearch
        check_answers(again, pictures)
        assert again.verify(full=True).ok


def test_an_index_with_invalid_metadata_is_not_used(large: ImageIndex, pictures: Path) -> None:
    for metadata in ("", "{}", "[1]", '{"factory": 1}', "null"):
        with large._store.writing() as writer, writer.catalogue.atomic():
            writer.catalogue.connection.execute("update derived set receipt = ?", (metadata,))
        assert kind(large) is ExactSearch
        assert large.status()["search"] in (None, {"bytes": file(large).stat().st_size}) or metadata == '{"factory": 1}'


def test_compaction_and_repair_make_it_again(large: ImageIndex, pictures: Path) -> None:
    large.remove([pictures / "9.png"])
    large.compact()
    assert large.status()["search"]["rows"] == COUNT - 1
    assert kind(large) is IvfSearch
    check_answers(large, pictures)
    file(large).write_bytes(b"")
    ImageIndex.repair(large.path, encoder=GridMean())
    with reopened(large) as again:
        assert kind(again) is IvfSearch


def test_the_target_recall_is_that_of_later_search_indexes_too(large: ImageIndex, pictures: Path) -> None:
    assert (large.status()["target_recall"], large.status()["search"]["target"]) == (0.99, 0.99)
    large.compact(target_recall=0.9)
    made = file(large)
    assert (large.status()["target_recall"], large.status()["search"]["target"]) == (0.9, 0.9)
    large.compact()
    assert file(large) == made, "made again for nothing"
    for number in range(COUNT, COUNT + 20):
        draw(pictures / f"{number}.png", number)
    large.add([pictures])
    assert (large.status()["search"]["rows"], large.status()["search"]["target"]) == (COUNT + 20, 0.9)
    check_answers(large, pictures)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan")])
def test_an_impossible_recall_is_refused_and_changes_nothing(large: ImageIndex, share: float) -> None:
    before = file(large).read_bytes()
    with pytest.raises(UsageError, match="recall"):
        large.compact(target_recall=share)
    assert file(large).read_bytes() == before
    assert large.status()["target_recall"] == 0.99


def test_a_stored_target_recall_that_is_not_a_number_is_damage(large: ImageIndex) -> None:
    with large._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.set_setting("target_recall", "much")
    with pytest.raises(IndexDamaged, match="target_recall"):
        large.status()


def test_it_goes_when_the_collection_is_small_again(large: ImageIndex, pictures: Path) -> None:
    for number in range(30):
        (pictures / f"{number}.png").unlink()
    large.add([pictures])
    assert kind(large) is ExactSearch
    assert not file(large).exists()
    assert large.status()["search"] is None
    check_answers(large, pictures)


@pytest.mark.parametrize("row", [3, 24])
def test_a_damaged_vector_that_the_search_index_proposes_is_an_error(
    large: ImageIndex, pictures: Path, row: int
) -> None:
    segment = Path(large._store.segments.path(1))
    data = bytearray(segment.read_bytes())
    data[HEADER_SIZE + row * 48 + 1] ^= 255
    segment.write_bytes(data)
    id = int(large._store.blocks()[0].ids[row])
    path = large._store.catalogue.image_paths([id])[id]
    with reopened(large) as again, pytest.raises(IndexDamaged, match=f"image {id} is damaged"):
        again.similar(draw(pictures.parent / "copy.png", int(Path(path).stem), size=(40, 40)), n=3)


def test_a_full_disk_loses_the_search_index_only(
    index: ImageIndex, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgindex.storage import derived

    def full(path: str, writer: object) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", 40)
    with monkeypatch.context() as patch:
        patch.setattr(derived, "write", full)
        with pytest.raises(OSError, match="No space left"):
            index.add([pictures])
    assert len(index) == COUNT
    assert kind(index) is ExactSearch
    index.add([pictures])
    assert kind(index) is IvfSearch
    assert GRID_RECIPE.dimension == index.status()["search"]["dimension"]


def test_a_search_is_made_once_and_again_after_a_commit(large: ImageIndex, pictures: Path) -> None:
    before = load_search(large._store)
    assert load_search(large._store) is before
    draw(pictures / "new.png", 999)
    large.add([pictures])
    after = load_search(large._store)
    assert after is not before
    assert load_search(large._store) is after
    check_answers(large, pictures)


def test_warm_answers_do_not_read_the_places_of_all_images(large: ImageIndex, pictures: Path) -> None:
    paths = large.paths()
    large.similar(paths[0])
    statements: list[str] = []
    large._store.catalogue.connection.set_trace_callback(statements.append)
    large.similar(paths[1])
    large.similar(paths[2], where=f"path = '{paths[3]}' or id < 9")
    assert statements
    of_all = ("count(", "where present order by")
    assert [one for one in statements if any(words in one for words in of_all)] == []
