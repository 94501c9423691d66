"""Duplicates of pictures: how each is one, which is kept and why, turned ones, what the command prints and links."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collections_of import quarters
from conftest import GRID_RECIPE, GridMean, Run, contents, draw
from PIL import Image, ImageFilter

from imgindex import ImageIndex
from imgindex.answers.curation import Group
from imgindex.errors import UsageError

RED, GREEN, BLUE, BLACK = (250, 0, 0), (0, 250, 0), (0, 0, 250), (0, 0, 0)
NEAR_RED = (247, 3, 0)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    """Two copies of a red picture, one nearly so and larger, one turned and one mirrored; and a grey one alone."""
    folder = tmp_path / "p"
    quarters(folder / "a/red.png", RED, GREEN, BLUE, BLACK, time=3000)
    (folder / "b").mkdir()
    shutil.copy(folder / "a/red.png", folder / "b/copy.png")
    os.utime(folder / "b/copy.png", (2000, 2000))
    quarters(folder / "larger.png", NEAR_RED, GREEN, BLUE, BLACK, side=64, time=5000)
    quarters(folder / "turned.png", BLUE, RED, BLACK, GREEN, time=4000)
    quarters(folder / "mirrored.png", GREEN, RED, BLACK, BLUE, time=4000)
    draw(folder / "alone.png", (128, 128, 128))
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([folder])
        yield index


def only(groups: tuple[Group, ...]) -> dict[str, tuple[str, str]]:
    """Of the one group that there is: how each file is a duplicate, and how it was turned."""
    (group,) = groups
    return {Path(one.path).name: (one.how, one.turned) for one in group.images}


def test_each_image_says_how_it_duplicates_the_kept_one_and_how_far_it_is(gallery: ImageIndex) -> None:
    found = gallery.duplicates(distance=0.1)
    assert only(found.groups) == {"larger.png": ("kept", ""), "red.png": ("near", ""), "copy.png": ("near", "")}
    (group,) = found.groups
    assert group.why == "largest: 64 × 64 pixels, the next 32 × 32 pixels"
    vectors = dict(zip(gallery.paths(), gallery.vectors(), strict=True))
    for one in group.others:
        assert one.distance == pytest.approx(np.linalg.norm(vectors[one.path] - vectors[group.kept.path]), rel=1e-5)
    assert [Path(one.path).name for one in group.spare] == ["red.png", "copy.png"]


def test_the_oldest_is_kept_where_that_is_wished(gallery: ImageIndex) -> None:
    (group,) = gallery.duplicates(distance=0.1, keep="oldest").groups
    assert Path(group.kept.path).name == "copy.png"
    assert group.why.startswith("oldest: 1970-01-01 ")
    assert [(Path(one.path).name, one.how) for one in group.others] == [("red.png", "exact"), ("larger.png", "near")]
    assert group.others[0].distance == 0


def test_bytes_alone_need_no_distance(gallery: ImageIndex) -> None:
    found = gallery.duplicates(exact=True)
    assert only(found.groups) == {"red.png": ("kept", ""), "copy.png": ("exact", "")}
    assert found.distance is None
    assert found.groups[0].why == "as large as the next, 32 × 32 pixels, and before it in the index"


def test_a_recipe_whose_distances_nobody_measured_wants_one(gallery: ImageIndex) -> None:
    with pytest.raises(UsageError, match="no distance is calibrated") as error:
        gallery.duplicates()
    assert "--distance" in error.value.hint
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="no distance"):
            gallery.duplicates(distance=wrong)
    with pytest.raises(UsageError, match="no way to keep"):
        gallery.duplicates(distance=0.1, keep="prettiest")


@pytest.mark.parametrize(
    ("options", "turned"),
    [
        ({"rotations": True}, {"turned.png": "turned by 270°"}),
        ({"flips": True}, {"mirrored.png": "mirrored left to right"}),
        (
            {"rotations": True, "flips": True},
            {"turned.png": "turned by 270°", "mirrored.png": "mirrored left to right"},
        ),
    ],
)
def test_what_is_turned_or_mirrored_is_found_on_request_and_says_how(
    gallery: ImageIndex, options: dict[str, bool], turned: dict[str, str]
) -> None:
    found = only(gallery.duplicates(distance=0.1, **options).groups)
    assert {name: way for name, (_, way) in found.items() if way} == turned
    assert set(found) == {"larger.png", "red.png", "copy.png"} | set(turned)


def test_what_cannot_be_read_again_to_be_turned_is_a_failure_and_the_others_are_found(
    gallery: ImageIndex, tmp_path: Path
) -> None:
    (tmp_path / "p/alone.png").unlink()
    draw(tmp_path / "p/mirrored.png", (1, 2, 3), (40, 40))
    found = gallery.duplicates(distance=0.1, rotations=True)
    assert "turned.png" in only(found.groups)
    reasons = {Path(one.path).name: one.reason for one in found.failures}
    assert reasons.keys() == {"alone.png", "mirrored.png"}
    assert "imgindex add" in reasons["mirrored.png"]


def test_what_cannot_be_read_now_is_neither_kept_nor_offered_as_spare(gallery: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "p/larger.png").unlink()
    draw(tmp_path / "p/b/copy.png", (1, 2, 3), (40, 40))
    (group,) = gallery.duplicates(distance=0.1).groups
    assert Path(group.kept.path).name == "red.png"
    assert group.why == "the only one that can be read now"
    problems = {Path(one.path).name: one.problem for one in group.others}
    assert problems["larger.png"] == "No such file or directory"
    assert problems["copy.png"].startswith("changed since")
    assert group.spare == ()
    (tmp_path / "p/a/red.png").unlink()
    (group,) = gallery.duplicates(distance=0.1).groups
    assert group.why == "none of them can be read now"
    assert group.spare == ()


def test_a_link_is_not_kept_in_the_place_of_its_file_and_neither_is_spare(tmp_path: Path) -> None:
    draw(tmp_path / "p/z.png", 3)
    (tmp_path / "p/a.png").symlink_to("z.png")
    (tmp_path / "p/hard.png").hardlink_to(tmp_path / "p/z.png")
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([tmp_path / "p"])
        (group,) = index.duplicates(distance=0.1).groups
    assert Path(group.kept.path).name == "hard.png"
    assert {Path(one.path).name: one.how for one in group.others} == {"a.png": "same file", "z.png": "same file"}
    assert group.spare == ()


def test_the_sharpest_is_not_the_largest_where_that_is_blurred(tmp_path: Path, photos: Path) -> None:
    import tarfile

    with tarfile.open(photos / "photos-dev.tar") as tar:
        (name,) = [name for name in tar.getnames() if name.endswith("gc-fish10.webp")]
        (tmp_path / "p").mkdir()
        (tmp_path / "p/original.webp").write_bytes(tar.extractfile(name).read())
    with Image.open(tmp_path / "p/original.webp") as picture:
        picture.load()
    size = (2 * picture.width, 2 * picture.height)
    picture.filter(ImageFilter.GaussianBlur(3)).resize(size).save(tmp_path / "p/blurred.png")
    picture.resize((picture.width // 3, picture.height // 3)).save(tmp_path / "p/small.png")
    picture.save(tmp_path / "p/poor.jpg", quality=15)
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([tmp_path / "p"])
        (group,) = index.duplicates(distance=0.5, keep="sharpest").groups
        (largest,) = index.duplicates(distance=0.5).groups
    assert Path(group.kept.path).name == "original.webp"
    assert group.why.startswith("sharpest: 0.")
    assert Path(largest.kept.path).name == "blurred.png"
    measured = {Path(one.path).name: one.sharpness for one in group.images}
    assert sorted(measured, key=lambda name: -measured[name])[0:2] == ["original.webp", "poor.jpg"]


def test_an_empty_index_and_one_image_have_none(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        assert index.duplicates(distance=0.1, rotations=True).groups == ()
        draw(tmp_path / "p/0.png", 0)
        index.add([tmp_path / "p"])
        assert index.duplicates(distance=0.1, rotations=True, flips=True).groups == ()
        assert index.duplicates(exact=True).groups == ()


# the command


def test_the_command_prints_groups_for_people_and_whole_in_json(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    before = contents(tmp_path)
    table = run("duplicates", "--distance", "0.1", "--index", gallery.path)
    assert table.returncode == 0
    assert "1 group within 0.1 among 6 images; one can do without 2 files" in table.stderr
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["group", "image", "distance", "path", "pixels", "bytes", "remark"]
    assert lines[2].split()[:3] == ["1", "keep", "p/larger.png"]
    assert "largest: 64 × 64 pixels" in lines[2]
    near = gallery.duplicates(distance=0.1).groups[0].others[0].distance
    assert lines[3].split()[:4] == ["1", "near", f"{near:.4f}", "p/a/red.png"]
    found = json.loads(run("duplicates", "--distance", "0.1", "--json", "--index", gallery.path).stdout)
    assert (found["distance"], found["images"], found["failures"]) == (0.1, 6, [])
    (group,) = found["groups"]
    assert (group["group"], group["keep"]) == (1, "p/larger.png")
    assert [(one["path"], one["how"], one["spare"]) for one in group["images"]] == [
        ("p/larger.png", "kept", False),
        ("p/a/red.png", "near", True),
        ("p/b/copy.png", "near", True),
    ]
    lines = run("duplicates", "--distance", "0.1", "--format", "jsonl", "--index", gallery.path).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [group]
    rows = list(
        csv.DictReader(run("duplicates", "--exact", "--format", "csv", "--index", gallery.path).stdout.splitlines())
    )
    assert [(row["group"], row["how"], row["path"]) for row in rows] == [
        ("1", "kept", "p/a/red.png"),
        ("1", "exact", "p/b/copy.png"),
    ]
    assert contents(tmp_path) == before


def test_paths_are_those_that_one_can_do_without(gallery: ImageIndex, run: Run) -> None:
    result = run("duplicates", "--distance", "0.1", "--format", "paths", "--index", gallery.path)
    assert result.stdout == "p/a/red.png\np/b/copy.png\n"


def test_links_are_made_in_a_folder_for_each_group_and_told_in_a_dry_run(
    gallery: ImageIndex, run: Run, tmp_path: Path
) -> None:
    wanted = ("duplicates", "--distance", "0.1", "--index", gallery.path, "--link-to", "twice")
    told = run(*wanted, "--dry-run")
    assert told.returncode == 0
    assert told.stderr.count("would make") == 3
    assert not (tmp_path / "twice").exists()
    done = run(*wanted)
    assert (done.returncode, done.stdout) == (0, told.stdout)
    links = {path.name: os.readlink(path) for path in (tmp_path / "twice/001 larger").iterdir()}
    assert links == {
        "larger.png": "../../p/larger.png",
        "red.png": "../../p/a/red.png",
        "copy.png": "../../p/b/copy.png",
    }
    assert "3 made, 0 kept, 0 removed" in done.stderr
    assert "0 made, 3 kept, 0 removed" in run(*wanted).stderr
    again = run("duplicates", "--exact", "--index", gallery.path, "--link-to", "twice")
    assert "2 made, 0 kept, 3 removed" in again.stderr
    assert [path.name for path in (tmp_path / "twice").iterdir() if path.is_dir()] == ["001 red"]


def test_an_index_does_not_take_the_links_for_images(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    run("duplicates", "--exact", "--index", gallery.path, "--link-to", "p/twice")
    report = gallery.add([tmp_path / "p"])
    assert (report.found, report.added, report.reused) == (6, 0, 0)
    assert gallery.add([tmp_path / "p/twice"]).found == 2


@pytest.mark.parametrize(
    "arguments",
    [["--dry-run"], ["--exact", "--distance", "1"], ["--exact", "--flips"], ["--distance", "-1"], ["--keep", "x"]],
)
def test_what_cannot_be_meant_is_wrong_usage(gallery: ImageIndex, run: Run, arguments: list[str]) -> None:
    assert run("duplicates", *arguments, "--index", gallery.path).returncode == 2


def test_images_that_are_gone_cannot_be_linked_and_the_exit_code_says_so(
    gallery: ImageIndex, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "p/larger.png").unlink()
    result = run("duplicates", "--distance", "0.1", "--index", gallery.path, "--link-to", "twice")
    assert result.returncode == 3
    assert "failed: " in result.stderr
    assert "No such file or directory" in result.stdout


def test_without_turning_no_network_is_loaded(gallery: ImageIndex, run: Run) -> None:
    for command in (["duplicates", "--distance", "0.1"], ["leak", "p/a", "p/b", "--distance", "1"], ["outliers"]):
        result = run(*command, "--index", gallery.path, env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert result.returncode == 0
        imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
        assert "numpy" in imported
        assert imported.isdisjoint({"torch", "pandas"})
