"""`similar`: where the query's vector comes from, and which matches are told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GridMean, replace_encoder
from pictures import draw

import imgindex.search.query
from imgindex import ImageIndex
from imgindex.errors import IndexDamaged, UnreadableImage, UsageError
from imgindex.results import Match
from imgindex.sources.base import Content
from imgindex.storage.segments import HEADER_SIZE


class NoEncoder:
    """Fails the test that embeds."""

    batch_size = 4

    def encode(self, batch: np.ndarray) -> np.ndarray:
        raise AssertionError(f"{len(batch)} pictures were embedded")


@pytest.fixture
def grey(index: ImageIndex, tmp_path: Path) -> Path:
    """A folder of 20 grey pictures, `0.png` … `190.png`: their distance is the difference of their grey × √12 / 255."""
    for level in range(0, 200, 10):
        draw(tmp_path / "grey" / f"{level}.png", (level, level, level))
    index.add([tmp_path / "grey"])
    return tmp_path / "grey"


def distance(levels: int) -> float:
    return levels / 255 * 12**0.5


def names(matches: list[Match]) -> list[str]:
    return [Path(match.path).name for match in matches]


def test_the_nearest_come_first_with_rank_distance_and_id(index: ImageIndex, grey: Path) -> None:
    matches = index.similar(grey / "0.png", n=3)
    assert names(matches) == ["10.png", "20.png", "30.png"]
    assert [match.rank for match in matches] == [1, 2, 3]
    assert [match.distance for match in matches] == pytest.approx([distance(10), distance(20), distance(30)], abs=1e-6)
    ids = {image.path: image.id for image in index.images()}
    assert [match.id for match in matches] == [ids[match.path] for match in matches]


def test_an_indexed_image_is_answered_without_opening_or_embedding_it(
    index: ImageIndex, grey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str) -> Content:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(imgindex.search.query, "read_content", read)
    replace_encoder(index, NoEncoder())
    assert names(index.similar(grey / "50.png", n=2)) == ["40.png", "60.png"]


def test_an_indexed_image_that_is_gone_from_disk_is_still_answered_from_its_vector(
    index: ImageIndex, grey: Path
) -> None:
    (grey / "50.png").unlink()
    replace_encoder(index, NoEncoder())
    assert set(names(index.similar(grey / "50.png", n=2))) == {"40.png", "60.png"}


def test_the_query_itself_is_left_out_unless_it_is_wished_for(index: ImageIndex, grey: Path) -> None:
    assert "50.png" not in names(index.similar(grey / "50.png", n=100))
    first = index.similar(grey / "50.png", n=3, include_self=True)[0]
    assert (Path(first.path).name, first.distance, first.rank) == ("50.png", 0, 1)


@pytest.mark.parametrize("include_self", [False, True])
def test_as_many_matches_as_asked_for_or_as_there_are(index: ImageIndex, grey: Path, include_self: bool) -> None:
    for n, there in ((1, 1), (19, 19), (20, 19 + include_self), (1000, 19 + include_self)):
        assert len(index.similar(grey / "50.png", n=n, include_self=include_self)) == there


def test_matches_beyond_the_largest_distance_are_left_out(index: ImageIndex, grey: Path) -> None:
    near = index.similar(grey / "50.png", max_distance=distance(20) + 1e-6)
    assert set(names(near)) == {"30.png", "40.png", "60.png", "70.png"}
    assert index.similar(grey / "50.png", max_distance=0) == []


def test_exact_copies_are_found_at_distance_zero(index: ImageIndex, grey: Path) -> None:
    shutil.copy(grey / "50.png", grey / "copy.png")
    index.add([grey])
    assert names(index.similar(grey / "50.png", max_distance=0)) == ["copy.png"]
    assert names(index.similar(grey / "copy.png", max_distance=0)) == ["50.png"]


def test_a_file_that_changed_since_is_embedded_anew(index: ImageIndex, grey: Path, encoder: GridMean) -> None:
    draw(grey / "50.png", (151, 151, 151))
    os.utime(grey / "50.png", ns=(1, 1))
    embedded = encoder.embedded
    assert names(index.similar(grey / "50.png", n=3)) == ["150.png", "160.png", "140.png"]
    assert encoder.embedded == embedded + 1
    assert len(index) == 20


def test_an_image_from_elsewhere_is_embedded_and_not_added(
    index: ImageIndex, grey: Path, tmp_path: Path, encoder: GridMean
) -> None:
    assert names(index.similar(draw(tmp_path / "new.png", (82, 82, 82)), n=2)) == ["80.png", "90.png"]
    assert encoder.embedded == 21
    assert len(index) == 20


def test_the_same_bytes_elsewhere_are_answered_without_embedding_and_find_the_indexed_image(
    index: ImageIndex, grey: Path, tmp_path: Path
) -> None:
    shutil.copy(grey / "50.png", tmp_path / "copy.png")
    replace_encoder(index, NoEncoder())
    matches = index.similar(tmp_path / "copy.png", n=1)
    assert (names(matches), matches[0].distance) == (["50.png"], 0)


def test_a_link_to_an_indexed_image_is_that_image(index: ImageIndex, grey: Path, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(grey / "50.png")
    replace_encoder(index, NoEncoder())
    assert set(names(index.similar(tmp_path / "link.png", n=2))) == {"40.png", "60.png"}
    assert names(index.similar(tmp_path / "link.png", n=1, include_self=True)) == ["50.png"]


@pytest.mark.parametrize("of", ["50.png", "copy.png"])
def test_a_link_to_one_of_two_equal_images_leaves_out_that_one_alone(
    index: ImageIndex, grey: Path, tmp_path: Path, of: str
) -> None:
    shutil.copy(grey / "50.png", grey / "copy.png")
    index.add([grey])
    (tmp_path / "link.png").symlink_to(grey / of)
    other = ({"50.png", "copy.png"} - {of}).pop()
    assert names(index.similar(tmp_path / "link.png", max_distance=0)) == [other]


def test_an_image_that_was_taken_out_is_embedded_like_any_other(
    index: ImageIndex, grey: Path, encoder: GridMean
) -> None:
    index.remove([grey / "50.png"])
    assert set(names(index.similar(grey / "50.png", n=2))) == {"40.png", "60.png"}
    assert encoder.embedded == 21


def test_a_query_is_found_by_whatever_path_leads_to_it(
    index: ImageIndex, grey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(grey)
    replace_encoder(index, NoEncoder())
    assert names(index.similar("50.png", n=1)) == names(index.similar("../grey/./50.png", n=1)) == ["40.png"]
    assert index.similar("50.png", n=1)[0].path == str(grey / "40.png")


def test_many_queries_are_answered_in_their_order_and_embedded_in_batches(
    index: ImageIndex, grey: Path, tmp_path: Path, encoder: GridMean
) -> None:
    (tmp_path / "broken.png").write_text("this is no picture")
    new = [draw(tmp_path / f"{level}.png", (level, level, level)) for level in range(2, 192, 10)]
    queries = [tmp_path / "broken.png", *new, grey / "50.png"]
    answers = index.answers(queries, n=1)
    assert [answer.query for answer in answers] == [str(query) for query in queries]
    assert [names(answer.matches) for answer in answers[1:-1]] == [[f"{level}.png"] for level in range(0, 190, 10)]
    assert [answer.failure is None for answer in answers] == [False, *[True] * 20]
    assert (answers[0].matches, answers[0].failure.stage) == ([], "decode")
    assert encoder.embedded == 20 + len(new)


@pytest.mark.parametrize(
    ("make", "stage"),
    [
        (lambda path: path.write_text("this is no picture"), "decode"),
        (lambda path: path.touch(), "read"),
        (lambda path: path.mkdir(), "read"),
        (lambda path: None, "read"),
        (os.mkfifo, "read"),
    ],
    ids=["text", "empty", "folder", "missing", "pipe"],
)
def test_a_query_that_cannot_be_read_is_an_error_that_names_it(
    index: ImageIndex, grey: Path, tmp_path: Path, make, stage: str
) -> None:
    make(tmp_path / "query.png")
    with pytest.raises(UnreadableImage, match=r"cannot read .*query\.png: .") as caught:
        index.similar(tmp_path / "query.png")
    assert caught.value.stage == stage


def test_a_query_without_a_finite_vector_is_a_failure_beside_the_others(
    index: ImageIndex, grey: Path, tmp_path: Path
) -> None:
    class Blind(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            return np.where(batch.mean(axis=(1, 2, 3)) == 255, np.nan, super().encode(batch).T).T.astype(np.float32)

    replace_encoder(index, Blind())
    white, other = draw(tmp_path / "white.png", (255, 255, 255)), draw(tmp_path / "52.png", (52, 52, 52))
    failed, answered = index.answers([white, other], n=1)
    assert (failed.matches, failed.failure.stage) == ([], "embed")
    assert names(answered.matches) == ["50.png"]


@pytest.mark.parametrize("limits", [{"n": 0}, {"n": -3}, {"max_distance": -1.0}, {"max_distance": float("nan")}])
def test_limits_that_mean_nothing_are_refused(index: ImageIndex, grey: Path, limits: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        index.similar(grey / "50.png", **limits)


def test_an_empty_index_has_no_matches(index: ImageIndex, tmp_path: Path) -> None:
    assert index.similar(draw(tmp_path / "query.png", 1)) == []


def spoil_vector(index: ImageIndex, name: str) -> None:
    """Flip the highest bit of a vector's first number, which turns it into another finite one."""
    id = next(image.id for image in index.images() if Path(image.path).name == name)
    (place,) = index._store.catalogue.locations([id])
    path = Path(index._store.segments.path(place.segment))
    data = bytearray(path.read_bytes())
    data[HEADER_SIZE + place.row * index._store.segments.row_size + 3] ^= 0x80
    path.write_bytes(data)


