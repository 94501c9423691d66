"""Which image of a group is kept and why, and which ones are not disposable."""

from __future__ import annotations

from pathlib import Path

from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex


def test_the_oldest_is_kept_on_request(gallery: ImageIndex) -> None:
    (group,) = gallery.duplicates(keep="oldest").groups
    assert Path(group.kept.path).name == "copy.png"
    assert group.why.startswith("oldest: 1970-01-01 ")
    assert [(Path(one.path).name, one.how) for one in group.others] == [("red.png", "same"), ("larger.png", "copy")]
    assert group.others[0].distance == 0
    assert group.others[0].why.startswith("another one is kept: oldest: 1970-01-01 ")


def test_an_unreadable_image_is_neither_kept_nor_disposable(gallery: ImageIndex, tmp_path: Path) -> None:
    gallery.duplicates()
    (tmp_path / "p/larger.png").unlink()
    draw(tmp_path / "p/b/copy.png", (1, 2, 3), (40, 40))
    (group,) = gallery.duplicates().groups
    assert Path(group.kept.path).name == "red.png"
    assert group.why == "the only one that can be read now"
    problems = {Path(one.path).name: one.problem for one in group.others}
    assert problems["larger.png"] == "No such file or directory"
    assert problems["copy.png"] == "changed since it was added: run `imgindex add`"
    assert group.disposable == ()
    (tmp_path / "p/a/red.png").unlink()
    (group,) = gallery.duplicates().groups
    assert group.why == "none of them can be read now"
    assert group.disposable == ()


def test_two_paths_of_one_file_are_not_disposable(tmp_path: Path) -> None:
    draw(tmp_path / "p/z.png", 3)
    (tmp_path / "p/a.png").symlink_to("z.png")
    (tmp_path / "p/hard.png").hardlink_to(tmp_path / "p/z.png")
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index.add([tmp_path / "p"])
        (group,) = index.duplicates(exact=True).groups
    assert Path(group.kept.path).name == "hard.png"
    assert {Path(one.path).name: one.same_file for one in group.others} == {"z.png": True}
    assert group.disposable == ()
