"""An index that a real Milvus server searches for: kept the same as the segments, whatever happens to either side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from collections_of import of_vectors
from forking import Run
from milvus_server import Addresses, MilvusProcess, described, rows_of
from pictures import draw
from vector_samples import blobs

import imgindex.search.lifecycle
from imgindex import ImageIndex
from imgindex.errors import CollectionNotOurs, SearchUnavailable
from imgindex.search import milvus_sync
from imgindex.search.exact import ExactSearch
from imgindex.search.lifecycle import load_search
from imgindex.search.milvus_search import MilvusSearch
from imgindex.search.upkeep import update_search_files
from imgindex.storage.records import NewImage
from imgindex.types import FoundFile, Progress

pytest.importorskip("pymilvus", reason="pymilvus is not installed")
from imgindex.search import milvus

LOCAL_ENVIRONMENT = {"no_proxy": "127.0.0.1"}


@pytest.fixture
def searched(tmp_path: Path, milvus: Addresses) -> Iterator[ImageIndex]:
    """An index of 300 vectors around 12 centres, for which Milvus searches."""
    with of_vectors(tmp_path / "it.imgindex", blobs(300, 12, 12)) as index:
        index.compact(search=milvus())
        yield index


def catalogued(index: ImageIndex) -> dict[int, int]:
    """What Milvus should have: id → CRC32 of all images, missing ones too."""
    table = index._store.catalogue.location_table_beyond({}, include_missing=True)
    return dict(zip(table[:, 0].tolist(), table[:, 3].tolist(), strict=True))


def held(index: ImageIndex) -> dict[int, int]:
    return rows_of(index.status()["search"]["address"])


def put(index: ImageIndex, vectors: dict[int, np.ndarray]) -> None:
    """Commit vectors of the files with these numbers, without a word to Milvus."""
    with index._store.writing() as writer:
        for number, vector in vectors.items():
            file = FoundFile(str(Path(index.path).parent / f"{number}.png"), 100, number)
            writer.put(NewImage(file, number.to_bytes(32, "big"), 32, 32, "PNG"), vector.astype(np.float32))
        writer.commit()


def update(index: ImageIndex) -> None:
    with index._store.writing() as writer:
        assert not update_search_files(index._store, writer).images


def check(index: ImageIndex, n: int = 10) -> None:
    """Compare the answers for all images with exact ones, ids and distances."""
    store = index._store
    with store.reading():
        search, exact = load_search(store), ExactSearch(store.blocks())
        assert isinstance(search, MilvusSearch)
        found, wanted = search.search(index.vectors(), n), exact.search(index.vectors(), n)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.distances, wanted.distances)


def test_answers_are_those_of_an_exact_search_and_status_tells_how_good_they_are(searched: ImageIndex) -> None:
    status = searched.status()["search"]
    assert (status["kind"], status["rows"], status["recall"], status["queries"]) == ("FLAT", 300, 1.0, 300)
    assert (status["target"], status["behind"]) == (0.99, 0)
    assert held(searched) == catalogued(searched)
    check(searched)
    check(searched, n=400)
    paths = searched.paths()
    by_milvus = searched.similar(paths[:20], n=7)
    searched.compact(search="local")
    assert searched.status()["search"] is None
    assert searched.similar(paths[:20], n=7) == by_milvus


def test_changes_are_answered_before_milvus_has_them_and_sent_by_the_next_update(searched: ImageIndex) -> None:
    vectors = searched.vectors()
    put(searched, {0: vectors[250], 1000: vectors[7], 1001: vectors[8] + 0.1})  # one changed, two new
    searched.remove(searched.paths()[20:40])
    with searched._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.set_present(range(51, 81), False)
    assert searched.status()["search"]["behind"] == 3
    check(searched)
    update(searched)
    assert searched.status()["search"]["behind"] == 0
    check(searched)
    assert held(searched) == catalogued(searched), "missing images may return; the many that were removed are gone"
    with searched._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.set_present(range(51, 81), True)
    assert searched.status()["search"]["behind"] == 0
    check(searched)


def test_compact_deletes_the_few_rows_of_removed_images_and_sends_no_rows_that_it_moved(
    searched: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    put = milvus.Collection.put
    monkeypatch.setattr(milvus.Collection, "put", lambda self, ids, *rest: (sent.extend(ids), put(self, ids, *rest)))
    searched.remove(searched.paths()[:2])
    update(searched)
    assert len(held(searched)) == 300
    check(searched)
    assert searched.compact().rows_dropped == 2
    assert searched.status()["search"]["behind"] == 0
    assert held(searched) == catalogued(searched)
    assert sent == []
    check(searched)


def test_rows_that_milvus_lost_or_has_wrong_are_sent_again(searched: ImageIndex) -> None:
    """The collection was changed behind the back of the index, or restored from a backup."""
    store = searched._store
    collection = milvus_sync._connected(store, store.catalogue)
    collection.delete(np.arange(1, 50))
    update(searched)
    assert held(searched) == catalogued(searched)
    collection.put(np.array([7]), np.array([7]), np.zeros((1, 12), np.float32))
    searched.compact()
    assert held(searched) == catalogued(searched)
    collection._client.drop_collection(collection.address.collection)
    with pytest.raises(SearchUnavailable):
        searched.similar(searched.paths()[0])
    update(searched)
    assert held(searched) == catalogued(searched)
    check(searched)


def test_once_its_state_is_forgotten_as_repair_does_everything_is_compared(searched: ImageIndex) -> None:
    """A catalogue that was rewritten may have given rows to other ids."""
    with searched._store.writing() as writer:
        milvus_sync.forget_state(writer)
    assert searched.status()["search"]["behind"] == 300
    check(searched)
    update(searched)
    assert searched.status()["search"]["behind"] == 0
    check(searched)


def test_an_answer_reads_the_places_of_its_candidates_and_of_no_other_images(searched: ImageIndex) -> None:
    path, statements = searched.paths()[0], list[str]()
    with ImageIndex.open(searched.path) as index:
        index._store.catalogue.connection.set_trace_callback(statements.append)
        assert len(index.similar(path)) == 10
    places = [statement for statement in statements if "crc32" in statement and "from images" in statement]
    assert places
    assert all("id in (" in statement or "row >= 300" in statement for statement in places)


def test_a_condition_still_gives_exactly_n(searched: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images are compared here; of many, Milvus is asked for more candidates until enough are selected."""
    path = searched.paths()[0]
    for limit, where in ((100_000, "id % 30 = 1"), (5, "id % 30 = 1"), (5, "id > 150"), (5, "id <= 20")):
        monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", limit)
        found = searched.similar(path, n=9, where=where)
        wanted = [
            match for match in searched.similar(path, n=300) if eval(where.replace(" = ", " == "), {"id": match.id})
        ]
        assert [match.id for match in found] == [match.id for match in wanted[:9]]


