"""The file of averaged vectors: made when it is needed, never trusted blindly, and always that of the images now."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from collections_of import of_vectors
from decoders_here import DecodersHere
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw
from smoothing_reference import all_averaged, averaged, nearest_others

import imgindex.search.lifecycle
from imgindex import ImageIndex, Mix
from imgindex.errors import IndexDamaged, UsageError
from imgindex.search.lifecycle import load_search, search_name
from imgindex.search.smoothed import NAMES, QueryAverages, SmoothedMetadata, smoothed_rows, vector_rows
from imgindex.search.upkeep import prepare_smoothing, update_search_files
from imgindex.storage import derived
from imgindex.storage.segments import HEADER_SIZE

COUNT = 40


def draw_numbered(folder: Path, numbers: range) -> None:
    """Plain pictures of colours that are near to each other in heaps."""
    for number in numbers:
        rng = np.random.default_rng(number)
        colour = np.array([(200, 40, 40), (40, 200, 40), (90, 90, 90)][number % 3]) + rng.integers(-40, 40, 3)
        draw(folder / f"{number}.png", (int(colour[0]), int(colour[1]), int(colour[2])))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "p"
    draw_numbered(folder, range(COUNT))
    return folder


@pytest.fixture(scope="module")
def made(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each type of stored numbers an index beside its pictures; it moves with its folder."""
    found = {}
    for store in ("fp32", "fp16"):
        folder = tmp_path_factory.mktemp(store)
        pictures, found[store] = folder / "p", folder / "it.imgindex"
        shutil.copytree(drawn, pictures)
        with ImageIndex.create(found[store], encoder=Normed(), store=store) as index:
            prepare(index)
            index.add([pictures])
            index.similar(pictures / "0.png", rerank=True)
    return found


@pytest.fixture
def pictures(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "p"))


@pytest.fixture(params=["fp32", "fp16"])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, pictures: Path, made: dict[str, Path]
) -> Iterator[ImageIndex]:
    """An index whose vectors have length 1, in several segments, with its averages kept."""
    shutil.copytree(made[request.param], tmp_path / "it.imgindex")
    with ImageIndex.open(tmp_path / "it.imgindex", encoder=Normed()) as index:
        prepare(index)
        yield index


def prepare(index: ImageIndex) -> None:
    index._decoders = DecodersHere(index.recipe)
    index._store.segments.capacity = 15


class Normed(GridMean):
    norm = "l2"

    def encode(self, batch: np.ndarray) -> np.ndarray:
        vectors = super().encode(batch) - np.float32(0.3)
        lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / lengths


def reopened(index: ImageIndex) -> ImageIndex:
    again = ImageIndex.open(index.path, encoder=Normed())
    again._decoders = DecodersHere(again.recipe)
    return again


def file(index: ImageIndex) -> Path:
    """The file, under the one of its two names that it has now."""
    folder = Path(index.path) / "search"
    return next(folder.glob("*.rows"), folder / NAMES[0])


def expected(index: ImageIndex) -> np.ndarray:
    return all_averaged(index.vectors(), index.ids(), unit=index.recipe.norm == "l2")


def check(index: ImageIndex, pictures: Path) -> None:
    """Averages are those of the images now, and answers are those among them."""
    averages, ids = expected(index), index.ids()
    index.similar(index.paths()[0], rerank=True)  # keeps them, if that is possible
    half = index._store.segments.dtype == np.float16
    tolerance = 1e-3 if half else 1e-6
    rows = smoothed_rows(index._store)
    assert rows.known.ids.tolist() == ids.tolist()
    np.testing.assert_allclose(rows.vectors, averages, atol=tolerance)
    names = [Path(path).name for path in index.paths()]
    for place in range(0, len(ids), 9):
        distances = np.sort(np.linalg.norm(averages - averages[place], axis=1))
        matches = index.similar(pictures / names[place], n=5, include_self=True, rerank=True)
        np.testing.assert_allclose([match.distance for match in matches], distances[: len(matches)], atol=2 * tolerance)
        assert len(matches) == min(5, len(ids))


