"""All methods on images in archives: searched, compared, copied, tagged and drawn like files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from archived import files_below, pack
from collections_of import indexed
from grid_mean import GridMean, replace_encoder
from page_files import page_data
from pictures import draw
from textures import textured

from imgindex import ImageIndex
from imgindex.errors import UsageError
from imgindex.export.folders import link_folders
from imgindex.results import LabelFormat


@pytest.fixture(params=["deflated.zip", ".tar.gz"])
def archive(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An archive of the twelve pictures, which are nowhere else."""
    made = pack(tmp_path / f"set{request.param}", files_below(folder))
    shutil.rmtree(folder)
    return made


@pytest.fixture
def added(index: ImageIndex, archive: Path) -> ImageIndex:
    index.add(archive)
    return index


def test_a_member_is_a_query_whether_the_index_has_it_or_not(
    added: ImageIndex, archive: Path, encoder: GridMean
) -> None:
    (match, *_) = added.similar(f"{archive}/a/3.png", include_self=True)
    assert (match.path, match.distance) == (f"{archive}/a/3.png", 0)
    assert f"{archive}/a/3.png" not in [match.path for match in added.similar(f"{archive}/a/3.png")]
    added.remove(f"{archive}/a/3.png")
    embedded = encoder.embedded
    (match, *_) = added.similar(f"{archive}/a/3.png")
    assert match.path != f"{archive}/a/3.png"
    assert encoder.embedded == embedded + 1


@pytest.mark.parametrize("name", ["", "/a"])
def test_an_archive_is_no_query(added: ImageIndex, archive: Path, name: str) -> None:
    (answer,) = added.answers(f"{archive}{name}")
    assert answer.failure is not None
    assert "a folder or an archive" in answer.failure.reason


def test_a_condition_a_tag_and_an_export_name_members(added: ImageIndex, archive: Path, tmp_path: Path) -> None:
    where = f"path like '{archive.name}/a/%'"
    assert [image.id for image in added.images(where=where)] == [1, 2, 3, 4, 5, 6]
    assert added.tag("first", [archive / "a"]).images == 6
    (tmp_path / "table.csv").write_text("ImageID,age\n3,7\n")
    assert added.import_csv(tmp_path / "table.csv").images == 1
    assert [image.path for image in added.images(where="age = 7")] == [f"{archive}/a/3.png"]


def test_the_labels_of_members_fill_a_sample_submission(added: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "sample.csv").write_text("ImageID,label\n" + "".join(f"{number},0\n" for number in range(11, -1, -1)))
    clustering = added.cluster(k=2)
    like = (tmp_path / "sample.csv").read_text()
    added.write_labels(clustering, tmp_path / "out.csv", LabelFormat(like=like))
    lines = (tmp_path / "out.csv").read_text().split()
    assert [line.partition(",")[0] for line in lines] == ["ImageID", *map(str, range(11, -1, -1))]


def test_copies_are_made_of_members_and_links_refused(added: ImageIndex, archive: Path, tmp_path: Path) -> None:
    group = {"some": [f"{archive}/a/1.png", f"{archive}/b/7.png", f"{archive}/b/99.png"]}
    with pytest.raises(UsageError, match="in an archive") as caught:
        link_folders(tmp_path / "out", group)
    assert "`copy=True`" in caught.value.hint
    assert not (tmp_path / "out").exists()
    done = link_folders(tmp_path / "out", group, copy=True)
    assert [failure.path for failure in done.failures] == [f"{archive}/b/99.png"]
    copies = files_below(tmp_path / "out/some")
    assert sorted(copies) == ["1.png", "7.png"]
    assert copies["1.png"] == draw(tmp_path / "1.png", 1).read_bytes()
    assert len(link_folders(tmp_path / "out", group, copy=True).kept) == 2


def test_pages_and_sheets_show_members(added: ImageIndex, archive: Path, tmp_path: Path) -> None:
    page = added.gallery(list(added.each_answer([f"{archive}/a/3.png"])))
    page.write_html(tmp_path / "page.html")
    data = page_data(tmp_path / "page.html")
    assert sum(bool(picture) for picture, _, _ in data["pictures"]) >= 11
    # No link leads to what is no file.
    assert {item[-1] for item in data["items"]} == {""}
    assert len(page.write_sheet(tmp_path / "sheet.png")) == 1


def test_lookup_knows_members_and_looks_into_archives(added: ImageIndex, archive: Path, tmp_path: Path) -> None:
    files = {"same.png": draw(tmp_path / "x.png", 3).read_bytes(), "new.png": draw(tmp_path / "x.png", 55).read_bytes()}
    other = pack(tmp_path / "other.zip", files)
    found = added.lookup([other])
    assert [(Path(one.path).name, one.how) for one in found] == [("same.png", "same"), ("new.png", "new")]
    assert found[0].match == f"{archive}/a/3.png"


def test_lost_vectors_are_made_again_from_members(added: ImageIndex, archive: Path, encoder: GridMean) -> None:
    where, before = added.path, added.vectors().copy()
    added.close()
    segment = Path(where) / "segments/000001.vec"
    data = bytearray(segment.read_bytes())
    data[-10] ^= 1
    segment.write_bytes(data)
    report = ImageIndex.repair(where, encoder=encoder)
    assert (report.embedded, report.dropped) == (1, ())
    with ImageIndex.open(where) as index:
        assert (index.vectors() == before).all()
        replace_encoder(index, encoder)
        assert index.add(archive).unchanged == 12


@pytest.fixture
def doubled(tmp_path: Path) -> Iterator[ImageIndex]:
    """Three textures as files and in an archive, and one twice in the archive only."""
    for number in range(3):
        textured(number).save(tmp_path / f"x{number}.png")
        (tmp_path / "photos").mkdir(exist_ok=True)
    of = {"0.png": 0, "1.png": 1, "2.png": 2, "2b.png": 2}
    pack(tmp_path / "stored.zip", {name: (tmp_path / f"x{number}.png").read_bytes() for name, number in of.items()})
    for number in range(2):
        (tmp_path / f"x{number}.png").rename(tmp_path / f"photos/{number}.png")
    (tmp_path / "x2.png").unlink()
    with indexed(tmp_path, tmp_path / "photos", tmp_path / "stored.zip") as index:
        yield index


def test_members_are_never_disposable(doubled: ImageIndex, tmp_path: Path) -> None:
    found = doubled.duplicates()
    groups = sorted(sorted(str(Path(one.path).relative_to(tmp_path)) for one in group.images) for group in found.groups)
    assert groups == [
        ["photos/0.png", "stored.zip/0.png"],
        ["photos/1.png", "stored.zip/1.png"],
        ["stored.zip/2.png", "stored.zip/2b.png"],
    ]
    kept = sorted(str(Path(group.kept.path).relative_to(tmp_path)) for group in found.groups)
    assert kept == ["photos/0.png", "photos/1.png", "stored.zip/2.png"]
    assert [group.disposable for group in found.groups] == [()] * 3
    assert {one.protected for group in found.groups for one in group.others} == {
        "it is in an archive, from where no image can be moved"
    }
    assert doubled.move_duplicates(found, tmp_path / "away").files == ()


def test_files_whose_member_is_kept_can_be_moved_away(doubled: ImageIndex, tmp_path: Path) -> None:
    found = doubled.duplicates(prefer=["*/stored.zip/*"])
    assert sorted(Path(one.path).name for group in found.groups for one in group.disposable) == ["0.png", "1.png"]
    done = doubled.move_duplicates(found, tmp_path / "away")
    assert done.failures == ()
    assert len(done.files) == 2
    assert list((tmp_path / "photos").iterdir()) == []