def test_a_growing_collection_gets_another_kind_of_index(
    tmp_path: Path, milvus: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgindex.search.milvus.FLAT_ROWS", 100)
    vectors = blobs(150, 12, 4)
    with of_vectors(tmp_path / "it.imgindex", vectors[:90]) as index:
        index.compact(search=milvus())
        assert index.status()["search"]["kind"] == "FLAT"
        put(index, {90 + number: vector for number, vector in enumerate(vectors[90:])})
        update(index)
        status = index.status()["search"]
        assert (status["kind"], status["rows"]) == ("HNSW", 150)
        assert status["recall"] >= 0.99
        check(index)


def test_the_recall_of_20_000_rows_is_that_of_the_target_and_removed_images_are_never_found(
    tmp_path: Path, milvus: Addresses
) -> None:
    generator = np.random.default_rng(3)
    basis = generator.normal(size=(64, 512)) * (1 / np.arange(1, 65))[:, None] ** 0.5
    vectors = np.maximum(generator.normal(size=(20_100, 64)) @ basis + 0.05 * generator.normal(size=(20_100, 512)), 0)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    with ImageIndex.create(tmp_path / "it.imgindex") as index:
        put(index, dict(enumerate(vectors[:20_000])))
        index.compact(search=milvus())
        status = index.status()["search"]
        assert (status["kind"], status["rows"]) == ("HNSW", 20_000)
        assert status["recall"] >= 0.99
        store = index._store

        def recall() -> float:
            with store.reading():
                found, exact = load_search(store), ExactSearch(store.blocks())
                assert isinstance(found, MilvusSearch)
                near, truth = (search.search(vectors[20_000:], 10).ids for search in (found, exact))
            assert not np.isin(near, removed).any()
            return float(np.mean([np.isin(a, b).mean() for a, b in zip(near, truth, strict=True)]))

        removed = np.empty(0, np.int64)
        assert recall() >= 0.99
        removed = np.unique(ExactSearch(store.blocks()).search(vectors[20_000:], 10).ids)[:1000]
        paths = store.catalogue.image_paths(removed.tolist())
        index.remove(list(paths.values()))
        assert recall() >= 0.99


def test_a_collection_of_something_else_is_refused_and_not_changed(searched: ImageIndex, tmp_path: Path) -> None:
    address = searched.status()["search"]["address"]
    before = held(searched)

    def is_refused(index: ImageIndex, reason: str) -> None:
        with pytest.raises(CollectionNotOurs, match=reason):
            index.compact(search=address)
        assert index.status()["search"] is None
        assert len(index.similar(index.paths()[0], n=5)) == 5
        assert rows_of(address) == before

    with of_vectors(tmp_path / "other.imgindex", blobs(20, 12, 2)) as other:
        is_refused(other, "belongs to another index")
    # While it searches, too: only searches fail.
    with searched._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.set_setting("index_id", "of a copy")
    with ImageIndex.open(searched.path) as again:
        with pytest.raises(CollectionNotOurs):
            again.similar(again.paths()[0])
        with again._store.writing() as writer:
            assert "another index" in update_search_files(again._store, writer).reason
    searched.compact(search="local")
    is_refused(searched, "belongs to another index")
    with searched._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.set_setting("index_id", json.loads(described(address))["index"])
        writer.catalogue.set_setting("recipe_digest", "ab" * 32)
    is_refused(searched, "another recipe")


def test_a_token_is_stored_nowhere(tmp_path: Path, milvus: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", "root:a-secret-of-the-tests")
    with of_vectors(tmp_path / "it.imgindex", blobs(20, 12, 2)) as index:
        index.compact(search=milvus())
        check(index)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"a-secret-of-the-tests" in path.read_bytes() for path in files)


def test_a_server_that_dies_loses_nothing_and_only_searches_fail(
    tmp_path: Path, three: Path, run: Run, mortal_milvus: tuple[Addresses, MilvusProcess]
) -> None:
    addresses, server = mortal_milvus

    def cli(*arguments: str, code: int = 0) -> tuple[str, str]:
        done = run(*arguments, env=LOCAL_ENVIRONMENT)
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    assert cli("compact", "--search", addresses())[1].count("\n") == 1, "the client's own lines are not shown"
    near = cli("similar", "pictures/0.png", "--json")[0]

    def kill(progress: Progress) -> None:
        if progress.total == 5000 and progress.done == 2000:
            server.kill()

    with of_vectors(tmp_path / "large.imgindex", blobs(5000, 12, 4)) as large:
        address = addresses()
        with pytest.raises(SearchUnavailable):
            large.compact(search=address, on_progress=kill)
        assert large.status()["search"] is None
        assert len(large.similar(large.paths()[0], n=5)) == 5

        (stdout, stderr) = cli("similar", "pictures/0.png", code=1)
        assert stdout == ""
        assert stderr.count("\n") == 1
        assert "does not answer" in stderr
        assert "imgindex compact --search local" in stderr
        for command in (("list",), ("verify",), ("cluster", "-k", "1")):
            cli(*command)
        draw(three / "pictures" / "new.png", 77)
        stdout, stderr = cli("add", "pictures", "--json")
        assert json.loads(stdout)["search_behind"] == 1
        assert "search is behind by 1 image: milvus://" in stderr
        assert "behind by 1 image" in cli("status")[0]
        cli("compact", code=1)

        server.restart()
        assert json.loads(cli("add", "pictures", "--json")[0])["search_behind"] == 0
        assert "up to date" in cli("status")[0]
        assert len(json.loads(cli("similar", "pictures/0.png", "--json")[0])[0]["matches"]) == 3
        assert json.loads(near)[0]["matches"][0]["path"] == "pictures/1.png"
        large.compact(search=address)
        assert held(large) == catalogued(large)
    with closing(ImageIndex.open(three / ".imgindex")) as index:
        assert held(index) == catalogued(index)
