"""Exported files, read as other programs read them."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from forking import Run

from imgindex import ImageIndex
from imgindex.errors import ExtraMissing


@pytest.mark.parametrize("ending", ["npz", "npy", "csv"])
def test_a_condition_applies_to_every_format(filled: ImageIndex, ending: str) -> None:
    assert filled.export(f"it.{ending}", where="tags match 'dog'") == 1
    assert Path(f"it.{ending}").stat().st_size > 48


def test_the_command_has_the_same_options(run: Run, three: Path) -> None:
    done = run("export", "--out", "it.parquet", "--where", "path like '%/1.png'", "--thumbnails", "32", "--map", "none")
    assert done.returncode == 0, done.stderr
    (row,) = pq.read_table(three / "it.parquet").to_pylist()
    assert row["path"] == "pictures/1.png"
    assert "x" not in row
    wrong = run("export", "--out", "it.xls")
    assert (wrong.returncode, ".faiss" in wrong.stderr) == (2, True)


def test_progress_counts_the_images_that_are_written(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add(folder)
    seen: list[tuple[int, int]] = []
    index.export(tmp_path / "vectors.npz", on_progress=lambda progress: seen.append((progress.done, progress.total)))
    assert seen == [(0, 12), (12, 12)]


def test_a_map_without_its_library_is_refused_before_the_work(
    index: ImageIndex, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(folder)
    monkeypatch.setitem(sys.modules, "umap", None)
    seen: list[int] = []
    with pytest.raises(ExtraMissing, match="umap-learn"):
        index.export(tmp_path / "a.parquet", map="umap", on_progress=lambda progress: seen.append(progress.done))
    assert seen == []
