"""What runs on a node, tried in this process: the vectors of one machine, and a reason for each file without one."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from add_checks import spoil
from archived import pack
from pictures import draw

from imgindex import Engine, ImageIndex
from imgindex.encoders.registry import new_index_settings
from imgindex.errors import RecipeMismatch, SourceUnavailable, WeightsUnavailable
from imgindex.ingest.node_worker import NodeFile, NodeResult, NodeWorker
from imgindex.types import FoundFile

FP32 = Engine(precision="fp32", batch_size=4)


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return new_index_settings("vgg16-pool5", size=32, weights=None, store="fp32")


@pytest.fixture(scope="module")
def worker(settings: dict[str, str]) -> Iterator[NodeWorker]:
    made = make(settings)
    yield made
    made._decoders.close()


def make(settings: dict[str, str], *, recipe: str | None = None, weights: str | None = None) -> NodeWorker:
    return NodeWorker(recipe=recipe or settings["recipe"], settings=settings, weights=weights, engine=FP32, hashes=True)


def embed(worker: NodeWorker, paths: list[Path], known: dict[int, bytes] | None = None) -> list[NodeResult]:
    """The results for files, in the order of their numbers, as they arrive: through a pickle."""
    files = [FoundFile(str(path), 0, 0) for path in paths]
    asked = [NodeFile(number, file, (known or {}).get(number, b"")) for number, file in enumerate(files)]
    batch = pickle.loads(pickle.dumps(worker.embed(asked, True)))
    return sorted(batch.results, key=lambda result: result.number)


def test_its_vectors_are_those_of_one_machine_to_the_bit(worker: NodeWorker, folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.rglob("*.png"))
    results = embed(worker, paths)
    with ImageIndex.create(tmp_path / "it", recipe="vgg16-pool5", size=32, engine=FP32) as index:
        index.add(folder)
        expected = dict(zip(index.paths(), index.vectors(), strict=True))
    for path, result in zip(paths, results, strict=True):
        assert result.image is not None
        assert result.vector is not None
        assert (result.image.width, result.image.height, result.image.format) == (32, 32, "PNG")
        assert result.sha256 == hashlib.sha256(path.read_bytes()).digest() == result.image.sha256
        assert result.file.mtime_ns == path.stat().st_mtime_ns
        assert np.array_equal(result.vector, expected[str(path)])


def test_the_same_bytes_twice_and_members_of_archives_get_vectors(worker: NodeWorker, folder: Path) -> None:
    one, other = draw(folder / "one.png", 5), draw(folder / "other.png", 5)
    archive = pack(folder / "it.zip", {"deep/0.png": one.read_bytes()})
    results = embed(worker, [one, other, archive / "deep/0.png"])
    assert [result.failure for result in results] == [None, None, None]
    assert len({result.vector.tobytes() for result in results if result.vector is not None}) == 1


def test_known_content_needs_no_vector_and_changed_content_gets_one(worker: NodeWorker, folder: Path) -> None:
    same, changed = folder / "a/0.png", folder / "a/1.png"
    known = {0: hashlib.sha256(same.read_bytes()).digest(), 1: b"1" * 32}
    first, second = embed(worker, [same, changed], known)
    assert (first.image, first.vector, first.failure, first.sha256) == (None, None, None, known[0])
    assert second.vector is not None


def test_each_file_without_a_vector_has_its_reason(worker: NodeWorker, folder: Path) -> None:
    paths = [folder / "a/0.png", spoil(folder / "broken.jpg"), spoil(folder / "empty.jpg", ""), folder / "none.jpg"]
    good, broken, empty, missing = embed(worker, paths)
    assert good.failure is None
    assert broken.failure is not None
    assert broken.failure.stage == "decode"
    assert "not an image" in broken.failure.reason
    for result, reason in ((empty, "file is empty"), (missing, "No such file or directory")):
        assert result.failure is not None
        assert (result.failure.stage, result.failure.reason, result.sha256) == ("read", reason, b"")


def test_a_source_that_is_away_is_an_error_and_not_a_failure_of_each_file(
    worker: NodeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:1"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(SourceUnavailable, match="s3://bucket does not answer"):
        worker.embed([NodeFile(0, FoundFile("s3://bucket/0.jpg", 9, 9))], False)


def test_one_image_comes_with_its_pixels_where_that_is_asked_for(worker: NodeWorker, folder: Path) -> None:
    asked = [NodeFile(0, FoundFile(str(folder / "a/0.png"), 0, 0))]
    sample = worker.embed(asked, True).sample
    assert sample is not None
    assert sample.pixels.shape == (32, 32, 3)
    assert worker.embed(asked, False).sample is None


def test_a_node_without_the_weights_or_with_others_is_refused(settings: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="are missing"):
        make({**settings, "weights": str(tmp_path / "none.pth")})
    (tmp_path / "other.pth").write_bytes(b"other weights")
    with pytest.raises(RecipeMismatch, match="is not the weights file that this index was made with"):
        make(settings, weights=str(tmp_path / "other.pth"))


def test_it_says_what_keeps_it_busy(worker: NodeWorker) -> None:
    info = worker.describe()
    assert info.precision == "fp32"
    assert info.files_at_once % FP32.batch_size == 0
