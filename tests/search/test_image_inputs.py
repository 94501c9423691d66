"""Images that a caller has in memory are answered as their files are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import draw
from PIL import ExifTags, Image

from imgindex import ImageIndex
from imgindex.errors import UnreadableImage, UsageError
from imgindex.search.image_inputs import InMemory, as_input, is_single

MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "I;16B",
)


@pytest.fixture
def filled(index: ImageIndex, folder: Path) -> ImageIndex:
    index.add([folder])
    return index


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A picture that the index does not have."""
    draw(tmp_path / "elsewhere/new.png", (190, 80, 30), (48, 36))
    return tmp_path / "elsewhere/new.png"


def test_every_form_of_a_picture_has_the_vector_of_its_file(filled: ImageIndex, new: Path) -> None:
    wanted = filled.vector(new)
    picture = Image.open(new)
    with new.open("rb") as file:
        forms: list[Any] = [str(new), new.read_bytes(), bytearray(new.read_bytes()), file, picture]
        forms += [np.asarray(picture.convert("RGB")), np.asarray(picture.convert("RGBA")), wanted]
        for form in forms:
            np.testing.assert_array_equal(filled.vector(form), wanted)
    assert wanted.shape == (filled.recipe.dimension,)
    assert [match.id for match in filled.similar(picture, n=3)] == [match.id for match in filled.similar(new, n=3)]


def test_a_list_of_images_has_a_list_for_each(filled: ImageIndex, new: Path) -> None:
    one, other = filled.paths()[0], Image.open(new)
    assert filled.similar([one, other], n=2) == [filled.similar(one, n=2), filled.similar(other, n=2)]
    assert filled.similar([other], n=2) == [filled.similar(other, n=2)]
    assert filled.similar([]) == []
    vectors = filled.vector([one, other])
    np.testing.assert_array_equal(vectors, [filled.vector(one), filled.vector(other)])
    np.testing.assert_array_equal(filled.vector(vectors), vectors)
    pictures = np.stack([np.asarray(other.convert("RGB"))] * 2)
    np.testing.assert_array_equal(filled.vector(pictures), [vectors[1]] * 2)
    assert filled.vector([]).shape == (0, filled.recipe.dimension)
    assert [answer.query for answer in filled.answers([one, other], n=1)] == [one, "<picture of 48 × 36>"]


def test_the_bytes_of_an_image_of_the_index_have_its_stored_vector_and_may_match_it(filled: ImageIndex) -> None:
    path = filled.paths()[3]
    (match,) = filled.similar(Path(path).read_bytes(), n=1)
    assert (match.path, match.distance) == (path, 0.0)
    assert filled.encoder.own.embedded == len(filled)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_any_mode_is_taken_as_its_file_would_be(filled: ImageIndex, mode: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 48 * 36).reshape(36, 48).astype(np.uint8)
    colour = Image.fromarray(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]]))
    if mode.startswith("I;16"):
        picture = Image.frombytes("I;16", (48, 36), (ramp.astype("<u2") * 257).tobytes())
        picture = picture.convert("I").convert(mode) if mode != "I;16" else picture
    elif mode in ("La", "RGBa"):
        picture = colour.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    elif mode == "PA":
        picture = colour.convert("P").convert("PA")
    elif mode == "LAB":
        picture = Image.merge("LAB", colour.split())
    else:
        picture = colour.convert(mode)
    assert picture.mode == mode
    vector = filled.vector(picture)
    assert np.isfinite(vector).all()
    # As bright as its file, or, where no format has the mode, as the picture in a mode that one has.
    saved, file = picture, tmp_path / "saved.tif"
    if mode in ("La", "RGBa", "HSV", "PA"):
        saved, file = picture.convert({"La": "LA", "HSV": "RGB"}.get(mode, "RGBA")), tmp_path / "saved.png"
    if mode == "I;16B":
        saved = picture.convert("I")
    saved.save(file)
    np.testing.assert_allclose(vector, filled.vector(file), atol=0.02)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_orientation_of_a_picture_is_applied(filled: ImageIndex, orientation: int, tmp_path: Path) -> None:
    draw(tmp_path / "o.png", (220, 60, 20), (48, 36))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    upright = Image.open(tmp_path / "o.png").convert("RGB")
    upright.paste((0, 0, 255), (0, 0, 24, 18))
    file = io.BytesIO()
    upright.save(file, "JPEG", quality=95, exif=exif)
    opened = Image.open(io.BytesIO(file.getvalue()))
    np.testing.assert_allclose(filled.vector(opened), filled.vector(file.getvalue()), atol=0.02)


def test_an_image_in_memory_is_looked_up(filled: ImageIndex, new: Path) -> None:
    known = Path(filled.paths()[0])
    results = filled.lookup([Image.open(new), known.read_bytes(), known, np.asarray(Image.open(known).convert("RGB"))])
    assert [result.how for result in results[:3]] == ["same", "new", "same"]
    assert [result.path for result in results[:2]] == [str(known), "<picture of 48 × 36>"]
    assert results[2].match == str(known)
    with pytest.raises(UsageError, match="vector cannot be looked up"):
        filled.lookup(filled.vector(known))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (7, "an object of the type int is not an image"),
        (None, "NoneType"),
        (np.zeros(5, np.float32), "has 5 numbers, and those of this index have 12"),
        (np.full(12, np.nan), "not finite"),
        (np.zeros((4, 4, 3), np.float32), "float32 \\(4, 4, 3\\) is neither"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 2), np.uint8), "neither a picture nor a vector"),
        (b"", "has no bytes"),
        (io.StringIO("text"), "gives text"),
        ([7], "an object of the type int is not an image"),
        ({"a": 1}.values(), "an object of the type int is not an image"),
    ],
    ids=[
        "number",
        "none",
        "short vector",
        "not finite",
        "floats",
        "no pixels",
        "two channels",
        "no bytes",
        "text",
        "a list",
        "values",
    ],
)
def test_what_is_not_an_image_is_refused_with_what_is_accepted(filled: ImageIndex, image: Any, words: str) -> None:
    for method in (filled.vector, filled.similar, filled.lookup):
        with pytest.raises(UsageError, match=words):
            method(image)


def test_bytes_that_are_not_a_picture_are_an_unreadable_image(filled: ImageIndex) -> None:
    for method in (filled.vector, filled.similar):
        with pytest.raises(UnreadableImage, match="cannot read <9 bytes>: not an image"):
            method(b"no image.")
    assert [result.how for result in filled.lookup([b"no image."])] == ["failed"]


def test_one_image_is_told_from_several() -> None:
    single: list[Any] = ["a", Path("a"), b"a", io.BytesIO(b"a"), np.zeros(3), np.zeros((2, 2, 3), np.uint8)]
    single += [np.zeros((2, 2), np.uint8), Image.new("L", (1, 1)), 5]
    assert all(map(is_single, single))
    assert not any(map(is_single, [["a"], ("a", "b"), iter("a"), np.zeros((2, 3)), np.zeros((2, 2, 2, 3), np.uint8)]))
    given = as_input(b"abc", 3)
    assert isinstance(given, InMemory)
    assert as_input(given, 3) is given
