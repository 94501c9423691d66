"""Results as plain data: which duplicates can be deleted, tables of pandas, and the line that each prints of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from imgindex import ImageIndex, LabelFormat
from imgindex.results import Answer, Duplicates, KScore, Outliers, RepairReport, knee
from imgindex.types import Failure


def test_only_an_unchanged_copy_of_a_readable_image_is_disposable(index: ImageIndex, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "a/0.png").read_bytes())
    index.add([folder])
    (group,) = index.duplicates(exact=True).groups
    (other,) = group.others
    assert group.images == (group.kept, other)
    assert group.disposable == (other,)
    assert not replace(other, problem="changed since it was added").disposable
    assert not replace(other, how="same file").disposable
    assert replace(group, kept=replace(group.kept, problem="No such file")).disposable == ()


def curve(*objectives: float, first: int = 2) -> list[KScore]:
    return [KScore(k, objective, 0.0, 1.0) for k, objective in enumerate(objectives, first)]


def test_the_knee_is_where_the_objective_stops_falling_fast() -> None:
    assert knee(curve(0.9, 0.3, 0.25, 0.2)) == 3
    assert knee(curve(0.8, 0.6, 0.4, 0.2, 0.18, 0.16, 0.14)) == 5
    assert knee(curve(0.5, 0.3, 0.12, 0.11, 0.1, 0.09, first=10)) == 12
    # One cluster has all of the objective, so two may be the knee.
    assert knee(curve(0.1, 0.09, 0.08)) == 2


def test_a_curve_without_a_bend_has_no_knee() -> None:
    assert knee([]) is None
    assert knee(curve(0.5)) is None
    assert knee(curve(0.9, 0.8, first=5)) is None
    assert knee(curve(0.9, 0.8, 0.7, 0.6, first=5)) is None
    assert knee(curve(0.0, 0.0, 0.0, first=5)) is None
    assert knee(curve(0.1, 0.2, 0.3, first=5)) is None


def test_a_clustering_is_a_data_frame_with_a_row_an_image(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    index.cluster(2)
    clustering = index.clusterings.newest
    frame = clustering.to_frame()
    assert frame.columns.tolist() == ["id", "path", "label"]
    assert frame["path"].tolist() == clustering.paths
    assert frame["label"].tolist() == clustering.labels.tolist()
    index.clusterings.rename_cluster(0, "roses")
    named = index.clusterings.newest.to_frame()
    assert set(named["name"][named["label"] == 0]) == {"roses"}
    assert set(named["name"][named["label"] == 1]) == {""}


def test_images_are_a_data_frame_with_their_metadata(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add([folder])
    index.tag("cat", folder / "a")
    (tmp_path / "table.csv").write_text("ImageID,year,size\n0,1969,big\n1,1970,\n")
    index.import_csv(tmp_path / "table.csv")
    frame = index.to_frame()
    names = ["id", "path", "width", "height", "format", "size", "modified", "sha256", "tags", "metadata_size", "year"]
    assert frame.columns.tolist() == names
    assert frame["path"].tolist() == index.paths()
    assert frame["year"].tolist()[:2] == [1969, 1970]
    assert frame["metadata_size"].tolist()[0] == "big"
    assert frame["tags"].tolist()[0] == ("cat",)
    assert frame["modified"][0] == pd.Timestamp(Path(index.paths()[0]).stat().st_mtime_ns, tz="UTC")
    assert index.to_frame(where="tags match 'cat'")["path"].tolist() == [p for p in index.paths() if "/a/" in p]
    assert index.to_frame(where="width > 9999").columns.tolist() == names[:9]


def test_each_result_prints_itself_in_one_line(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "a/0.png").read_bytes())
    (folder / "broken.png").write_text("no picture")
    added = index.add([folder])
    assert repr(added).startswith("<AddReport: 14 found, 12 added, 1 reused, 1 failed, in ")
    one, other = index.cluster(2), index.cluster(2, seed=3)
    index.clusterings.rename_cluster(0, "roses")
    assert repr(one).startswith("<Clustering 1: 2 clusters of 13 images, sizes ")
    assert repr(index.cluster(10)).endswith("objective 0>") or ", …, objective" in repr(index.cluster(10))
    answer = index.answers([folder / "a/0.png"], n=3)[0]
    assert repr(answer).startswith(f"<Answer to {str(folder / 'a/0.png')!r}: 3 matches, the nearest '")
    found = index.duplicates(exact=True)
    assert repr(found) == "<Duplicates: 1 group with 2 of 13 images>"
    (tmp_path / "table.csv").write_text("ImageID,year\n0,1969\nnothing,1\n")
    results = [
        added,
        one,
        index.clusterings.newest,
        *index.clusterings,
        index.clusterings.diff(one.id or 0, other.id or 0),
        index.clusterings.evaluate(clustering=one.id),
        index.clusterings.assign(),
        answer,
        answer.matches[0],
        Answer("x", [], Failure("x", "read", "it is gone")),
        found,
        *found.groups,
        found.groups[0].kept,
        Duplicates((), 0, ()),
        index.move_duplicates(found, tmp_path / "spare", dry_run=True),
        index.trash_duplicates(found, dry_run=True),
        index.outliers(n=3),
        Outliers(),
        index.leak(folder / "a", folder / "b"),
        index.lookup(folder / "a/0.png")[0],
        index.compact(),
        index.tag("cat", folder / "a"),
        index.import_csv(tmp_path / "table.csv"),
        index.verify(),
        index.map(),
        index.gallery(one),
        index.gallery(found),
        RepairReport(("one",), 2, (Failure("x", "read", "it is gone"),), 1.0),
        LabelFormat(like="ImageID,label\n0,1\n"),
        next(iter(index)),
        index,
    ]
    for result in results:
        assert "\n" not in repr(result), repr(result)
        assert len(repr(result)) < 500, repr(result)
    assert "<2 lines>" in repr(results[-3])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_counted_has_its_number(number: int) -> None:
    noun = "image" if number == 1 else "images"
    assert repr(Duplicates((), number, ())) == f"<Duplicates: 0 groups with 0 of {number} {noun}>"
