"""The precision receipt: measured against fp32 by the longer runs, kept, shown by status, never in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import GRID_RECIPE, GridMean, Run, draw

from imgindex import ImageIndex
from imgindex.adding import precision
from imgindex.errors import DeviceUnavailable


class Half(GridMean):
    """Says that it computes in bf16; its vectors are those of fp32 times `error`, number by number."""

    precision = "bf16"

    def __init__(self, error: float) -> None:
        super().__init__(batch_size=16)
        self.error = np.random.default_rng(0).uniform(1 - error, 1 + error, (1, 12)).astype(np.float32)

    def embed(self, batch: np.ndarray) -> np.ndarray:
        return super().embed(batch) * self.error

    def exact(self) -> GridMean:
        return GridMean()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(precision.LONG_RUN):
        draw(tmp_path / "many" / f"{number}.png", number, (2, 2))
    return tmp_path / "many"


def receipts(index: ImageIndex) -> list[dict[str, object]]:
    found: list[dict[str, object]] = index.status()["precision"]
    return found


def test_a_long_run_measures_half_precision_and_status_shows_it(index: ImageIndex, many: Path, run: Run) -> None:
    index.embedder = Half(1e-6)
    index.add([many])
    (receipt,) = receipts(index)
    assert (receipt["precision"], receipt["pictures"]) == ("bf16", 8)
    assert receipt["overlap"] >= 0.95  # some of these pictures are as near as others
    assert receipt["cosine"] == pytest.approx(1, abs=1e-6)
    shown = run("status", "--index", index.path).stdout
    assert f"bf16: {receipt['overlap']:.1%} of the 10 nearest are those of fp32" in shown
    assert index.verify(full=True).ok


def test_a_precision_that_changes_answers_shows(index: ImageIndex, many: Path) -> None:
    index.embedder = Half(0.5)
    index.add([many])
    (receipt,) = receipts(index)
    assert receipt["overlap"] < 0.9
    assert 0 < receipt["cosine"] < 0.99


def test_receipts_of_several_runs_are_put_together(index: ImageIndex, many: Path) -> None:
    index.embedder = Half(1e-6)
    index.add([many])
    index.embedder = Half(0.5)
    for number in range(precision.LONG_RUN):
        draw(many / "more" / f"{number}.png", precision.LONG_RUN + number, (2, 2))
    index.add([many])
    (receipt,) = receipts(index)
    assert receipt["pictures"] == 16
    assert 0.4 < receipt["overlap"] < 0.95
    assert receipt["cosine"] < 0.99


def test_short_runs_and_fp32_measure_nothing(index: ImageIndex, folder: Path, many: Path, run: Run) -> None:
    index.embedder = Half(1e-6)
    index.add([folder])
    assert receipts(index) == []
    index.embedder = GridMean()
    index.add([many])
    assert receipts(index) == []
    assert "nearest are those of fp32" not in run("status", "--index", index.path).stdout


def test_where_fp32_does_not_fit_the_run_is_done_without_a_receipt(tmp_path: Path, many: Path) -> None:
    class Cramped(Half):
        def exact(self) -> GridMean:
            raise DeviceUnavailable("cuda has no memory for a single picture")

    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = Cramped(1e-6)
        assert index.add([many]).added == precision.LONG_RUN
        assert receipts(index) == []


def test_where_fp32_is_slow_fewer_samples_do(index: ImageIndex, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "LONGEST_SECONDS", 0.0)
    monkeypatch.setattr(precision, "LONGEST_SHARE", 0.0)
    index.embedder = Half(1e-6)
    index.add([many])
    assert receipts(index)[0]["pictures"] == 2


def test_a_sample_that_the_network_gave_no_finite_vector_is_left_out(tmp_path: Path, many: Path) -> None:
    class Spoiling(Half):
        def embed(self, batch: np.ndarray) -> np.ndarray:
            vectors = super().embed(batch)
            if self.embedded == len(batch):
                vectors[0] = np.nan  # the first picture of the run, which is its first sample
            return vectors

    draw(many / "one more.png", (200, 3, 77), (2, 2))
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = Spoiling(1e-6)
        report = index.add([many])
        assert (report.added, report.failed) == (precision.LONG_RUN, 1)
        assert receipts(index)[0]["pictures"] == 7
