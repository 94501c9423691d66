"""ImageEncoder: from images to vectors, as a step of a scikit-learn pipeline."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from imgindex.decoding.pool import DecoderPool
from imgindex.encoders.custom import adapted
from imgindex.encoders.encode_files import encode_files
from imgindex.encoders.registry import make_encoder, new_index_settings
from imgindex.errors import ExtraMissing, UnreadableImage, UsageError
from imgindex.recipe import DEFAULT, Recipe
from imgindex.sources.registry import read_content
from imgindex.storage.paths import absolute
from imgindex.types import CustomEncoder, Encoder, Engine, Vectors

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ExtraMissing(
        "imgindex.sklearn needs scikit-learn", hint="install it with `pip install scikit-learn`"
    ) from error

ON_ERROR = ("raise", "nan")
# The modes that Pillow writes to a PNG without loss.
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class ImageEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encode images with the network of a recipe; `fit` learns nothing, it chooses the recipe and its weights.

    X is a sequence (n,) of paths, PIL images or uint8 arrays (height, width[, 3 or 4]), or a column (n, 1) of paths.
    Images are decoded and transformed exactly as in `ImageIndex.add`.

    recipe, size, weights, encoder: as in `ImageIndex.create`. device, precision, batch_size, workers: as in `Engine`.
    on_error: raise for UnreadableImage, which names the image, or nan for a row of NaN instead of its vector.

    A fitted encoder has the attribute recipe_, a `Recipe`.

    >>> from imgindex.sklearn import ImageEncoder
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> encoder = ImageEncoder(recipe="vgg16-pool5", size=96)
    >>> pipeline = make_pipeline(encoder, KNeighborsClassifier(n_neighbors=1))
    >>> pipeline = pipeline.fit(["photos/cat.jpg", "photos/dog.jpg"], ["cat", "dog"])
    >>> pipeline.predict(["photos/cat.jpg"]).tolist()
    ['cat']
    """

    def __init__(
        self,
        recipe: str = DEFAULT,
        size: int | None = None,
        weights: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: str = "raise",
        encoder: CustomEncoder | None = None,
    ) -> None:
        self.recipe = recipe
        self.size = size
        self.weights = weights
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers
        self.on_error = on_error
        self.encoder = encoder

    def fit(self, X: Any, y: Any = None) -> ImageEncoder:  # noqa: N803  scikit-learn's name
        """Choose the recipe and its weights; the images are not read.

        Raises UsageError, WeightsUnavailable or WeightsMismatch.
        """
        if self.on_error not in ON_ERROR:
            raise UsageError(f"unknown on_error={self.on_error!r}", hint=f"choose one of: {', '.join(ON_ERROR)}")
        _image_list(X)
        settings = new_index_settings(
            self.recipe, size=self.size, weights=self.weights, store="fp32", encoder=self.encoder
        )
        self.recipe_: Recipe = Recipe.from_json(settings["recipe"])
        engine = Engine(self.device, self.precision, self.batch_size, self.workers)
        self._lazy_encoder = _LazyEncoder(self.recipe_, settings["weights"], engine, self.encoder)
        return self

    def transform(self, X: Any) -> Vectors:  # noqa: N803
        """Return the float32 vectors (n, dimension) of n images.

        Raises UnreadableImage unless on_error is nan, and DeviceUnavailable, WeightsUnavailable or RecipeMismatch when
        the encoder cannot be made.
        """
        check_is_fitted(self)
        images = _image_list(X)
        vectors = np.full((len(images), self.recipe_.dimension), np.nan, dtype=np.float32)
        failures: dict[int, UnreadableImage] = {}
        with closing(DecoderPool(self.recipe_)) as decoders:
            decoders.start()  # while the network is made
            files, encoder = _files(images, failures, self.on_error), self._lazy_encoder.get()
            for position, found in encode_files(files, decoders=decoders, encoder=encoder, workers=self.workers):
                if isinstance(found, UnreadableImage):
                    failures[position] = found
                    if self.on_error == "raise":
                        break
                else:
                    vectors[position] = found
        if failures and self.on_error == "raise":
            position = min(failures)
            failure = failures[position]
            raise UnreadableImage(f"cannot read {_name(images[position], position)}: {failure.reason}") from failure
        return vectors

    @property
    def _n_features_out(self) -> int:
        return self.recipe_.dimension

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        tags.no_validation = True
        return tags


class _LazyEncoder:
    """Makes the encoder of a fitted estimator on first use; a copy and a pickle make their own, and so stay small."""

    def __init__(self, recipe: Recipe, weights: str, engine: Engine, own: CustomEncoder | None) -> None:
        self._recipe, self._weights, self._engine, self._own = recipe, weights, engine, own
        self._encoder: Encoder | None = None

    def get(self) -> Encoder:
        if self._encoder is None and self._own is not None:
            self._encoder = adapted(self._own, self._recipe)
        if self._encoder is None:
            self._encoder = make_encoder(self._recipe, {"weights": self._weights}, None, self._engine)
        return self._encoder

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_encoder": None}


def _image_list(X: Any) -> list[Any]:  # noqa: N803
    """Return the images of a sequence. Raises UsageError when X is not a sequence of images."""
    if isinstance(X, (str, bytes, os.PathLike, Image.Image)) or not isinstance(X, Iterable):
        raise UsageError("X is not a sequence of images", hint="give a list of paths, PIL images or uint8 arrays")
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and shape[1] == 1:
        X = np.asarray(X)[:, 0]  # noqa: N806  the only column of a table
    images = list(X)
    for position, image in enumerate(images):
        if not isinstance(image, (str, os.PathLike, Image.Image)) and not _is_pixel_array(image):
            raise UsageError(
                f"X[{position}] is not an image: it is of type {type(image).__name__}",
                hint="give paths, PIL images or uint8 arrays",
            )
    return images


def _is_pixel_array(image: Any) -> bool:
    """Return whether this is an array of grey, RGB or RGBA pixels."""
    shape: tuple[int, ...] = getattr(image, "shape", ())
    coloured = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    return bool(coloured and 0 not in shape and getattr(image, "dtype", None) == np.uint8)


def _files(images: list[Any], failures: dict[int, UnreadableImage], on_error: str) -> Iterator[tuple[int, bytes]]:
    """Yield the position and the bytes of every image that can be read; put the others into `failures`."""
    for position, image in enumerate(images):
        try:
            data = read_content(absolute(image)).data if isinstance(image, (str, os.PathLike)) else _png(image)
        except UnreadableImage as error:
            failures[position] = error
            if on_error == "raise":
                return
            continue
        yield position, data


def _png(image: Any) -> bytes:
    """Return the bytes of a PNG, so that an image in memory is decoded as any file is. Raises UnreadableImage."""
    file = io.BytesIO()
    try:
        picture = ImageOps.exif_transpose(image if isinstance(image, Image.Image) else Image.fromarray(image))
        picture = picture if picture.mode in PNG_MODES else picture.convert("RGB")
        picture.save(file, "png", compress_level=1)
    except Exception as error:  # Pillow reads a file that it opened only now, which may raise anything
        raise UnreadableImage(str(error) or type(error).__name__) from error
    return file.getvalue()


def _name(image: Any, position: int) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"X[{position}]"