def made_from_nothing(index: ImageIndex) -> bytes:
    """The bytes of a file that is made without an older one."""
    with reopened(index) as again:
        with again._store.writing() as writer:
            derived.forget(writer.catalogue, NAMES)
            update_search_files(again._store, writer, smooth=True)
        return file(again).read_bytes()


def test_an_index_has_no_averages_until_they_are_asked_for(index: ImageIndex, pictures: Path) -> None:
    index.add([pictures])
    index.similar(pictures / "0.png")
    index.cluster(2)
    assert not file(index).exists()
    assert index.status()["smoothed"] is None
    index.cluster(2, smooth=True)
    assert file(index).name == NAMES[0]
    check(index, pictures)


def test_averages_are_kept_read_again_and_shown_by_status(stored: ImageIndex, pictures: Path) -> None:
    check(stored, pictures)
    before = file(stored).stat()
    with reopened(stored) as again:
        check(again, pictures)
        status = again.status()["smoothed"]
        assert (status["rows"], status["bytes"], status["search"]) == (COUNT, before.st_size, "exact")
        assert (status["newer"], status["gone"], status["neighbours"]) == (0, 0, 8)
        assert again.verify(full=True).ok
    assert (file(stored).stat().st_ino, file(stored).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert file(stored).read_bytes() == made_from_nothing(stored)


@pytest.mark.parametrize("norm", ["l2", "none"])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 9, 10])
def test_small_indexes_have_averages_of_the_neighbours_that_there_are(tmp_path: Path, count: int, norm: str) -> None:
    vectors = np.random.default_rng(count).standard_normal((count, 12)).astype(np.float32)
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        index._store.recipe_json = replace(GRID_RECIPE, norm=norm).to_json()
        query = draw(tmp_path / "new" / "query.png", (9, 99, 199))
        (answer,) = index.answers([query], n=count + 3, rerank=True)
        assert (answer.failure, len(answer.matches), answer.reranked) == (None, count, True)
        unit = norm == "l2"
        np.testing.assert_allclose(
            smoothed_rows(index._store).vectors, all_averaged(vectors, index.ids(), unit=unit), atol=1e-6
        )
        assert file(index).exists() == (count > 0)


@pytest.mark.parametrize("kind", ["added", "updated", "missing", "removed", "restored", "all at once", "compacted"])
def test_after_changes_the_file_is_byte_for_byte_the_one_made_from_nothing(
    stored: ImageIndex, pictures: Path, kind: str
) -> None:
    away = pictures.parent / "away.png"
    if kind in ("restored", "all at once"):
        os.rename(pictures / "12.png", away)
        stored.add([pictures])
        os.rename(away, pictures / "12.png")
    if kind in ("added", "all at once"):
        draw_numbered(pictures, range(COUNT, COUNT + 7))
    if kind in ("updated", "all at once"):
        draw(pictures / "3.png", (201, 41, 44))
    if kind in ("missing", "all at once"):
        (pictures / "4.png").unlink()
    if kind in ("removed", "all at once", "compacted"):
        stored.remove([pictures / "5.png"])
        (pictures / "5.png").unlink()
    if kind == "compacted":
        stored.compact()
    else:
        stored.add([pictures])
    status = stored.status()["smoothed"]
    assert (status["rows"], status["newer"], status["gone"]) == (len(stored), 0, 0)
    assert len(list(file(stored).parent.iterdir())) == 1
    check(stored, pictures)
    assert file(stored).read_bytes() == made_from_nothing(stored)


def test_status_counts_images_that_are_newer_or_gone(stored: ImageIndex, pictures: Path) -> None:
    stored.remove([pictures / "5.png", pictures / "6.png"])
    assert (stored.status()["smoothed"]["newer"], stored.status()["smoothed"]["gone"]) == (0, 2)
    file(stored).unlink()
    assert (stored.status()["smoothed"]["newer"], stored.status()["smoothed"]["gone"]) == (COUNT - 2, 0)


