"""What is saved of a damaged catalogue, and what is refused before any query runs on it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from damaged_catalogues import HOSTILE, edit, repair
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged

PAGE = 4096


def change(home: Path, old: bytes, new: bytes) -> None:
    """Change bytes wherever they are in the catalogue."""
    path = home / "catalogue.db"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_repair_of_such_a_catalogue_keeps_the_images_and_nothing_foreign(home: Path, what: str) -> None:
    edit(home, *HOSTILE[what].split("; ") if what == "a view" else [HOSTILE[what]])
    if what == "another definition":
        with pytest.raises(IndexDamaged, match="no image can be read"):
            ImageIndex.repair(home, encoder=GridMean())
        return
    repair(home)
    with ImageIndex.open(home) as index:
        assert index.ids().tolist() == list(range(1, 13))
    with closing(sqlite3.connect(home / "catalogue.db")) as connection:
        kinds = {kind for (kind,) in connection.execute("select type from sqlite_master")}
    assert kinds == {"table", "index"}


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"pictures/a/3.png", b"pictures/a/4.png"), (b"pictures/a/3.png", b"pictures/X/3.png")],
)
def test_an_image_whose_path_was_changed_is_not_present_there_and_the_next_add_has_it(
    home: Path, folder: Path, old: bytes, new: bytes
) -> None:
    change(home, old, new)
    repair(home)
    with ImageIndex.open(home, encoder=GridMean()) as index:
        paths = {Path(path).name for path in index.paths()}
        assert "3.png" not in paths
        index.add([folder])
        assert len(index) == 12
        vectors = dict(zip([Path(path).name for path in index.paths()], index.vectors(), strict=True))
    np.testing.assert_array_equal(vectors["3.png"], np.float32(np.array([111, 303 % 256, 633 % 256] * 4) / 255))


def test_the_failures_are_found_again_by_the_next_add(home: Path, folder: Path) -> None:
    change(home, b"pictures/broken.jpg", b"pictures/broXen.jpg")
    repair(home)
    with ImageIndex.open(home) as index:
        assert list(index.failures()) == []
        index.add([folder])
        assert [Path(failure.path).name for failure in index.failures()] == ["broken.jpg"]


@pytest.mark.parametrize("value", ["'x'", "1e300", "x'00ff'", "-5", "1 << 60"])
@pytest.mark.parametrize("column", ["id", "path", "size", "segment", "row", "crc32", "width"])
def test_no_value_in_a_row_stops_a_repair(home: Path, folder: Path, column: str, value: str) -> None:
    edit(home, f"update images set {column} = {value} where path = 'pictures/b/7.png'") if column != "id" or value in (
        "-5",
        "1 << 60",
    ) else edit(home, f"update images set size = {value}, crc32 = {value} where id = 8")
    repair(home)
    with ImageIndex.open(home, encoder=GridMean()) as index:
        index.add([folder])
        assert sorted(Path(path).name for path in index.paths()) == sorted(f"{number}.png" for number in range(12))


def test_every_page_but_those_of_the_recipe_can_be_lost(home: Path, folder: Path) -> None:
    sound = (home / "catalogue.db").read_bytes()
    away = home.with_name("away.imgindex")
    outcomes, hints = set(), set()
    for start in range(0, len(sound), PAGE):
        shutil.rmtree(away, ignore_errors=True)
        shutil.copytree(home, away)
        (away / "catalogue.db").write_bytes(sound[:start] + os.urandom(PAGE) + sound[start + PAGE :])
        try:
            repair(away)
        except IndexDamaged as error:
            outcomes.add("refused")
            hints.add(error.hint.split(",")[0])
            assert (away / "segments/000001.vec").exists()
            continue
        outcomes.add("mended")
        with ImageIndex.open(away, encoder=GridMean()) as index:
            index.add([folder])
            assert len(index) == 12
    assert outcomes == {"mended", "refused"}
    assert hints == {"put catalogue.db back from a copy"}


@pytest.mark.parametrize("spoil", [b"", b"SQLite format 3\0" + bytes(PAGE - 16), b"garbage" * 1000])
def test_a_catalogue_that_has_lost_its_recipe_is_refused_with_the_way_out_and_left_alone(
    home: Path, spoil: bytes
) -> None:
    (home / "catalogue.db").write_bytes(spoil)
    segment = (home / "segments/000001.vec").read_bytes()
    with pytest.raises(IndexDamaged, match="lost its recipe") as caught:
        ImageIndex.repair(home, encoder=GridMean())
    assert "put catalogue.db back from a copy" in caught.value.hint
    assert (home / "segments/000001.vec").read_bytes() == segment
    assert (home / "catalogue.db").read_bytes() == spoil


def test_a_definition_that_is_not_text_any_more_is_damage(home: Path) -> None:
    """SQLite's message contains it, so Python's sqlite3 raises a UnicodeDecodeError."""
    change(home, b"CREATE INDEX images_by_content", b"CREATE INDEX images_by_conten\xce")
    with pytest.raises(IndexDamaged):
        ImageIndex.open(home)
    (home / "catalogue.db.crc32").unlink()
    with pytest.raises(IndexDamaged):
        ImageIndex.open(home)
    repair(home)


@pytest.fixture
def clustered(home: Path) -> Path:
    """The same index with two clusterings, a name in both, and an image that was put into the first one later."""
    with ImageIndex.open(home, encoder=GridMean()) as index:
        index.cluster(3)
        index.clusterings.rename_cluster(1, "others")
        index.cluster(3)
        draw(home.parent / "pictures/new.png", 3)
        index.add([home.parent / "pictures"])
        assert len(index.clusterings.assign(1).assigned) == 1
    return home


def test_clusterings_their_names_and_assigned_images_survive_a_repair(clustered: Path) -> None:
    with ImageIndex.open(clustered) as index:
        before = [index.clusterings[id] for id in (1, 2)]
    edit(clustered, HOSTILE["another index"])
    repair(clustered)
    with ImageIndex.open(clustered) as index:
        for kept in before:
            found = index.clusterings[kept.id]
            assert (found.paths, found.labels.tolist()) == (kept.paths, kept.labels.tolist())
            assert [cluster.name for cluster in found.clusters] == [None, "others", None]
        assert index.clusterings.assign(1).assigned == ()
        assert "others" in [cluster.name for cluster in index.cluster(3).clusters]


@pytest.mark.parametrize(
    "damage",
    [
        "update clusterings set members = x'00' where id = 1",
        "update clusterings set centroids = x'00000000' where id = 1",
        "update clusterings set receipt = '[]' where id = 1",
        "update clusterings set clusters = '[1, 2]' where id = 1",
        "delete from clusterings where id = 1",
    ],
)
def test_a_clustering_that_cannot_be_read_is_dropped_and_the_other_one_stays(clustered: Path, damage: str) -> None:
    edit(clustered, damage, HOSTILE["another index"])
    repair(clustered)
    with ImageIndex.open(clustered) as index:
        assert [one.id for one in list(index.clusterings)] == [2]
        assert index.clusterings[2].clusters[1].name == "others"
        assert len(index.clusterings.assign(2).assigned) == 1


def test_valid_tags_and_metadata_are_salvaged_and_stay_with_their_images(home: Path) -> None:
    table = home.parent / "table.csv"
    table.write_text("ImageID,Age,Place\n3,7,Oslo\n4,2.5,\n")
    with ImageIndex.open(home) as index:
        index.tag("cat", where="id in (4, 5)")
        index.tag("a dog", where="id = 4")
        index.import_csv(table)
        before = [(image.id, image.tags, image.metadata) for image in index.images()]
    edit(
        home,
        "update images set width = 5 where id = 1",
        "insert into tags values (4, x'00ff'), (4, 'a,b'), (4, ''), (99, 'nobody'), (5, cast(x'ff' as text))",
        "insert into metadata values (4, 'blob', x'00'), (4, '', 1), (99, 'Age', 1), (5, 'far', 9e999)",
    )
    repair(home)
    with ImageIndex.open(home) as index:
        after = [(image.id, image.tags, image.metadata) for image in index.images()]
        assert after == before
        assert index.tags() == {"cat": 2, "a dog": 1}
        assert index.verify(full=True).ok
