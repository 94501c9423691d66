"""Which image of a group is kept and why, and which ones are not disposable."""

from __future__ import annotations

from pathlib import Path

from grid_mean import GRID_RECIPE, GridMean
from pictures import draw

from imgindex import ImageIndex


def test_the_oldest_is_kept_on_request(gallery: ImageIndex) -> None:
    (group,) = gallery.duplicates(distance=0.1, keep="oldest").groups
    assert Path(group.kept.path).name == "copy.png"
    assert group.why.startswith("oldest: 1970-01-01 ")
    assert [(Path(one.path).name, one.how) for one in group.others] == [("red.png", "exact"), ("larger.png", "near")]
    assert group.others[0].distance == 0


def test_an_unreadable_image_is_neither_kept_nor_disposable(gallery: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "p/larger.png").unlink()
    draw(tmp_path / "p/b/copy.png", (1, 2, 3), (40, 40))
    (group,) = gallery.duplicates(distance=0.1).groups
    assert Path(group.kept.path).name == "red.png"
    assert group.why == "the only one that can be read now"
    problems = {Path(one.path).name: one.problem for one in group.others}
    assert problems["larger.png"] == "No such file or directory"
    assert problems["copy.png"].startswith("changed since")
    assert group.disposable == ()
    (tmp_path / "p/a/red.png").unlink()
    (group,) = gallery.duplicates(distance=0.1).groups
    assert group.why == "none of them can be read now"
    assert group.disposable == ()


def test_a_file_is_kept_before_a_link_to_it_and_neither_is_disposable(tmp_path: Path) -> None:
    draw(tmp_path / "p/z.png", 3)
    (tmp_path / "p/a.png").symlink_to("z.png")
    (tmp_path / "p/hard.png").hardlink_to(tmp_path / "p/z.png")
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.encoder = GridMean()
        index.add([tmp_path / "p"])
        (group,) = index.duplicates(distance=0.1).groups
    assert Path(group.kept.path).name == "hard.png"
    # The link is not an image of its own.
    assert {Path(one.path).name: one.how for one in group.others} == {"z.png": "same file"}
    assert group.disposable == ()
