"""Progress of duplicates, leak, lookup and outliers: from the start, in images, each stage to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collections_of import incoming_files, indexed, leaking_sets
from textures import textured, write

from imgindex import ImageIndex
from imgindex.types import Progress

COMMANDS: dict[str, Callable[[ImageIndex, Path, Any], object]] = {
    "duplicates": lambda index, folder, show: index.duplicates(on_progress=show),
    "duplicates, the sharpest": lambda index, folder, show: index.duplicates(keep="sharpest", on_progress=show),
    "duplicates, the same": lambda index, folder, show: index.duplicates(exact=True, on_progress=show),
    "leak": lambda index, folder, show: index.leak(folder / "train", folder / "test", on_progress=show),
    "lookup": lambda index, folder, show: index.lookup(folder / "incoming", on_progress=show),
    "outliers": lambda index, folder, show: index.outliers(n=3, on_progress=show),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_progress_counts_images_from_the_start_and_each_stage_ends(command: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with leaking_sets(tmp_path) as index:
        write(tmp_path / "known/original.png", textured(1, (96, 96)))
        incoming_files(tmp_path)
        COMMANDS[command](index, tmp_path, seen.append)
    assert (seen[0].done, seen[0].unit) == (0, "images")
    stages = dict.fromkeys(one.stage for one in seen)
    for stage in stages:
        of_stage = [one for one in seen if one.stage == stage]
        assert of_stage[0].done == 0, stage
        assert of_stage[-1].done == of_stage[-1].total, stage
        assert {one.unit for one in of_stage} == {"pairs" if stage == "compare pixels" else "images"}
    assert max(one.total for one in seen) >= 5


def test_pairs_are_counted_through_all_batches_up_to_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgindex.curation.duplicates.IMAGES_AT_ONCE", 1)
    for number in range(4):
        write(tmp_path / f"p/{number}.png", textured(number, (96, 96)))
        write(tmp_path / f"p/{number} again.jpg", textured(number, (96, 96)))
    seen: list[Progress] = []
    with indexed(tmp_path, tmp_path / "p") as index:
        found = index.duplicates(on_progress=seen.append)
    assert len(found.groups) == 4
    pairs = [one for one in seen if one.stage == "compare pixels"]
    assert [one.done for one in pairs] == sorted(one.done for one in pairs)
    assert (pairs[0].done, pairs[-1].done, pairs[-1].total) == (0, found.compared, found.compared)
    assert all(one.done < one.total for one in pairs if one.done < found.compared)


def test_the_first_report_of_an_empty_index_is_at_once(tmp_path: Path) -> None:
    seen: list[Progress] = []
    (tmp_path / "p").mkdir()
    with indexed(tmp_path, tmp_path / "p") as index:
        index.duplicates(on_progress=seen.append)
        index.outliers(on_progress=seen.append)
    assert {"read", "compare"} <= {one.stage for one in seen}
    assert {(one.done, one.total) for one in seen} == {(0, 0)}
