"""`similar` with conditions, mixes and many queries: exactly n answers if n exist, in order, bounded in memory."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE, GridMean
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import draw

import imgindex.search.lifecycle
from imgindex import ImageIndex, Mix
from imgindex.errors import UnreadableImage, UsageError
from imgindex.search.exact import ExactSearch
from imgindex.search.faiss_ivf import IvfSearch
from imgindex.search.filters import select
from imgindex.search.lifecycle import load_search, update_search_index
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import FoundFile

COUNT, DIMENSION, TARGET = 12_000, 64, 0.95


def make_store(path: Path) -> tuple[Store, np.ndarray]:
    """An index of so many vectors around 60 centres; the image with id i has a width of i − 1."""
    recipe = replace(GRID_RECIPE, dimension=DIMENSION)
    described = {"recipe": recipe.to_json(), "recipe_digest": recipe.digest, "dimension": str(DIMENSION)}
    store = Store.create(str(path), described | {"store": "float32", "target_recall": str(TARGET)})
    random = np.random.default_rng(0)
    centres = random.standard_normal((60, DIMENSION), dtype=np.float32)
    vectors = centres[random.integers(60, size=COUNT)]
    vectors += 0.3 * random.standard_normal((COUNT, DIMENSION), dtype=np.float32)
    with store.writing() as writer:
        for number, vector in enumerate(vectors):
            file = FoundFile(str(path.parent / f"{number}.png"), 1, 1)
            writer.put(NewImage(file, number.to_bytes(32, "big"), number, 1, "PNG"), vector)
        writer.commit()
    return store, vectors


@pytest.fixture(scope="module", params=["exact", "faiss"])
def large(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, np.ndarray]]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "faiss":
            patch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", 1)
        store, vectors = make_store(tmp_path_factory.mktemp("large") / "it.imgindex")
        with store.writing() as writer:
            update_search_index(store, writer)
        kind = ExactSearch if request.param == "exact" else IvfSearch
        assert type(load_search(store)) is kind
        assert type(load_search(store, select(store, "width < 6000"))) is kind
        yield store, vectors
        store.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    share=st.sampled_from([1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0]),
    offset=st.integers(0, 100),
    n=st.sampled_from([1, 10, 100]),
    queries=st.sampled_from([1, 20]),
)
def test_exactly_n_answers_come_if_n_fulfil_the_condition_and_all_of_them_do(
    large: tuple[Store, np.ndarray], share: float, offset: int, n: int, queries: int
) -> None:
    store, vectors = large
    step = round(1 / share)
    ids = select(store, f"width % {step} = {offset % step}")
    rows = np.arange(offset % step, COUNT, step)
    np.testing.assert_array_equal(ids, rows + 1)
    asked = vectors[offset : offset + queries] + np.float32(0.01)
    search = load_search(store, ids)
    near = search.search(asked, n)
    wanted = min(n, len(rows))
    assert ((near.ids >= 0).sum(axis=1) == wanted).all()
    found, distances = near.ids[:, :wanted], near.distances[:, :wanted]
    assert np.isin(found, rows + 1).all()
    assert all(len(set(row)) == wanted for row in found.tolist())
    truth = np.linalg.norm(vectors[found - 1].astype(np.float64) - asked[:, None], axis=2)
    np.testing.assert_allclose(distances, truth, rtol=1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()
    if isinstance(search, ExactSearch):
        of_all = np.sort(np.linalg.norm(vectors[rows].astype(np.float64) - asked[:, None], axis=2), axis=1)
        np.testing.assert_allclose(distances, of_all[:, :wanted], rtol=1e-5)


@pytest.mark.parametrize("share", [1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0])
def test_the_nearest_are_found_under_conditions_as_often_as_without(
    large: tuple[Store, np.ndarray], share: float
) -> None:
    store, vectors = large
    rows = np.arange(0, COUNT, round(1 / share))
    asked = vectors[:300] + np.float32(0.01)
    near = load_search(store, select(store, f"width % {round(1 / share)} = 0")).search(asked, 10)
    distances = np.stack([np.linalg.norm(vectors[rows] - query, axis=1) for query in asked])
    truth = rows[np.argsort(distances, axis=1)[:, :10]] + 1
    recall = np.mean([np.isin(found, true).sum() / len(true) for found, true in zip(near.ids, truth, strict=True)])
    assert recall >= TARGET


@pytest.fixture
def grey(index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """The index of 20 grey pictures `grey/0.png` … `grey/190.png`, seen from the folder that holds it."""
    for level in range(0, 200, 10):
        draw(tmp_path / "grey" / f"{level}.png", (level, level, level), (32 + level, 32 + level))
    index.add([tmp_path / "grey"])
    monkeypatch.chdir(tmp_path)
    return index


def levels(matches: list) -> list[int]:
    return [int(Path(match.path).stem) for match in matches]


def test_a_condition_chooses_before_the_search_so_that_n_answers_come(grey: ImageIndex) -> None:
    assert levels(grey.similar("grey/0.png", n=3, where="width >= 132")) == [100, 110, 120]
    assert levels(grey.similar("grey/150.png", n=3, where="width >= 132"))[0] in (140, 160)
    assert len(grey.similar("grey/150.png", n=10, where="width >= 132")) == 9
    assert len(grey.similar("grey/150.png", n=100, where="width >= 132", include_self=True)) == 10
    assert grey.similar("grey/0.png", where="width > 10000") == []
    assert [match.rank for match in grey.similar("grey/0.png", n=2, where="name like '1%'")] == [1, 2]
    with pytest.raises(UsageError, match="no such column"):
        grey.similar("grey/0.png", where="widht > 1")


def test_a_mix_is_the_sum_of_its_images_less_those_taken_away(grey: ImageIndex) -> None:
    assert levels(grey.similar(Mix(["grey/20.png", "grey/50.png"]), n=1)) == [70]
    assert levels(grey.similar(Mix(["grey/100.png", "grey/80.png"], minus=["grey/60.png"]), n=1)) == [120]
    matches = grey.similar(Mix(["grey/20.png", "grey/50.png"]), n=100)
    assert not {20, 50} & set(levels(matches))
    assert len(matches) == 18
    everything = grey.similar(Mix(["grey/20.png", "grey/50.png"]), n=100, include_self=True)
    assert {20, 50} < set(levels(everything))
    assert len(everything) == 20


def test_a_mix_takes_images_that_are_not_indexed_and_has_their_failures(grey: ImageIndex, tmp_path: Path) -> None:
    draw(tmp_path / "new.png", (33, 33, 33))
    assert levels(grey.similar(Mix(["new.png", "grey/50.png"]), n=1)) == [80]
    answer, other = grey.answers([Mix(["new.png", "absent.png"]), "grey/0.png"], n=1)
    assert (answer.query, answer.matches) == ("new.png + absent.png", [])
    assert answer.failure.path == str(tmp_path / "absent.png")
    assert levels(other.matches) == [10]
    with pytest.raises(UnreadableImage, match=rf"cannot read {re.escape(str(tmp_path))}/absent\.png: No such file"):
        grey.similar(Mix(["new.png"], minus=["absent.png"]))
    with pytest.raises(UsageError):
        Mix([])
    assert Mix("a.png").plus == ("a.png",)


def test_vectors_of_length_one_stay_so_in_a_mix_and_may_cancel_each_other_out(tmp_path: Path) -> None:
    class Unit(GridMean):
        norm = "l2"

        def encode(self, batch: np.ndarray) -> np.ndarray:
            vectors = super().encode(batch)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    for name, colour in {"red": (200, 0, 0), "green": (0, 200, 0), "yellow": (90, 90, 0), "blue": (0, 0, 99)}.items():
        draw(tmp_path / "p" / f"{name}.png", colour)
    with ImageIndex.create(tmp_path / "unit", encoder=Unit()) as index:
        index.add([tmp_path / "p"])
        red, green = tmp_path / "p/red.png", tmp_path / "p/green.png"
        (match,) = index.similar(Mix([red, green]), n=1)
        assert Path(match.path).name == "yellow.png"
        assert match.distance == pytest.approx(0, abs=1e-6)
        (answer,) = index.answers([Mix([red], minus=[red])])
        assert (answer.failure.stage, "cancel" in answer.failure.reason) == ("mix", True)


def test_thousands_of_queries_are_answered_in_order_while_few_are_held(grey: ImageIndex) -> None:
    names = [f"grey/{level}.png" for level in range(0, 200, 10)]
    asked: list[str] = []

    def endless() -> Iterator[str]:
        for name in itertools.cycle(names):
            asked.append(name)
            yield name

    answers = grey.each_answer(endless(), n=1)
    found = [answer.query for answer in itertools.islice(answers, 3000)]
    assert found == asked[:3000]
    assert len(asked) <= 3000 + 256
    answers.close()
