"""Encoders of the user's own: what they declare, which index accepts which, and what works without one."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoders_here import decode_here
from forking import Run
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.encoders.custom import AdaptedEncoder, adapted, custom_recipe
from imgindex.errors import EncoderMissing, ImgindexError, RecipeMismatch, UsageError
from imgindex.recipe import RECIPES


class Later(GridMean):
    digest = "1" * 64


class Unit(GridMean):
    norm = "l2"


@pytest.fixture
def home(index: ImageIndex, folder: Path) -> str:
    """The path of an index of twelve pictures, which was made by GridMean."""
    index.add([folder])
    index.close()
    return index.path


def test_an_index_keeps_what_its_encoder_declares(home: str, folder: Path) -> None:
    with ImageIndex.open(home, encoder=GridMean()) as index:
        recipe = index.status()["recipe"]
        assert (recipe["name"], recipe["network"], recipe["weights_sha256"]) == ("grid", "custom", GridMean.digest)
        assert (recipe["dimension"], recipe["side"], recipe["norm"]) == (12, 32, "none")
        draw(folder / "new.png", 77)
        assert index.add([folder]).added == 1
        np.testing.assert_array_equal(index.vector(folder / "new.png"), index.vectors()[-1])


@pytest.mark.parametrize(
    ("field", "value"), [("digest", "2" * 64), ("name", "other"), ("dimension", 13), ("side", 64), ("norm", "l2")]
)
def test_another_encoder_is_refused(home: str, field: str, value: Any) -> None:
    other = GridMean()
    setattr(other, field, value)
    with pytest.raises(RecipeMismatch, match=f"an encoder with the {field} .*, not {value}"):
        ImageIndex.open(home, encoder=other)


def test_an_index_of_a_recipe_is_opened_without_an_encoder(tmp_path: Path) -> None:
    ImageIndex.create(tmp_path / "it", size=32).close()
    with pytest.raises(RecipeMismatch, match="vgg16-pool5") as error:
        ImageIndex.open(tmp_path / "it", encoder=GridMean())
    assert "without `encoder`" in error.value.hint


def test_without_its_encoder_an_index_answers_from_what_it_has(home: str, folder: Path) -> None:
    draw(folder / "new.png", 77)
    with ImageIndex.open(home) as index:
        assert len(index.similar(folder / "a/0.png")) == 10
        assert len(index.similar(index.vectors()[3], n=4)) == 4
        assert sum(index.cluster(2).sizes) == len(index) == 12
        assert index.export(folder / "out.npz") == 12
        assert index.verify(full=True).ok
        assert index.lookup(folder / "a/0.png")[0].how == "same"
        for task in (lambda: index.similar(folder / "new.png"), lambda: index.add([folder]), lambda: index.encoder):
            with pytest.raises(EncoderMissing, match="grid") as error:
                task()
            assert "ImageIndex.open(path, encoder=...)" in error.value.hint
        assert len(index) == 12
        (folder / "new.png").unlink()
        assert index.add([folder]).unchanged == 12


def test_a_lost_vector_is_made_again_by_the_same_encoder(home: str, folder: Path) -> None:
    segment = Path(home, "segments/000001.vec")
    data = bytearray(segment.read_bytes())
    data[4096 + 50] ^= 1
    segment.write_bytes(data)
    with pytest.raises(EncoderMissing):
        ImageIndex.repair(home)
    with pytest.raises(RecipeMismatch, match="digest"):
        ImageIndex.repair(home, encoder=Later())
    assert ImageIndex.repair(home, encoder=GridMean()).embedded == 1


def test_the_command_line_says_in_one_line_what_needs_the_encoder(home: str, folder: Path, run: Run) -> None:
    draw(folder / "new.png", 77)
    at = ("--index", home)
    assert len(json.loads(run("similar", folder / "a/0.png", "--json", *at).stdout)[0]["matches"]) == 10
    assert len(json.loads(run("list", "--json", *at).stdout)) == 12
    assert "ImageID,label" in run("cluster", "-k", "2", "--format", "csv", *at).stdout
    status = run("status", *at).stdout
    assert "encoder" in status
    assert GridMean.digest[:12] in status
    lookup = ("lookup", folder / "new.png", "--similar", "--distance", "0.1")
    for command in (("add", folder), ("similar", folder / "new.png"), lookup):
        done = run(*command, *at)
        assert done.returncode == 1, done.stderr
        (line,) = (line for line in done.stderr.splitlines() if "grid" in line)
        assert "encoder" in line
        assert "Traceback" not in done.stderr
    done = run("add", folder, "--recipe", "vgg16-pool5", *at)
    assert done.returncode == 1
    assert "grid" in done.stderr


def test_the_vectors_of_an_encoder_with_the_norm_l2_have_length_1(tmp_path: Path, folder: Path) -> None:
    with ImageIndex.create(tmp_path / "it", encoder=Unit()) as index:
        index.add([folder])
        # The first picture is black, and a vector of zeros has no direction.
        np.testing.assert_allclose(np.linalg.norm(index.vectors(), axis=1), [0] + [1] * 11, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("digest", "abc", "digest"),
        ("digest", b"1" * 64, "digest"),
        ("digest", "A" * 64, "digest"),
        ("name", "", "name"),
        ("name", "two\nlines", "name"),
        ("name", "article", "name"),
        ("dimension", 0, "dimension"),
        ("dimension", 2.0, "dimension"),
        ("dimension", 1 << 30, "dimension"),
        ("side", -1, "side"),
        ("side", 100_000, "side"),
        ("norm", "l1", "norm"),
        ("norm", None, "norm"),
    ],
)
def test_an_impossible_declaration_is_refused(tmp_path: Path, field: str, value: object, problem: str) -> None:
    encoder = GridMean()
    setattr(encoder, field, value)
    with pytest.raises(UsageError, match=problem) as error:
        ImageIndex.create(tmp_path / "it", encoder=encoder)
    assert error.value.hint
    assert not (tmp_path / "it").exists()


def test_something_else_than_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a class"):
        ImageIndex.create(tmp_path / "it", encoder=GridMean)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="str has no name, digest"):
        ImageIndex.create(tmp_path / "it", encoder="clip")  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{"recipe": "article"}, {"size": 64}, {"weights": "random:1"}])
def test_an_encoder_is_given_alone(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="its own recipe"):
        ImageIndex.create(tmp_path / "it", encoder=GridMean(), **more)


@pytest.mark.parametrize("wrong", [np.zeros((12, 4)), np.zeros(12), np.zeros((4, 12), dtype=object)])
def test_what_is_no_array_of_vectors_is_refused(tmp_path: Path, folder: Path, wrong: np.ndarray) -> None:
    class Wrong(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            return wrong

    with ImageIndex.create(tmp_path / "it", encoder=Wrong()) as index:
        with pytest.raises(UsageError, match="the encoder grid returned an array of") as error:
            index.add([folder])
        assert "12)" in error.value.hint
        assert len(index) == 0


def test_an_error_of_the_encoder_reaches_the_caller(tmp_path: Path, folder: Path) -> None:
    class Broken(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            raise ConnectionError("the model server is down")

    with ImageIndex.create(tmp_path / "it", encoder=Broken()) as index:
        with pytest.raises(ConnectionError, match="server is down"):
            index.add([folder])
        assert len(index) == 0


def test_an_encoder_need_not_say_how_it_is_called(folder: Path, tmp_path: Path) -> None:
    class Bare:
        name, digest, dimension, side, norm = "bare", "0" * 64, 12, 32, "none"
        encode = GridMean.encode
        embedded = 0

    encoder = adapted(Bare(), custom_recipe(Bare()))
    assert (encoder.batch_size, encoder.streams, encoder.precision, encoder.device) == (32, 1, "fp32", "custom")
    assert encoder.fp32() is encoder
    with ImageIndex.create(tmp_path / "it", encoder=Bare()) as index:
        assert index.add([folder]).added == 12


def test_no_more_threads_call_an_encoder_than_it_has_streams() -> None:
    class Counting(GridMean):
        streams, inside, most = 2, 0, 0
        lock = threading.Lock()

        def encode(self, batch: np.ndarray) -> np.ndarray:
            with self.lock:
                type(self).inside += 1
                type(self).most = max(self.most, self.inside)
            found = super().encode(batch)
            threading.Event().wait(0.01)
            with self.lock:
                type(self).inside -= 1
            return found

    encoder = AdaptedEncoder(Counting(), custom_recipe(Counting()))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(encoder.encode, [np.zeros((1, 32, 32, 3), np.uint8)] * 16))
    assert Counting.most == 2


def test_a_pickled_index_takes_its_encoder_along(home: str, folder: Path) -> None:
    draw(folder / "new.png", 77)
    with ImageIndex.open(home, encoder=GridMean()) as index, pickle.loads(pickle.dumps(index)) as again:
        assert len(again.similar(folder / "new.png", n=3)) == 3


def test_the_encoder_of_an_open_index_cannot_be_changed(home: str) -> None:
    with ImageIndex.open(home) as index, pytest.raises(AttributeError):
        index.encoder = GridMean()  # type: ignore[misc]


def test_names_of_recipes_are_taken() -> None:
    for name in RECIPES:
        encoder = GridMean()
        encoder.name = name
        with pytest.raises(ImgindexError, match=name):
            custom_recipe(encoder)


def test_pictures_are_prepared_as_those_of_the_default_recipe(tmp_path: Path) -> None:
    seen = []

    class Seeing(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            seen.append(batch.copy())
            return super().encode(batch)

    draw(tmp_path / "p/wide.png", (10, 20, 200), (64, 32))
    with ImageIndex.create(tmp_path / "it", encoder=Seeing()) as index:
        index.add([tmp_path / "p"])
        data = (tmp_path / "p/wide.png").read_bytes()
        np.testing.assert_array_equal(seen[0][0], decode_here(index._decoders, data).pixels)
    assert seen[0].shape == (1, 32, 32, 3)
    assert seen[0].dtype == np.uint8
    assert tuple(seen[0][0, 16, 16]) == (10, 20, 200)
    assert tuple(seen[0][0, 0, 0]) == (255, 255, 255)