def test_what_was_removed_since_is_no_neighbour_and_the_next_query_renews_the_file(
    stored: ImageIndex, pictures: Path
) -> None:
    stored.remove([pictures / "5.png"])
    with reopened(stored) as again:
        check(again, pictures)
        assert again.status()["smoothed"]["rows"] == COUNT - 1
        assert file(again).name == NAMES[1]
    assert file(stored).read_bytes() == made_from_nothing(stored)


def test_an_open_index_follows_what_others_do(stored: ImageIndex, pictures: Path) -> None:
    with reopened(stored) as other:
        draw_numbered(pictures, range(COUNT, COUNT + 3))
        other.add([pictures])
    check(stored, pictures)


HURT: dict[str, Callable[[Path, bytes], object]] = {
    "deleted": lambda path, sound: path.unlink(),
    "folder deleted": lambda path, sound: (path.unlink(), path.parent.rmdir()),
    "flipped": lambda path, sound: path.write_bytes(sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:]),
    "ids flipped": lambda path, sound: path.write_bytes(bytes([sound[0] ^ 255]) + sound[1:]),
    "short": lambda path, sound: path.write_bytes(sound[:-1]),
    "empty": lambda path, sound: path.write_bytes(b""),
    "long": lambda path, sound: path.write_bytes(sound + b"\0"),
    "a folder": lambda path, sound: (path.unlink(), path.mkdir()),
    "a pipe": lambda path, sound: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("how", HURT)
@pytest.mark.parametrize("by", ["query", "add"])
def test_a_file_that_is_hurt_is_not_read_and_is_made_again_unasked(
    stored: ImageIndex, pictures: Path, how: str, by: str
) -> None:
    sound = file(stored).read_bytes()
    HURT[how](file(stored), sound)
    with reopened(stored) as again:
        problems = [(problem.kind, problem.subject) for problem in again.verify(full=True).problems]
        assert problems == ([] if "deleted" in how else [("derived", NAMES[0])])
        assert again.status()["smoothed"]["rows"] == COUNT
        if by == "add":
            again.add([pictures])
            assert (file(again).parent / NAMES[1]).read_bytes() == sound
        check(again, pictures)
        assert (file(again).parent / NAMES[1]).read_bytes() == sound
        assert again.verify(full=True).ok


def test_metadata_that_is_invalid_or_of_another_method_is_not_used(stored: ImageIndex, pictures: Path) -> None:
    good = stored._store.catalogue.connection.execute("select receipt from derived").fetchone()[0]
    others = [good.replace(f'"{key}": ', f'"{key}": 1') for key in ("method", "rows", "dimension", "neighbours")]
    assert len(set(others) - {good}) == 4
    for metadata in ("", "{}", "[1]", "null", good.replace("float", "int"), good.replace('"exact"', "7"), *others):
        with stored._store.writing() as writer, writer.catalogue.atomic():
            writer.catalogue.connection.execute("update derived set receipt = ?", (metadata,))
        with reopened(stored) as again:
            assert again.status()["smoothed"] is None
            check(again, pictures)
            assert again.status()["smoothed"]["rows"] == COUNT


def test_metadata_is_what_was_written() -> None:
    metadata = SmoothedMetadata(1, 5, 12, "float16", 8, "exact", 0.5)
    assert SmoothedMetadata.from_json(
        '{"method": 1, "rows": 5, "dimension": 12, "dtype": "float16", "neighbours": 8, "search": "exact", '
        '"seconds": 0.5}'
    ) == metadata  # fmt: skip
    assert metadata.size() == 5 * (8 + 8 + 8 * 8 + 8 * 4 + 12 * 2)


def test_while_another_process_writes_averages_are_made_in_memory_once(stored: ImageIndex, pictures: Path) -> None:
    before = file(stored).read_bytes()
    draw_numbered(pictures, range(COUNT, COUNT + 3))
    file(stored).unlink()
    with reopened(stored) as again, stored._store.writing():
        check(again, pictures)
        assert not file(stored).exists()
        assert smoothed_rows(again._store) is smoothed_rows(again._store)
    with reopened(stored) as again:
        check(again, pictures)
    assert file(stored).read_bytes() == before


