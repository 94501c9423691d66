"""Which images and failures a path names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from catalogue_images import image, record

from imgindex.errors import PathNotFound
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.named import Named, find_named
from imgindex.types import Failure

NFC, NFD = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))


def put(catalogue: Catalogue, *paths: str) -> None:
    first = len(list(catalogue.each_path()))
    for number, path in enumerate(paths, first):
        record(catalogue, image(path, number), 1, number, 0)


def test_a_path_names_the_image_at_it_and_those_below_it(catalogue: Catalogue) -> None:
    put(catalogue, "/a/1.jpg", "/a/b/2.jpg", "/ab/3.jpg", "/a")
    assert find_named(catalogue, ["/a"]) == Named([1, 2, 4], [], [])
    assert find_named(catalogue, ["/a/b/2.jpg", "/a/b"]) == Named([2], [], [])
    assert find_named(catalogue, ["/"]) == Named([1, 2, 3, 4], [], [])
    assert find_named(catalogue, ["/a/b", "/c", "/a/1.jpg/x"]) == Named([2], [], ["/c", "/a/1.jpg/x"])
    catalogue.set_present([2], False)
    assert find_named(catalogue, ["/a/b"]) == Named([], [], ["/a/b"])


def test_failures_are_named_where_they_are_asked_for(catalogue: Catalogue) -> None:
    catalogue.ledger.fail(Failure("/a/x.jpg", "read", "broken"))
    assert find_named(catalogue, ["/a"]) == Named([], [], ["/a"])
    assert find_named(catalogue, ["/a"], failures=True) == Named([], ["/a/x.jpg"], [])


def test_a_path_through_links_names_the_same_image(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/1.jpg").touch()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "file.jpg").symlink_to("folder/1.jpg")
    put(catalogue, f"{tmp_path}/real/1.jpg")
    for path in ("real", "folder", "folder/1.jpg", "file.jpg"):
        assert find_named(catalogue, [f"{tmp_path}/{path}"]).images == [1]


def test_an_image_that_was_found_through_a_link_is_named_by_its_real_path_and_by_other_links(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/1.jpg").touch()
    for name in ("one", "two"):
        (tmp_path / name).symlink_to("real")
    record(catalogue, image(f"{tmp_path}/one/1.jpg"), 1, 0, 0, real=catalogue.paths.stored(f"{tmp_path}/real/1.jpg"))
    for path in ("one", "two", "real", "two/1.jpg", "real/1.jpg"):
        assert find_named(catalogue, [f"{tmp_path}/{path}"]).images == [1]
        assert path.endswith(".jpg") or catalogue.find(f"{tmp_path}/{path}/1.jpg") is not None
    (tmp_path / "other.jpg").touch()
    assert catalogue.find(f"{tmp_path}/other.jpg") is None


def test_a_link_that_leads_elsewhere_now_is_no_longer_the_old_file(catalogue: Catalogue, tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").touch()
    (tmp_path / "link").symlink_to("old")
    record(catalogue, image(f"{tmp_path}/link/1.jpg"), 1, 0, 0, real=f"{tmp_path}/old/1.jpg")
    assert catalogue.find(f"{tmp_path}/old/1.jpg") is not None
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("new")
    assert catalogue.find(f"{tmp_path}/old/1.jpg") is None


def test_a_name_of_a_file_that_is_gone_is_found_in_either_unicode_form(catalogue: Catalogue) -> None:
    put(catalogue, f"/{NFD}/{NFD}.jpg", "/b.jpg")
    for path in (f"/{NFC}/{NFC}.jpg", f"/{NFD}/{NFC}.jpg", f"/{NFC}"):
        assert find_named(catalogue, [path, "/b.jpg"]).images == [1, 2]
    found = catalogue.find(f"/{NFC}/{NFC}.jpg")
    assert found is not None
    assert found[0] == f"/{NFD}/{NFD}.jpg"


def test_of_two_forms_each_names_itself_and_a_third_one_is_ambiguous(catalogue: Catalogue) -> None:
    put(catalogue, f"/{NFD}{NFD}.jpg", f"/{NFC}{NFC}.jpg")
    assert find_named(catalogue, [f"/{NFC}{NFC}.jpg"]).images == [2]
    assert find_named(catalogue, [f"/{NFD}{NFD}.jpg"]).images == [1]
    with pytest.raises(PathNotFound, match=r"e\\u0301e\\u0301.jpg' and .*xe9.*xe9.jpg'"):
        find_named(catalogue, [f"/{NFC}{NFD}.jpg"])


def test_the_images_below_a_few_folders_are_found_without_reading_those_of_others(catalogue: Catalogue) -> None:
    home = catalogue.paths.absolute(".")
    put(catalogue, "/a/1.jpg", "/a/\udcff.jpg", "/a0/2.jpg", "/a", "/\udcff/3.jpg", f"{home}/in/4.jpg", f"{home}/5.jpg")
    linked = image("/link/6.jpg", 7)
    record(catalogue, linked, 1, 7, 0, real=catalogue.paths.stored("/far/6.jpg"))

    def found(*below: str) -> list[str]:
        return [path for _, path, _ in catalogue.each_place(below)]

    assert found("/a") == ["/a/1.jpg", "/a/\udcff.jpg", "/a", "/link/6.jpg"]
    assert found("/\udcff", "/a0") == ["/a0/2.jpg", "/\udcff/3.jpg", "/link/6.jpg"]
    assert found(f"{home}/in") == [f"{home}/in/4.jpg", "/link/6.jpg"]
    assert found("/nothing", "/a/1.jpg/x") == ["/link/6.jpg"]
    everything = [path for _, path, _ in catalogue.each_place()]
    for folder in ("/", "", home, str(Path(home).parent)):
        assert found(folder, "/a") == everything
    assert found(*(f"/many/{number}" for number in range(200))) == everything
