"""ImageEncoder: an estimator as scikit-learn expects it, which reads images as `add` does."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grid_mean import GridMean
from pictures import draw
from PIL import Image
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

import imgindex.sklearn
from imgindex import ImageIndex
from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.errors import ImgindexError, UnreadableImage, UsageError, WeightsMismatch
from imgindex.sklearn import ImageEncoder

SMALL = {"recipe": "vgg16-pool5", "size": 32}


@pytest.fixture
def encoder() -> ImageEncoder:
    return ImageEncoder(**SMALL)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return [str(draw(tmp_path / "p" / f"{number}.png", number, (40, 30))) for number in range(4)]


def test_vectors_are_those_of_an_index_of_the_same_recipe_and_weights(paths: list[str], tmp_path: Path) -> None:
    weights = load_weights(locate_weights("oxford"), shapes("pool5"))
    weights["features.0.weight"] = weights["features.0.weight"][:, ::-1].copy()  # so that they are other weights
    save_file(weights, tmp_path / "weights.safetensors")
    encoder = ImageEncoder(**SMALL, weights=str(tmp_path / "weights.safetensors"))
    with ImageIndex.create(
        tmp_path / "it", recipe="vgg16-pool5", size=32, weights=str(tmp_path / "weights.safetensors")
    ) as index:
        index.add([tmp_path / "p"])
        expected = dict(zip(index.paths(), index.vectors(), strict=True))
    vectors = encoder.fit_transform(paths)
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 512))
    np.testing.assert_allclose(vectors, np.stack([expected[path] for path in paths]), atol=2e-3)
    assert np.abs(vectors - ImageEncoder(**SMALL).fit_transform(paths)).max() > 0.02


def test_vectors_of_an_encoder_of_ones_own_are_those_of_its_index(paths: list[str], tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it", encoder=GridMean()) as index:
        index.add([tmp_path / "p"])
        expected = dict(zip(index.paths(), index.vectors(), strict=True))
    encoder = ImageEncoder(encoder=GridMean())
    vectors = encoder.fit_transform(paths)
    np.testing.assert_array_equal(vectors, np.stack([expected[path] for path in paths]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(paths), vectors)
    assert encoder.recipe_.network == "custom"
    with pytest.raises(UsageError, match="its own recipe"):
        ImageEncoder(size=32, encoder=GridMean()).fit(paths)


def test_a_path_a_pil_image_and_an_array_of_one_image_have_the_same_vector(
    encoder: ImageEncoder, paths: list[str]
) -> None:
    pictures = [Image.open(path) for path in paths]
    expected = encoder.fit_transform(paths)
    for images in (
        list(map(Path, paths)),
        np.array(paths),
        np.array(paths, dtype=object)[:, None],
        pd.Series(paths),
        pd.DataFrame({"path": paths}),
        pictures,
        [np.asarray(picture) for picture in pictures],
        np.stack([np.asarray(picture) for picture in pictures]),
        [paths[0], pictures[1], np.asarray(pictures[2]), Path(paths[3])],
        [picture.convert("CMYK") for picture in pictures[:0]] + pictures,
    ):
        np.testing.assert_allclose(encoder.transform(images), expected, atol=2e-3)
    grey = np.full((9, 9), 77, np.uint8)
    assert encoder.transform([grey, np.dstack([grey] * 4)]).shape == (2, 512)


def test_an_image_in_memory_is_rotated_by_its_exif_orientation_like_a_file(
    encoder: ImageEncoder, tmp_path: Path
) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    vectors = encoder.fit_transform([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")])
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_a_pipeline_learns_and_answers(encoder: ImageEncoder, tmp_path: Path) -> None:
    light = [str(draw(tmp_path / f"l{n}.png", (240 - n, 240, 240))) for n in range(4)]
    dark = [str(draw(tmp_path / f"d{n}.png", (n, 0, 0))) for n in range(4)]
    pipeline = Pipeline([("embed", encoder), ("knn", KNeighborsClassifier(1))])
    pipeline.fit(light[:3] + dark[:3], ["light"] * 3 + ["dark"] * 3)
    assert pipeline.predict([light[3], dark[3]]).tolist() == ["light", "dark"]
    names = pipeline[:1].get_feature_names_out()
    assert (len(names), names[0]) == (512, "imageencoder0")


def test_set_output_makes_pandas_tables(encoder: ImageEncoder, paths: list[str]) -> None:
    frame = encoder.set_output(transform="pandas").fit_transform(pd.Series(paths, index=list("abcd")))
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns[511] == "imageencoder511"


def test_copies_and_pickles_are_small_and_give_the_same_vectors(encoder: ImageEncoder, paths: list[str]) -> None:
    expected = encoder.fit_transform(paths)
    data = pickle.dumps(encoder)
    assert len(data) < 10_000
    np.testing.assert_array_equal(pickle.loads(data).transform(paths), expected)
    fresh = clone(encoder)
    assert fresh.get_params() == encoder.get_params() == {**ImageEncoder().get_params(), **SMALL}
    with pytest.raises(NotFittedError):
        fresh.transform(paths)
    check_is_fitted(encoder)


def test_an_image_that_cannot_be_read_is_named_or_becomes_a_row_of_nan(
    encoder: ImageEncoder, paths: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("this is not an image")
    images = [paths[0], str(tmp_path / "bad.jpg"), str(tmp_path / "absent.png"), paths[1]]
    with pytest.raises(UnreadableImage, match=r"cannot read .*(bad\.jpg|absent\.png)"):
        encoder.fit_transform(images)
    vectors = encoder.set_params(on_error="nan").fit_transform(images)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False]
    np.testing.assert_array_equal(vectors[[0, 3]], encoder.transform([paths[0], paths[1]]))
    assert encoder.transform([]).shape == (0, 512)


@pytest.mark.parametrize("wrong", ["a.png", b"a.png", None, 3, [3], [None], np.zeros((4, 5)), [np.zeros((2, 2, 2))]])
def test_x_that_is_not_a_sequence_of_images_is_refused(encoder: ImageEncoder, wrong: object) -> None:
    with pytest.raises(UsageError):
        encoder.fit(wrong)


def test_impossible_parameters_are_refused_by_fit(paths: list[str], tmp_path: Path) -> None:
    for parameters in ({"on_error": "ignore"}, {"recipe": "vgg19"}, {"recipe": "vgg16-pool5", "size": 33}):
        with pytest.raises(UsageError):
            ImageEncoder(**{**SMALL, **parameters}).fit(paths)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises((WeightsMismatch, ImgindexError)):
        ImageEncoder("vgg16-pool5", weights=str(tmp_path / "weights.safetensors")).fit(paths)


def test_check_estimator_passes(encoder: ImageEncoder) -> None:
    """Most of scikit-learn's checks are for estimators of matrices; this runs the few that need no X."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Can't test estimator")
        assert {check["status"] for check in check_estimator(encoder, on_skip=None)} == {"passed"}


