"""The files of searches are kept up to date together, and nothing else stays beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from collections_of import of_vectors
from vector_samples import blobs

import imgindex.search.lifecycle
from imgindex.errors import IndexDamaged, UsageError
from imgindex.search.upkeep import compact, prepare_smoothing, update_search_files
from imgindex.types import Progress


def names(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "search").iterdir())


def test_both_files_are_made_and_kept_and_others_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", 50)
    home, events = tmp_path / "it.imgindex", list[Progress]()
    with of_vectors(home, blobs(80, 12, 4)) as index:
        with index._store.writing() as writer:
            update_search_files(index._store, writer, on_progress=events.append)
        assert names(home) == ["vectors.faiss"]
        prepare_smoothing(index._store, events.append)
        assert names(home) == ["smoothed.rows", "vectors.faiss"]
        assert {event.stage for event in events} == {"search index", "find neighbours"}
        (home / "search" / "smoothed-2.rows").write_bytes(b"of a run that was killed")
        (home / "search" / "vectors-2.faiss").write_bytes(b"of a run that was killed")
        before = len(events)
        with index._store.writing() as writer:
            update_search_files(index._store, writer, on_progress=events.append)
        assert names(home) == ["smoothed.rows", "vectors.faiss"]
        assert len(events) == before, "nothing was made again"


def test_averages_that_exist_stay_when_the_search_index_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", 50)
    home = tmp_path / "it.imgindex"
    with of_vectors(home, blobs(80, 12, 4)) as index:
        prepare_smoothing(index._store)
        index.remove(index.paths()[:40])
        compact(index._store, target_recall=None, search=None, wait=lambda: False, on_progress=lambda event: None)
        assert names(home) == ["smoothed-2.rows"]
        assert (index.status()["search"], index.status()["smoothed"]["rows"]) == (None, 40)
        assert index.status()["smoothed"]["search"] == "exact"


def test_an_impossible_recall_changes_nothing(tmp_path: Path) -> None:
    with of_vectors(tmp_path / "it.imgindex", blobs(9, 12, 2)) as index:
        with pytest.raises(UsageError, match="recall"):
            compact(index._store, target_recall=2, search=None, wait=lambda: False, on_progress=lambda event: None)
        assert index.status()["target_recall"] == 0.99


def test_a_file_in_the_place_of_the_folder_is_an_error_of_writers_and_answers_come_from_memory(tmp_path: Path) -> None:
    home = tmp_path / "it.imgindex"
    with of_vectors(home, blobs(9, 12, 2)) as index:
        (home / "search").write_text("no folder")
        assert len(index.similar(index.paths()[0], rerank=True)) == 8
        with index._store.writing() as writer, pytest.raises(IndexDamaged, match="not a folder"):
            update_search_files(index._store, writer, smooth=True)