def test_a_full_disk_leaves_the_old_file_and_the_answers(
    stored: ImageIndex, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.remove([pictures / "5.png"])
    before = file(stored).read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with reopened(stored) as again:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            check(again, pictures)
        assert [path.name for path in file(again).parent.iterdir()] == [NAMES[0]]
        assert file(again).read_bytes() == before
        with again._store.writing() as writer:
            update_search_files(again._store, writer)
        check(again, pictures)
        assert [path.name for path in file(again).parent.iterdir()] == [NAMES[1]]


def test_a_run_that_was_killed_leaves_nothing_that_stays(stored: ImageIndex, pictures: Path) -> None:
    folder = file(stored).parent
    (folder / f"{NAMES[1]}.0123abcd.new").write_bytes(b"half of it")
    (folder / NAMES[1]).write_bytes(b"written, but not recorded")
    (folder / "notes.txt").write_text("of another program")
    with reopened(stored) as again:
        check(again, pictures)
        assert again.verify(full=True).ok
        again.add([pictures])
        assert [path.name for path in folder.iterdir()] == [NAMES[0]]


def test_repair_makes_averages_again(stored: ImageIndex, pictures: Path) -> None:
    sound = file(stored).read_bytes()
    file(stored).write_bytes(b"no averages")
    ImageIndex.repair(stored.path, encoder=Normed())
    assert file(stored).read_bytes() == sound
    with reopened(stored) as again:
        check(again, pictures)


def test_they_go_with_the_last_image(stored: ImageIndex, pictures: Path) -> None:
    stored.remove([pictures])
    stored.compact()
    assert not file(stored).exists()
    assert stored.status()["smoothed"] is None
    assert stored.answers([pictures / "0.png"], rerank=True)[0].matches == []


def test_a_damaged_vector_is_an_error_and_no_neighbour(stored: ImageIndex, pictures: Path) -> None:
    segment = Path(stored._store.segments.path(1))
    data = bytearray(segment.read_bytes())
    data[HEADER_SIZE + 1] ^= 255
    segment.write_bytes(data)
    file(stored).unlink()
    with reopened(stored) as again, pytest.raises(IndexDamaged, match="is damaged"):
        again.similar(pictures / "7.png", rerank=True)


def test_a_query_that_is_not_in_the_index_is_averaged_with_its_nearest_images(
    stored: ImageIndex, pictures: Path
) -> None:
    new = draw(pictures.parent / "new.png", (180, 60, 50))
    mix = Mix([pictures / "1.png", new], minus=[pictures / "2.png"])
    vectors, ids, averages = stored.vectors(), stored.ids(), expected(stored)
    pixels = np.full((1, 32, 32, 3), (180, 60, 50), np.uint8)
    vector = Normed().encode(pixels)[0]
    others = nearest_others(vectors, ids, vector)
    distances = np.linalg.norm(averages - averaged(vector, vectors[others], unit=True), axis=1)
    matches = stored.similar(new, n=6, rerank=True)
    tolerance = 2e-3 if stored._store.segments.dtype == np.float16 else 2e-6
    np.testing.assert_allclose([match.distance for match in matches], np.sort(distances)[:6], atol=tolerance)
    assert len(stored.similar(mix, n=5, rerank=True)) == 5
    names = {Path(match.path).name for match in stored.similar(mix, n=COUNT, rerank=True)}
    assert len(names) == COUNT - 2
    assert names.isdisjoint({"1.png", "2.png"})


def test_a_mistake_in_a_condition_is_reported_before_averages_are_made(index: ImageIndex, pictures: Path) -> None:
    index.add([pictures])
    for mistaken in (
        lambda: index.similar(pictures / "0.png", where="colour = 1", rerank=True),
        lambda: index.cluster(2, where="colour = 1", smooth=True),
        lambda: index.cluster(2, balanced=True, max_size=9, smooth=True),
        lambda: index.similar(pictures / "0.png", n=0, rerank=True),
    ):
        with pytest.raises(UsageError):
            mistaken()
    assert not file(index).exists()


def test_limits_and_conditions_hold_among_averages(stored: ImageIndex, pictures: Path) -> None:
    query = pictures / "1.png"
    everything = stored.similar(query, n=COUNT, rerank=True)
    assert len(everything) == COUNT - 1
    limit = everything[5].distance
    near = stored.similar(query, n=COUNT, max_distance=limit, rerank=True)
    assert [match.id for match in near] == [match.id for match in everything if match.distance <= limit]
    some = stored.similar(query, n=3, where="id % 2 = 0", rerank=True)
    assert [match.id for match in some] == [match.id for match in everything if match.id % 2 == 0][:3]
    assert [match.distance for match in some] == [match.distance for match in everything if match.id % 2 == 0][:3]
    (itself, *_) = stored.similar(query, n=3, include_self=True, rerank=True)
    assert (Path(itself.path).name, itself.distance) == ("1.png", 0)


def test_answers_are_the_same_again_and_ties_are_in_the_order_of_ids(stored: ImageIndex, pictures: Path) -> None:
    for number in range(12):
        draw(pictures / f"same {number}.png", (250, 250, 10), size=(32, 32 + 32 * number))
    stored.add([pictures])
    first = stored.similar(pictures / "same 0.png", n=20, rerank=True)
    assert first == stored.similar(pictures / "same 0.png", n=20, rerank=True)
    assert [(match.distance, match.id) for match in first] == sorted((match.distance, match.id) for match in first)


def test_stored_and_averaged_vectors_are_read_in_the_order_of_ids(stored: ImageIndex) -> None:
    with stored._store.reading():
        some = stored.ids()[[3, 20, 33]]
        np.testing.assert_array_equal(vector_rows(stored._store, some, smooth=False)[:], stored.vectors()[[3, 20, 33]])
        rows = smoothed_rows(stored._store).vectors[[3, 20, 33]]
        np.testing.assert_array_equal(vector_rows(stored._store, some, smooth=True)[:], rows)
        queries = QueryAverages(stored._store).of(stored.vectors()[[3, 20, 33]], some)
        np.testing.assert_array_equal(queries, rows)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, stored: ImageIndex, pictures: Path) -> ImageIndex:
    """An index that is large because the limit is low: FAISS finds the neighbours."""
    monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", 20)
    stored.add([pictures])
    return stored