class RowsAsImages(ImageEncoder):
    """Draws each row of a matrix as an image, so that the checks that need a matrix run too."""

    def fit(self, X, y=None):
        return super().fit(_drawn(validate_data(self, X)), y)

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(_drawn(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = False, True, False
        tags.no_validation = False
        return tags


def _drawn(rows: np.ndarray) -> list[np.ndarray]:
    greys = (255 / (1 + np.exp(-rows.astype(np.float64)))).astype(np.uint8)
    return [np.tile(row, (32, 1)) for row in greys]


class FastEncoder(GridMean):
    """Replaces the network, which these checks would load some hundred times."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        return np.tile(super().encode(batch), (1, 43))[:, :512]


def test_check_estimator_passes_when_rows_are_drawn_as_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.sklearn, "make_encoder", lambda *arguments: FastEncoder())
    checks = check_estimator(RowsAsImages(**SMALL), on_skip=None)
    assert len(checks) > 35
    assert {check["status"] for check in checks} <= {"passed", "skipped"}


def test_without_scikit_learn_the_error_names_the_package_to_install() -> None:
    script = """
import sys
sys.modules["sklearn"] = sys.modules["sklearn.base"] = None
from imgindex.errors import ExtraMissing
try:
    import imgindex.sklearn
except ExtraMissing as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "install it with `pip install scikit-learn`\n", done.stderr
