"""Tags and imported metadata: what they are put on, what is refused, and that they stay with their images."""

from __future__ import annotations

from pathlib import Path

import pytest
from grid_mean import GridMean
from pictures import contents, draw

from imgindex import ImageIndex, TagChange
from imgindex.errors import PathNotFound, UsageError


@pytest.fixture
def filled(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """The index of `pictures/a/0.png` … `pictures/b/11.png`, ids 1 … 12, seen from the folder that holds it."""
    index.add([folder])
    monkeypatch.chdir(folder.parent)
    return index


def tags_of(index: ImageIndex) -> dict[str, tuple[str, ...]]:
    return {Path(image.path).name: image.tags for image in index.images() if image.tags}


def table(index: ImageIndex, text: str | bytes) -> Path:
    path = Path(index.path).parent / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_tags_are_changed_by_ids_all_at_once_and_the_change_can_be_undone(filled: ImageIndex) -> None:
    filled.change_tags([1, 2], add="cat")
    changed = filled.change_tags([2, 3, 3], add=["keep", "cat"], remove="spare")
    assert changed == TagChange(2, {"keep": (2, 3), "cat": (3,)}, {"spare": ()})
    assert filled.change_tags([1, 2, 3], remove=["cat"]).removed == {"cat": (1, 2, 3)}
    for name, ids in changed.added.items():
        filled.change_tags(ids, remove=name)
    assert filled.tags() == {}


@pytest.mark.parametrize(
    ("ids", "add", "remove", "error"),
    [
        ([1, 99], "cat", (), PathNotFound),
        ([0], "cat", (), PathNotFound),
        ([1], ["cat", "a,b"], (), UsageError),
        ([1], (), " ", UsageError),
        ([1], "cat", "cat", UsageError),
    ],
)
def test_an_impossible_change_of_tags_changes_nothing(
    filled: ImageIndex, ids: list[int], add: str, remove: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        filled.change_tags(ids, add=add, remove=remove)
    assert filled.tags() == {}


def test_a_tag_is_put_on_images_and_folders_and_taken_off_again(filled: ImageIndex, folder: Path) -> None:
    report = filled.tag("cat", [folder / "a", folder / "b/6.png", folder / "a/0.png"])
    assert (report.tag, report.images, report.changed) == ("cat", 7, 7)
    assert filled.tag("cat", [folder / "a"]).changed == 0
    assert filled.tag("big dog", where="name = '0.png'").images == 1
    assert filled.tags() == {"cat": 7, "big dog": 1}
    assert tags_of(filled)["0.png"] == ("big dog", "cat")
    assert filled.tag("cat", where="name <> '0.png'", remove=True).changed == 6
    assert tags_of(filled) == {"0.png": ("big dog", "cat")}
    assert [image.id for image in filled.images(where="tags match 'cat'")] == [
        image.id for image in filled.images() if image.path.endswith("a/0.png")
    ]


@pytest.mark.parametrize("name", ["", " ", " cat", "cat ", "a,b", "a\nb", "x" * 101, "\udcff", "\0"])
def test_an_impossible_tag_is_refused(filled: ImageIndex, folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a tag"):
        filled.tag(name, [folder])
    assert filled.tags() == {}


def test_a_path_without_an_image_is_named_and_nothing_is_tagged(filled: ImageIndex, folder: Path) -> None:
    with pytest.raises(PathNotFound, match=r"no image at .*absent"):
        filled.tag("cat", [folder / "a", folder / "absent"])
    with pytest.raises(PathNotFound, match="no image at"):
        filled.tag("cat", [folder / "a/0"])
    with pytest.raises(UsageError):
        filled.tag("cat")
    with pytest.raises(UsageError):
        filled.tag("cat", [folder], where="1")
    assert filled.tags() == {}


def test_tags_stay_with_a_renamed_and_a_changed_image_and_go_with_a_removed_one(
    filled: ImageIndex, folder: Path
) -> None:
    filled.tag("cat", [folder / "a"])
    filled.import_csv(table(filled, "ImageID,Age\n0,1\n1,2\n2,3\n3,4\n"))
    (folder / "a/0.png").rename(folder / "b/moved.png")
    draw(folder / "a/1.png", 77)
    (folder / "a/2.png").unlink()
    filled.add([folder])
    filled.remove([folder / "a/3.png"])
    found = {Path(image.path).name: (image.tags, image.metadata) for image in filled.images() if image.tags}
    assert found == {
        "moved.png": (("cat",), {"Age": 1}),
        "1.png": (("cat",), {"Age": 2}),
        "4.png": (("cat",), {}),
        "5.png": (("cat",), {}),
    }
    assert filled.tags() == {"cat": 4}
    filled.compact()
    ImageIndex.repair(filled.path, encoder=GridMean())
    assert {Path(image.path).name for image in filled.images(where="tags match 'cat'")} == set(found)
    draw(folder / "a/2.png", 2)
    filled.add([folder])
    assert tags_of(filled)["2.png"] == ("cat",)
    assert [image.metadata for image in filled.images(where="name = '2.png'")] == [{"Age": 3}]


def test_a_table_is_joined_by_its_first_column_and_numbers_stay_numbers(filled: ImageIndex) -> None:
    text = (
        '\ufeffImageID,Age,Weight,Code,Say "it",Phone\n0,7,2.5,007,"a, ""b""\nc",+49\n11,-3,1e3,x,,\nnobody,1,1,1,1,1\n'
    )
    report = filled.import_csv(table(filled, text))
    assert report.columns == ("Age", "Weight", "Code", 'Say "it"', "Phone")
    assert (report.images, report.unknown) == (2, ("nobody",))
    described = {Path(image.path).stem: image.metadata for image in filled.images() if image.metadata}
    assert described == {
        "0": {"Age": 7, "Weight": 2.5, "Code": "007", 'Say "it"': 'a, "b"\nc', "Phone": "+49"},
        "11": {"Age": -3, "Weight": 1000.0, "Code": "x"},
    }
    assert [image.id for image in filled.images(where='"say ""it""" like \'a,%\' and age > 6')] == [1]


def test_a_later_table_replaces_only_the_values_it_has_whatever_the_case_of_its_columns(filled: ImageIndex) -> None:
    filled.import_csv(table(filled, "ImageID,Age,Place\n0,7,Oslo\n1,8,Rome\n"))
    filled.import_csv(table(filled, "ImageID,AGE\n0,9\n1,\n"))
    described = {Path(image.path).stem: image.metadata for image in filled.images() if image.metadata}
    assert described == {"0": {"Age": 9, "Place": "Oslo"}, "1": {"Place": "Rome"}}


@pytest.mark.parametrize(
    ("kind", "ids"),
    [("stem", ["0", "11"]), ("name", ["0.png", "11.png"]), ("path", ["pictures/a/0.png", "pictures/b/11.png"])],
)
def test_the_first_column_holds_the_kind_of_id_that_is_named(filled: ImageIndex, kind: str, ids: list[str]) -> None:
    report = filled.import_csv(table(filled, "id,n\n" + "".join(f"{id},1\n" for id in ids)), id=kind)
    assert (report.images, report.unknown) == (2, ())
    assert {Path(image.path).name for image in filled.images(where="n = 1")} == {"0.png", "11.png"}


WRONG = {
    b"": "not a CSV with a header",
    b"ImageID\n1\n": "header of at least two columns",
    b"ImageID,a\n1\n": "line 2 of .* has another number of columns than its header: 1, not 2",
    b'ImageID,a\n1,"x\ny"\n2\n': "line 4 of .* has another number of columns",
    b"ImageID," + b",".join(b"c%d" % n for n in range(1000)) + b"\n": "1,001 columns; a table may have 1,000",
    b"ImageID,a,A\n1,2,3\n": "the column 'A' twice",
    b"ImageID,\n1,2\n": "'' in the header of .* cannot be the name of a column",
    b"ImageID,a\n1,2\n1,3\n": "more than once",
    b"ImageID,a\n1,\xff\n": "not in UTF-8",
    b'ImageID,a\n1,"2\n': "is not a CSV",
    b"ImageID,a\n1," + b"x" * 100_001 + b"\n": "cannot be stored",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:20])
def test_a_file_that_is_not_a_table_is_refused_and_nothing_is_imported(filled: ImageIndex, text: bytes) -> None:
    before = contents(Path(filled.path))
    with pytest.raises(UsageError, match=WRONG[text]):
        filled.import_csv(table(filled, text))
    with pytest.raises(FileNotFoundError):
        filled.import_csv("absent.csv")
    assert contents(Path(filled.path)) == before


def test_images_with_one_id_are_named_and_nothing_is_imported(filled: ImageIndex, folder: Path) -> None:
    draw(folder / "c/0.png", 50)
    filled.add([folder])
    with pytest.raises(UsageError, match="have the same ImageID '0'"):
        filled.import_csv(table(filled, "ImageID,a\n1,2\n"))
    assert all(not image.metadata for image in filled.images())
