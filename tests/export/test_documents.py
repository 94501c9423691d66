"""The JSON of answers: whole, in parts, and the same as that of the dataclasses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pictures import draw

from imgindex import ImageIndex
from imgindex.export import documents


def test_a_part_of_the_groups_has_the_numbers_that_it_has_in_the_whole(index: ImageIndex, tmp_path: Path) -> None:
    for number in range(4):
        for copy in ("a", "b"):
            draw(tmp_path / "pictures" / f"{number}{copy}.png", number)
    index.add(tmp_path / "pictures")
    found = index.duplicates(exact=True)
    whole = documents.duplicates(found)
    assert [group["group"] for group in whole["groups"]] == [1, 2, 3, 4]
    assert documents.duplicates(found, 1, 3) == {**whole, "groups": whole["groups"][1:3]}
    first = whole["groups"][0]
    assert first["keep"] == first["images"][0]["path"]
    assert [image["disposable"] for image in first["images"]] == [False, True]


def test_an_answer_has_the_fields_of_its_matches(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    (found,) = index.answers(index.paths()[0], n=2)
    assert documents.answer(found) == {"query": found.query, "matches": [asdict(match) for match in found.matches]}


def test_a_clustering_has_a_curve_only_where_k_was_chosen(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    given, chosen = index.cluster(3), index.cluster(range(2, 5))
    assert "curve" not in documents.clustering(given)
    assert [score["k"] for score in documents.clustering(chosen)["curve"]] == [2, 3, 4]
    assert documents.clusterings(index.clusterings)[0]["k"] == 3