def test_in_a_large_index_faiss_finds_the_neighbours(large: ImageIndex, pictures: Path) -> None:
    name = search_name(large._store, load_search(large._store))
    assert large.status()["smoothed"]["search"] == name != "exact"
    assert len(list(file(large).parent.iterdir())) == 2
    check(large, pictures)
    draw_numbered(pictures, range(COUNT, COUNT + 3))
    large.add([pictures])
    assert large.status()["smoothed"]["search"] == name
    check(large, pictures)
    assert file(large).read_bytes() == made_from_nothing(large)


def test_they_are_made_again_with_the_search_index(large: ImageIndex, pictures: Path) -> None:
    before = large.status()["smoothed"]["search"]
    draw_numbered(pictures, range(COUNT, COUNT + 12))
    large.add([pictures])
    after = large.status()["smoothed"]
    assert after["search"] == search_name(large._store, load_search(large._store)) != before
    assert sorted(path.name for path in file(large).parent.iterdir()) == [file(large).name, "vectors-2.faiss"]
    check(large, pictures)


def test_nothing_is_prepared_twice(stored: ImageIndex) -> None:
    before = file(stored).stat().st_mtime_ns
    prepare_smoothing(stored._store)
    with stored._store.writing() as writer:
        update_search_files(stored._store, writer)
    assert file(stored).stat().st_mtime_ns == before
