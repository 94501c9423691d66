"""Real photographs and changed copies of them, with the network of the package: each group is of one photograph."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from forking import Run
from PIL import Image, ImageEnhance

KINDS = ("fish", "tree", "monument", "hammer")
EACH = 4
# Of each kind, photographs whose turned copies are looked for.
TURNED = 2


@pytest.fixture(scope="module")
def collection(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 photographs in `photos/`, and of each four changed copies in `copies/`.

    8 of them are in `upright/` too, enlarged, and two turned copies of each of these in `turned/`.
    """
    folder = tmp_path_factory.mktemp("copies")
    for name in ("photos", "copies", "upright", "turned"):
        (folder / name).mkdir()
    with tarfile.open(photos / "photos-dev.tar") as tar:
        for kind in KINDS:
            for number, name in enumerate(sorted(name for name in tar.getnames() if f"{kind}/" in name)[:EACH]):
                path = folder / "photos" / f"{kind}-{Path(name).name}"
                path.write_bytes(tar.extractfile(name).read())
                picture = flattened(path)
                change(picture, path.stem, folder / "copies")
                if number < TURNED:
                    # Larger than its turned copies, so that it is the one to keep.
                    picture.resize((2 * picture.width, 2 * picture.height)).save(
                        folder / "upright" / f"{path.stem}.png"
                    )
                    turn(picture, path.stem, folder / "turned")
    return folder


def flattened(path: Path) -> Image.Image:
    """A photograph on white, where it is a cut-out."""
    with Image.open(path) as opened:
        layer = opened.convert("RGBA")
    picture = Image.new("RGB", layer.size, "white")
    picture.paste(layer, mask=layer)
    return picture


def change(picture: Image.Image, name: str, folder: Path) -> None:
    width, height = picture.size
    x, y = width // 40, height // 40
    changed = {
        "encoded": (picture, 60),
        "larger": (picture.resize((2 * width, 2 * height)), 90),
        "cut": (picture.crop((x, y, width - x, height - y)), 90),
        "brighter": (ImageEnhance.Brightness(picture).enhance(1.15), 90),
    }
    for change, (copy, quality) in changed.items():
        copy.save(folder / f"{name}+{change}.jpg", quality=quality)


def turn(picture: Image.Image, name: str, folder: Path) -> None:
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / f"{name}+turned.jpg", quality=95)
    picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(folder / f"{name}+over.jpg", quality=95)


@pytest.fixture(scope="module")
def index(collection: Path) -> Path:
    from imgindex import ImageIndex

    where = collection / "it.imgindex"
    with ImageIndex.create(where, recipe="vgg16-pool5", size=160) as made:
        made.add([collection / "photos", collection / "copies"])
    return where


def photo(path: str) -> str:
    return Path(path).stem.partition("+")[0]


def test_changed_copies_are_found_and_no_other_photograph_is(run: Run, index: Path) -> None:
    found = json.loads(run("duplicates", "--json", "--index", index).stdout)
    assert {one["how"] for group in found["groups"] for one in group["images"]} == {"kept", "copy"}
    for group in found["groups"]:
        assert len({photo(one["path"]) for one in group["images"]}) == 1
    together = sum(len([one for one in group["images"] if "/copies/" in one["path"]]) for group in found["groups"])
    assert len(found["groups"]) == len(KINDS) * EACH
    assert together >= 0.95 * 4 * len(KINDS) * EACH
    # The photograph itself, or its enlarged copy, which has more pixels.
    kept = {Path(group["keep"]) for group in found["groups"]}
    assert all(path.parent.name == "photos" or path.stem.endswith("+larger") for path in kept)


def test_turned_copies_are_found_when_they_are_asked_for(run: Run, collection: Path) -> None:
    index = collection / "turned.imgindex"
    assert run("add", collection / "upright", collection / "turned", "--size", "96", "--index", index).returncode == 0
    found = json.loads(run("duplicates", "--rotations", "--flips", "--json", "--index", index).stdout)
    images = [one for group in found["groups"] for one in group["images"] if "/turned/" in one["path"]]
    assert all(len({photo(one["path"]) for one in group["images"]}) == 1 for group in found["groups"])
    assert len(images) == 2 * len(KINDS) * TURNED
    rotated = [one["turned"] for one in images if one["path"].endswith("+turned.jpg") and one["turned"]]
    assert set(rotated) == {"turned by 90°"}


def test_copies_of_a_training_set_in_a_test_set_fail_a_build(run: Run, index: Path, collection: Path) -> None:
    result = run("leak", collection / "photos", collection / "copies", "--fail-within", "0", "--json", "--index", index)
    assert result.returncode == 4
    pairs = json.loads(result.stdout)
    assert {photo(one["a"]) for one in pairs} == {path.stem for path in (collection / "photos").iterdir()}
    assert all(photo(one["a"]) == photo(one["b"]) for one in pairs)