def test_a_damaged_vector_of_the_query_is_an_error_instead_of_a_wrong_answer(index: ImageIndex, grey: Path) -> None:
    spoil_vector(index, "50.png")
    with pytest.raises(IndexDamaged, match="vector of image"):
        index.similar(grey / "50.png")


def test_a_damaged_vector_among_the_matches_is_an_error_instead_of_a_wrong_answer(
    index: ImageIndex, grey: Path
) -> None:
    spoil_vector(index, "190.png")
    with pytest.raises(IndexDamaged, match="vector of image"):
        index.similar(grey / "50.png", n=19)


def test_a_damaged_vector_is_an_error_even_far_from_the_query_for_nobody_knows_where_it_was(
    index: ImageIndex, grey: Path
) -> None:
    spoil_vector(index, "190.png")
    with pytest.raises(IndexDamaged, match=r"image \d+ is damaged"):
        index.similar(grey / "0.png", n=2)


def test_answers_come_from_all_segments_and_both_storages(
    tmp_path: Path, grey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ImageIndex.create(tmp_path / "half.imgindex", encoder=GridMean(), store="fp16") as half:
        monkeypatch.setattr(half._store.segments, "capacity", 3)
        half.add([grey])
        assert half.status()["segments"] == 7
        for level in range(20, 180, 10):
            assert set(names(half.similar(grey / f"{level}.png", n=2))) == {f"{level - 10}.png", f"{level + 10}.png"}
