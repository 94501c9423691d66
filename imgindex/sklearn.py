"""ImageEmbedder: images to vectors as a step of a scikit-learn pipeline."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from imgindex.embedding.choice import choose, make_embedder
from imgindex.embedding.on_demand import embed_files
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import ExtraMissing, UnreadableImage, UsageError
from imgindex.images.fingerprint import read_content
from imgindex.types import Embedder, Engine, Vectors

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ExtraMissing(
        "imgindex.sklearn needs scikit-learn", hint="install it with `pip install 'imgindex[sklearn]'`"
    ) from error

ON_ERROR = ("raise", "nan")
# What Pillow writes into a PNG without losing anything.
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class ImageEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embed images by the network of a recipe; nothing is learned, `fit` chooses recipe and weights.

    X is a sequence (n,) of paths, PIL images or uint8 arrays (height, width[, 3 or 4]); a column (n, 1) of paths is
    one, too. Images are decoded and prepared exactly as `ImageIndex.add` does.

    recipe, size, weights: as `ImageIndex.create` takes them; device, precision, batch_size, workers: as Engine.
    on_error: raise (UnreadableImage, which names the image), or nan for a row of NaN in the place of its vector.

    recipe_: the Recipe, once fitted.
    """

    def __init__(  # noqa: PLR0913, PLR0917  scikit-learn reads the parameters of an estimator from here
        self,
        recipe: str = "auto",
        size: int | None = None,
        weights: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: str = "raise",
    ) -> None:
        self.recipe = recipe
        self.size = size
        self.weights = weights
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers
        self.on_error = on_error

    def fit(self, X: Any, y: Any = None) -> ImageEmbedder:  # noqa: N803  scikit-learn's name
        """Choose recipe and weights; the images are not read.

        Raises UsageError, WeightsUnavailable or WeightsMismatch.
        """
        if self.on_error not in ON_ERROR:
            raise UsageError(f"there is no on_error={self.on_error!r}", hint=f"choose one of: {', '.join(ON_ERROR)}")
        _images(X)
        choice = choose(self.recipe, size=self.size, weights=self.weights)
        self.recipe_: Recipe = choice.recipe
        engine = Engine(self.device, self.precision, self.batch_size, self.workers)
        self._network = _Network(choice.recipe, choice.weights.source, engine)
        return self

    def transform(self, X: Any) -> Vectors:  # noqa: N803
        """Return the vectors (n, dimension) of n images, float32.

        Raises UnreadableImage unless on_error is nan, and what the making of the embedder raises.
        """
        check_is_fitted(self)
        images = _images(X)
        vectors = np.full((len(images), self.recipe_.dimension), np.nan, dtype=np.float32)
        wrong: dict[int, UnreadableImage] = {}
        with closing(Decoders(self.recipe_)) as decoders:
            decoders.start()  # while torch is imported
            files, embedder = _files(images, wrong, self.on_error), self._network.embedder
            for place, found in embed_files(files, decoders=decoders, embedder=embedder, workers=self.workers):
                if isinstance(found, UnreadableImage):
                    wrong[place] = found
                    if self.on_error == "raise":
                        break
                else:
                    vectors[place] = found
        if wrong and self.on_error == "raise":
            first = min(wrong)
            raise UnreadableImage(f"cannot read {_name(images[first], first)}: {wrong[first].reason}") from wrong[first]
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


class _Network:
    """The embedder of a fitted estimator, made when it is first wanted; a copy and a pickle make their own."""

    def __init__(self, recipe: Recipe, weights: str, engine: Engine) -> None:
        self._recipe, self._weights, self._engine = recipe, weights, engine
        self._embedder: Embedder | None = None

    @property
    def embedder(self) -> Embedder:
        if self._embedder is None:
            self._embedder = make_embedder(self._recipe, {"weights": self._weights}, None, self._engine)
        return self._embedder

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_embedder": None}


def _images(X: Any) -> list[Any]:  # noqa: N803
    """Return the images of a sequence. Raises UsageError for what is none."""
    if isinstance(X, (str, bytes, os.PathLike, Image.Image)) or not isinstance(X, Iterable):
        raise UsageError("X is one image, or none", hint="give a list of paths, PIL images or uint8 arrays")
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and shape[1] == 1:
        X = np.asarray(X)[:, 0]  # noqa: N806  a table's only column
    images = list(X)
    for place, image in enumerate(images):
        if not isinstance(image, (str, os.PathLike, Image.Image)) and not _is_picture(image):
            raise UsageError(
                f"X[{place}] is no image but {type(image).__name__}", hint="give paths, PIL images or uint8 arrays"
            )
    return images


def _is_picture(image: Any) -> bool:
    """Whether it is an array of grey, RGB or RGBA pixels."""
    shape: tuple[int, ...] = getattr(image, "shape", ())
    coloured = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    return bool(coloured and 0 not in shape and getattr(image, "dtype", None) == np.uint8)


def _files(images: list[Any], wrong: dict[int, UnreadableImage], on_error: str) -> Iterator[tuple[int, bytes]]:
    """Yield the place and the bytes of every image that can be read."""
    for place, image in enumerate(images):
        try:
            data = read_content(os.path.abspath(image)).data if isinstance(image, (str, os.PathLike)) else _png(image)
        except UnreadableImage as unreadable:
            wrong[place] = unreadable
            if on_error == "raise":
                return
            continue
        yield place, data


def _png(image: Any) -> bytes:
    """Return an image in memory as a file, so that it goes the way of all others. Raises UnreadableImage."""
    file = io.BytesIO()
    try:
        picture = ImageOps.exif_transpose(image if isinstance(image, Image.Image) else Image.fromarray(image))
        picture = picture if picture.mode in MODES else picture.convert("RGB")
        picture.save(file, "png", compress_level=1)
    except Exception as error:  # a lazily opened picture may hold anything
        raise UnreadableImage(str(error) or type(error).__name__) from error
    return file.getvalue()


def _name(image: Any, place: int) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"X[{place}]"
