"""What the other members of a WebDataset shard say of a picture, and that it becomes metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from archived import TARS, pack
from pictures import draw

from imgindex import ImageIndex
from imgindex.sources.archives.webdataset import MOST_BYTES, descriptions, is_description, metadata


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ({}, {}),
        ({".txt": "\ufeffa dog\n".encode()}, {"caption": "a dog"}),
        ({".txt": b"\xff\xfe"}, {}),
        ({".cls": b"12"}, {"cls": 12}),
        ({".cls": b"cat"}, {"cls": "cat"}),
        ({".json": b'{"a": 1, "b": 0.5, "c": "x", "d": null, "e": true}'}, {"a": 1, "b": 0.5, "c": "x", "e": 1}),
        ({".json": b'{"caption": "one"}', ".txt": b"two"}, {"caption": "one"}),
        ({".json": '{"tags": ["é", 1]}'.encode()}, {"tags": '["é", 1]'}),
        ({".json": b'{"id": 123456789012345678901234}'}, {"id": "123456789012345678901234"}),
        ({".json": b"[1]"}, {}),
        ({".json": b"{"}, {}),
        ({".json": b"[" * 60_000}, {}),
    ],
)
def test_fields_and_texts_are_values(texts: dict[str, bytes], found: dict[str, str | float]) -> None:
    assert metadata(texts) == found


def test_what_describes_a_picture_has_its_name_up_to_the_first_dot() -> None:
    assert descriptions("a.b/000.left.jpg") == {ending: f"a.b/000{ending}" for ending in (".json", ".txt", ".cls")}
    assert [is_description(*one) for one in (("a.json", 9), ("a.json", MOST_BYTES + 1), ("a.jpg", 9))] == [
        True,
        False,
        False,
    ]


def shard(path: Path, captions: dict[str, str]) -> Path:
    files: dict[str, bytes] = {}
    for number, (key, caption) in enumerate(captions.items()):
        fields = {"width": 32 + number, "url": f"https://example.org/{key}", "nan": float("nan"), "x" * 300: 1}
        files[f"{key}.cls"] = str(number).encode()
        files[f"{key}.png"] = draw(path.parent / "drawn.png", sum(key.encode())).read_bytes()
        files[f"{key}.json"] = json.dumps(fields).encode()
        files[f"{key}.txt"] = caption.encode()
    return pack(path, files)


@pytest.mark.parametrize("ending", TARS)
def test_a_shard_can_be_searched_by_its_captions_and_fields(index: ImageIndex, tmp_path: Path, ending: str) -> None:
    path = shard(tmp_path / f"000{ending}", {"000": "a brown dog", "001": "a cat", "002": "two dogs"})
    report = index.add(path)
    assert (report.added, report.failed) == (3, 0)
    assert [Path(image.path).name for image in index.images(where="caption match 'Dog'")] == ["000.png"]
    assert [Path(image.path).name for image in index.images(where="caption like '%dog%'")] == ["000.png", "002.png"]
    assert [Path(image.path).name for image in index.images(where="metadata_width > 32 and cls < 2")] == ["001.png"]
    (image, *_) = index.images()
    assert set(image.metadata) == {"caption", "cls", "width", "url"}


def test_a_description_that_changes_is_read_again_and_nothing_is_embedded(index: ImageIndex, tmp_path: Path) -> None:
    path = shard(tmp_path / "000.tar", {"000": "a brown dog", "001": "a cat"})
    index.add(path)
    index.encoder.own.embedded = 0  # type: ignore[attr-defined]
    shard(path, {"000": "a black dog", "001": "a cat"})
    assert index.add(path).unchanged == 2
    assert [image.metadata["caption"] for image in index.images()] == ["a black dog", "a cat"]
    assert index.encoder.own.embedded == 0  # type: ignore[attr-defined]


def test_pictures_with_equal_bytes_keep_their_own_captions(index: ImageIndex, tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn.png", 5).read_bytes()
    path = pack(tmp_path / "000.tar", {"0.png": data, "0.txt": b"one", "1.png": data, "1.txt": b"two", "2.png": data})
    index.add(path)
    assert [image.metadata for image in index.images()] == [{"caption": "one"}, {"caption": "two"}, {}]


def test_a_key_keeps_the_spelling_of_the_index(index: ImageIndex, tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn.png", 5).read_bytes()
    for key in ("Score", "score"):
        index.add(pack(tmp_path / f"{key}.tar", {"0.png": data, "0.json": f'{{"{key}": 3}}'.encode()}))
    assert len(list(index.images(where="score = 3"))) == 2
