"""What may be written over: nothing but what imgindex wrote, and only as long as it is as it was written."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import FileNotOurs, UsageError
from imgindex.export import targets
from imgindex.export.targets import IMAGE_ENDINGS, check_target, writing
from imgindex.results import LabelFormat


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty record of what was written."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/imgindex/written"


def write(path: Path, content: bytes = b"ours", **options: bool) -> None:
    with writing(str(path), **options) as file:
        file.write(content)


def test_a_file_of_ours_is_replaced_as_often_as_it_is_written(tmp_path: Path) -> None:
    for content in (b"one", b"two", b"three"):
        write(tmp_path / "a.csv", content)
    assert (tmp_path / "a.csv").read_bytes() == b"three"


@pytest.mark.parametrize("content", [b"ImageID,label\n0,0\n", b"x"])
def test_a_file_of_the_user_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(FileNotOurs, match=r"a\.csv exists") as error:
        write(tmp_path / "a.csv")
    assert error.value.exit_code == 2
    assert "`overwrite=True`" in error.value.hint
    assert (tmp_path / "a.csv").read_bytes() == content
    write(tmp_path / "a.csv", overwrite=True)
    write(tmp_path / "a.csv", b"again")


def test_a_file_of_ours_that_was_edited_renamed_or_copied_is_the_users(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    write(tmp_path / "b.csv", b"other")
    (tmp_path / "copy.csv").write_bytes(b"ours")
    (tmp_path / "b.csv").rename(tmp_path / "renamed.csv")
    with (tmp_path / "a.csv").open("ab") as file:
        file.write(b"and a line")
    for name in ("a.csv", "copy.csv", "renamed.csv"):
        with pytest.raises(FileNotOurs):
            write(tmp_path / name)


def test_an_empty_file_and_a_new_one_are_written(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    write(tmp_path / "empty.csv")
    write(tmp_path / "new.csv")


@pytest.mark.parametrize("ending", [*sorted(IMAGE_ENDINGS), ".JPG"])
def test_a_name_of_an_image_is_refused_even_where_there_is_no_file(tmp_path: Path, ending: str) -> None:
    with pytest.raises(FileNotOurs, match="ending of an image"):
        check_target(str(tmp_path / f"new{ending}"))
    check_target(str(tmp_path / f"new{ending}"), overwrite=True)
    check_target(str(tmp_path / f"new{ending}"), sheet=True)


def test_a_link_to_a_file_of_the_user_or_to_the_name_of_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    for name, target in (("a.csv", "mine.csv"), ("b.csv", "photo.jpg")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(FileNotOurs):
            write(tmp_path / name)
    os.link(tmp_path / "mine.csv", tmp_path / "hard.csv")
    with pytest.raises(FileNotOurs):
        write(tmp_path / "hard.csv")


def test_a_file_that_appears_or_is_edited_while_ours_is_written_stays(tmp_path: Path) -> None:
    for path in (tmp_path / "new.csv", tmp_path / "ours.csv"):
        if path.name == "ours.csv":
            write(path)
        with pytest.raises(FileNotOurs), writing(str(path)) as file:  # noqa: PT012
            file.write(b"later")
            path.write_text("of the user")
        assert path.read_text() == "of the user"
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"new.csv", "ours.csv"}


def test_without_a_record_files_of_ours_count_as_the_users(tmp_path: Path, state: Path) -> None:
    write(tmp_path / "a.csv")
    state.unlink()
    with pytest.raises(FileNotOurs):
        write(tmp_path / "a.csv")
    state.mkdir()  # it cannot be written to either
    write(tmp_path / "a.csv", overwrite=True)


def test_the_record_keeps_the_newest_files_and_no_names(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "MOST_BYTES", 1300)
    for number in range(50):
        write(tmp_path / f"secret{number}.csv", b"%d" % number)
    assert state.stat().st_size <= 1300
    assert b"secret" not in state.read_bytes()
    write(tmp_path / "secret49.csv")
    with pytest.raises(FileNotOurs):
        write(tmp_path / "secret0.csv")


def test_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append((tmp_path / "pipe.png").read_bytes()))
    reader.start()
    write(tmp_path / "pipe.png")
    reader.join(60)
    assert seen == [b"ours"]
    (tmp_path / "null.csv").symlink_to("/dev/null")
    write(tmp_path / "null.csv")
    write(Path("/dev/null"))


def test_an_open_file_of_the_process_is_continued_not_emptied(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        log.write(b"before\n")
        log.flush()
        write(Path(f"/dev/fd/{log.fileno()}"), b"after\n")
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{log.fileno()}")
        write(tmp_path / "link", b"through a link\n")
    assert (tmp_path / "log").read_bytes() == b"before\nafter\nthrough a link\n"


def test_other_spellings_of_a_name_mean_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / unicodedata.normalize("NFD", "café.csv")).write_text("mine")
    (tmp_path / "home.csv").write_text("mine")
    (tmp_path / "elsewhere/folder").mkdir(parents=True)
    (tmp_path / "elsewhere/mine.csv").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere/folder")
    for name in (str(tmp_path / "café.csv"), "~/home.csv", f"/{tmp_path}/home.csv", f"{tmp_path}/link/../mine.csv"):
        with pytest.raises(FileNotOurs), writing(name) as file:
            file.write(b"ours")
    assert {path.read_text() for path in tmp_path.rglob("*.csv")} == {"mine"}
    for _ in range(2):
        with writing("~/new.csv") as file:
            file.write(b"ours")
    assert (tmp_path / "new.csv").read_bytes() == b"ours"


# with an index


def test_images_of_the_index_are_refused_by_path_link_and_hard_link(index: ImageIndex, folder: Path) -> None:
    sheet = folder / "sheet.png"
    write(sheet, draw(folder.parent / "drawn.png", 3).read_bytes(), sheet=True)
    write(sheet, sheet.read_bytes(), sheet=True)
    index.add([folder])
    (folder / "link.png").symlink_to("sheet.png")
    os.link(sheet, folder / "hard.png")
    for name in ("sheet.png", "link.png", "hard.png"):
        with pytest.raises(FileNotOurs, match="image of the index"):
            check_target(str(folder / name), index=index.path, sheet=True)
    check_target(str(sheet), index=index.path, sheet=True, overwrite=True)


def test_the_index_itself_is_refused_even_with_overwrite(index: ImageIndex) -> None:
    for name in ("catalogue.db", "new.csv", "segments/x.npz"):
        with pytest.raises(UsageError, match="in the index itself"):
            check_target(os.path.join(index.path, name), index=index.path, overwrite=True)


def test_every_method_that_writes_takes_overwrite(filled: ImageIndex, tmp_path: Path) -> None:
    clustering = filled.cluster(2, label_format=LabelFormat(id="path"))
    page = filled.gallery(filled.outliers(n=2))
    methods = {
        "labels.csv": lambda out, **more: filled.write_labels(clustering, out, **more),
        "vectors.npz": filled.export,
        "page.html": page.write_html,
        "sheet.png": page.write_sheet,
    }
    for name, method in methods.items():
        out = tmp_path / name
        method(out)
        method(out)
        out.write_bytes(out.read_bytes() + b"edited")
        before = out.read_bytes()
        with pytest.raises(FileNotOurs):
            method(out)
        assert out.read_bytes() == before
        method(out, overwrite=True)
        assert out.read_bytes() != before
        image = Path(filled.paths()[0])
        before = image.read_bytes()
        with pytest.raises(UsageError):
            method(image)
        assert image.read_bytes() == before


def test_a_second_contact_sheet_is_checked_before_the_first_is_written(filled: ImageIndex, tmp_path: Path) -> None:
    from imgindex.gallery.builder import GalleryPage
    from imgindex.gallery.model import Section

    page = filled.gallery(filled.outliers(n=2))
    (card, *_) = page.page.sections()[0].cards

    class Tall:
        def sections(self) -> list[Section]:
            return [Section("many", [card] * 1000)]

    (tmp_path / "sheet-2.png").write_text("mine")
    with pytest.raises(FileNotOurs, match=r"sheet-2\.png"):
        GalleryPage(Tall()).write_sheet(tmp_path / "sheet.png")  # type: ignore[arg-type]
    assert not (tmp_path / "sheet.png").exists()
