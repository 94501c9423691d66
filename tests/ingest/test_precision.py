"""The precision report: measured against fp32 by the longer runs, kept, shown by status, never in the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from forking import Run
from grid_mean import GridMean, replace_encoder
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import DeviceUnavailable
from imgindex.ingest import precision


class Half(GridMean):
    """Says that it computes in bf16; its vectors are those of fp32 times `error`, number by number."""

    precision = "bf16"

    def __init__(self, error: float) -> None:
        super().__init__(batch_size=16)
        self.error = np.random.default_rng(0).uniform(1 - error, 1 + error, (1, 12)).astype(np.float32)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        return super().encode(batch) * self.error

    def fp32(self) -> GridMean:
        return GridMean()


@pytest.fixture(autouse=True)
def _measured_on_a_busy_machine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "FP32_TIMES", 0)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(precision.MIN_EMBEDDED):
        draw(tmp_path / "many" / f"{number}.png", number, (2, 2))
    return tmp_path / "many"


def measurements(index: ImageIndex) -> list[dict[str, object]]:
    found: list[dict[str, object]] = index.status()["precision"]
    return found


def test_a_long_run_measures_half_precision_and_status_shows_it(index: ImageIndex, many: Path, run: Run) -> None:
    replace_encoder(index, Half(1e-6))
    index.add([many])
    (measurement,) = measurements(index)
    assert (measurement["precision"], measurement["pictures"]) == ("bf16", 8)
    assert measurement["overlap"] >= 0.95  # some of these pictures are as near as others
    assert measurement["cosine"] == pytest.approx(1, abs=1e-6)
    shown = run("status", "--index", index.path).stdout
    assert f"bf16: {measurement['overlap']:.1%} of the 10 nearest are those of fp32" in shown
    assert index.verify(full=True).ok


def test_a_precision_that_changes_answers_shows(index: ImageIndex, many: Path) -> None:
    replace_encoder(index, Half(0.5))
    index.add([many])
    (measurement,) = measurements(index)
    assert measurement["overlap"] < 0.9
    assert 0 < measurement["cosine"] < 0.99


def test_reports_of_several_runs_are_combined(index: ImageIndex, many: Path) -> None:
    replace_encoder(index, Half(1e-6))
    index.add([many])
    replace_encoder(index, Half(0.5))
    for number in range(precision.MIN_EMBEDDED):
        draw(many / "more" / f"{number}.png", precision.MIN_EMBEDDED + number, (2, 2))
    index.add([many])
    (measurement,) = measurements(index)
    assert measurement["pictures"] == 16
    assert 0.4 < measurement["overlap"] < 0.95
    assert measurement["cosine"] < 0.99


def test_short_runs_and_fp32_measure_nothing(index: ImageIndex, folder: Path, many: Path, run: Run) -> None:
    replace_encoder(index, Half(1e-6))
    index.add([folder])
    assert measurements(index) == []
    replace_encoder(index, GridMean())
    index.add([many])
    assert measurements(index) == []
    assert "nearest are those of fp32" not in run("status", "--index", index.path).stdout


def test_if_fp32_does_not_fit_the_run_succeeds_without_a_report(tmp_path: Path, many: Path) -> None:
    class Cramped(Half):
        def fp32(self) -> GridMean:
            raise DeviceUnavailable("cuda has no memory for a single picture")

    with ImageIndex.create(tmp_path / "it.imgindex", encoder=Cramped(1e-6)) as index:
        assert index.add([many]).added == precision.MIN_EMBEDDED
        assert measurements(index) == []


def test_if_fp32_is_slow_fewer_samples_are_measured(
    index: ImageIndex, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(precision, "MAX_SHARE", 0.0)
    replace_encoder(index, Half(1e-6))
    index.add([many])
    assert measurements(index)[0]["pictures"] == 1


def test_the_time_to_make_the_network_in_fp32_counts(
    index: ImageIndex, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    class Slow(Half):
        def fp32(self) -> GridMean:
            now[0] += 2 * precision.MAX_SECONDS
            return super().fp32()

    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    replace_encoder(index, Slow(1e-6))
    index.add([many])
    assert measurements(index)[0]["pictures"] == 1


def test_if_one_picture_takes_too_long_a_later_run_measures_it(
    index: ImageIndex, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A picture takes as long as this run; then a fiftieth of all runs is longer than that.
    monkeypatch.setattr(precision, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(precision, "ONE_PICTURE_SECONDS", 0.0)
    monkeypatch.setattr(precision, "FP32_TIMES", precision.MIN_EMBEDDED)
    replace_encoder(index, Half(1e-6))
    index.add([many])
    assert measurements(index) == []
    with index._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.ledger.record_run("add", "2026-01-01T00:00:00+00:00", 1e6, {})
    for number in range(precision.MIN_EMBEDDED):
        draw(many / "more" / f"{number}.png", precision.MIN_EMBEDDED + number, (2, 2))
    index.add([many])
    assert measurements(index)[0]["pictures"] == 8


def test_a_sample_whose_vector_is_not_finite_is_left_out(tmp_path: Path, many: Path) -> None:
    class Spoiling(Half):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            vectors = super().encode(batch)
            if self.embedded == len(batch):
                vectors[0] = np.nan  # the first picture of the run, which is its first sample
            return vectors

    draw(many / "one more.png", (200, 3, 77), (2, 2))
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=Spoiling(1e-6)) as index:
        report = index.add([many])
        assert (report.added, report.failed) == (precision.MIN_EMBEDDED, 1)
        assert measurements(index)[0]["pictures"] == 7
