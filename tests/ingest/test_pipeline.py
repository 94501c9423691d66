"""Files on their way from the disk through the network into the store: embedded once, committed batch by batch."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from add_checks import counts, later, names, observe_opened, spoil
from grid_mean import GridMean, replace_encoder
from pictures import draw

import imgindex.ingest.pipeline
from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool
from imgindex.ingest.node_worker import NodeRecorder
from imgindex.recipe import RECIPES


def test_a_picture_touched_but_not_changed_is_opened_once_and_not_embedded(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    index.add([folder])
    later(folder / "a/3.png")
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == ["3.png"]
    assert encoder.embedded == 12


def test_files_that_vanish_between_the_scan_and_the_reading_do_not_end_the_run(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder / "a"])
    later(draw(folder / "a/3.png", 99))

    observe_opened(monkeypatch, lambda path: os.unlink(path) if Path(path).name in ("3.png", "7.png") else None)
    report = index.add([folder])
    assert report.added == 5
    assert {(Path(failure.path).name, failure.stage) for failure in report.failures} == {
        ("3.png", "read"),
        ("7.png", "read"),
    }
    assert names(index) == sorted(f"{number}.png" for number in range(12) if number not in (3, 7))
    assert list(index.failures()) == []


class Failing(GridMean):
    """Raises for the batch with the picture 9: the third one of four, which may be computed before the second one."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        if (batch[:, 0, 0] == (9 * 37 % 256, 9 * 101 % 256, 9 * 211 % 256)).all(axis=1).any():
            raise RuntimeError("out of memory")
        return super().encode(batch)


def test_when_the_network_fails_what_was_done_is_kept_and_the_next_add_goes_on(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    replace_encoder(index, Failing(batch_size=4))
    with pytest.raises(RuntimeError, match="out of memory"):
        index.add([folder])
    assert len(index) == 8
    assert index.verify(full=True).ok
    replace_encoder(index, encoder)
    assert counts(index.add([folder])) == {"added": 4, "unchanged": 8}
    assert encoder.embedded == 4


def test_stopping_ends_after_the_batches_in_flight_and_the_next_add_embeds_only_the_rest(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    (folder / "b/7.png").rename(folder / "spare.png")
    index.add([folder / "spare.png"])
    (folder / "spare.png").unlink()
    report = index.add([folder], stop=lambda: encoder.embedded > 4)
    assert report.interrupted
    # One batch is being recorded, one is on its way through the network.
    assert (report.added, report.removed, report.found) == (8, 0, 11)
    assert index.verify(full=True).ok
    report = index.add([folder])
    assert not report.interrupted
    assert counts(report) == {"added": 3, "unchanged": 8, "removed": 1}
    assert encoder.embedded == 12


def test_stopping_before_anything_is_done_changes_nothing(index: ImageIndex, folder: Path) -> None:
    report = index.add([folder], stop=lambda: True)
    assert report.interrupted
    assert len(index) == 0
    assert counts(index.add([folder])) == {"added": 12}


def test_stopping_in_the_last_batch_does_not_interrupt_the_run(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    assert not index.add([folder], stop=lambda: encoder.embedded >= 12).interrupted


KILLED = """
import os, signal, sys
from grid_mean import GridMean, replace_encoder
from imgindex import ImageIndex

class Killing(GridMean):
    def encode(self, batch):
        if self.embedded >= 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(batch)

with ImageIndex.open(sys.argv[1]) as index:
    replace_encoder(index, Killing(batch_size=4))
    index.add([sys.argv[2]])
"""


def test_a_killed_add_loses_the_batches_in_flight_at_most(index: ImageIndex, folder: Path, encoder: GridMean) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", KILLED, index.path, str(folder)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    # It dies in the third batch: the two before may be recorded, and are committed after half a second at the latest.
    kept = len(index)
    assert kept in {0, 4, 8}
    assert index.verify(full=True).ok
    assert counts(index.add([folder])) == {"added": 12 - kept} | ({"unchanged": kept} if kept else {})
    assert encoder.embedded == 12 - kept
    assert index.verify(full=True).ok


def test_progress_is_reported_up_to_the_end(index: ImageIndex, folder: Path) -> None:
    events = []
    spoil(folder / "a/3.png")
    index.add([folder], on_progress=events.append)
    embedding = [(progress.done, progress.total) for progress in events if progress.stage == "embed"]
    assert embedding == sorted(embedding)
    assert embedding[-1] == (12, 12)
    assert len(embedding) >= 3
    # Images are counted from the start: while files are listed, and while the network is loaded.
    assert [(progress.stage, progress.done) for progress in events[:4]] == [
        ("scan", 0),
        ("scan", 12),
        ("decode", 0),
        ("decode", 1),
    ]


def test_the_pictures_in_flight_are_few_however_many_there_are(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(800):
        draw(tmp_path / "many" / f"{number}.png", (number % 256, number // 256, 7), (2, 2))
    encoder = GridMean(batch_size=8)
    opened: list[str] = []
    in_flight: list[int] = []

    def open_one(path: str) -> None:
        opened.append(path)
        in_flight.append(len(opened) - encoder.embedded)

    observe_opened(monkeypatch, open_one)
    monkeypatch.setattr(imgindex.ingest.pipeline, "LOADING_LOOK_AHEAD", 200)
    replace_encoder(index, encoder)
    index.add([tmp_path / "many"])
    assert len(opened) == 800
    lot, workers = index._decoders.lot, imgindex.ingest.pipeline.worker_count(None)
    assert max(in_flight) <= 200 + (workers + 1) * lot + 4 * encoder.batch_size < 800


def test_pictures_of_a_lot_become_a_batch_without_a_copy_and_others_by_one() -> None:
    stacked = imgindex.ingest.pipeline._stacked
    lot, other = (np.random.default_rng(seed).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8) for seed in (1, 2))
    for pictures in (
        [lot[1], lot[3]],
        [lot[4], lot[5], other[0]],
        [lot[2].swapaxes(0, 1), lot[3].swapaxes(0, 1)],
        [lot[2][:, :, ::-1], lot[3][:, :, ::-1]],
        [lot[0].copy(), lot[1].copy()],
    ):
        batch = stacked(pictures)
        assert np.array_equal(batch, np.stack(pictures))
        assert not np.shares_memory(batch, lot)
    for numbers in (range(6), range(2, 5), range(3, 4)):
        batch = stacked([lot[number] for number in numbers])
        assert np.array_equal(batch, lot[numbers.start : numbers.stop])
        assert np.shares_memory(batch, lot)


def test_pictures_are_copied_once_into_the_memory_that_the_encoder_gives(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    given: list[np.ndarray] = []
    taken: list[np.ndarray] = []

    class Pinned(GridMean):
        device = "cuda"

        def empty_batch(self, count: int) -> np.ndarray:
            given.append(np.empty((count, self.side, self.side, 3), np.uint8))
            return given[-1]

        def encode(self, batch: np.ndarray) -> np.ndarray:
            taken.append(batch)
            return super().encode(batch)

    index.add([folder / "a"])
    expected = index.vectors()
    with ImageIndex.create(folder.parent / "other.imgindex", encoder=encoder) as other:
        other._encoder = Pinned(batch_size=4)
        other.add([folder / "a"])
        assert np.array_equal(other.vectors(), expected)
    assert taken
    assert all(any(batch is memory for memory in given) for batch in taken)


@pytest.mark.parametrize(("streams", "batch_size", "ahead"), [(2, 8, 64), (2, 256, 512), (16, 256, 4096)])
def test_as_many_pictures_are_decoded_ahead_as_the_network_has_in_work_within_bounds(
    streams: int, batch_size: int, ahead: int
) -> None:
    recipe = replace(RECIPES["vgg16-pool5"], side=224)
    with closing(DecoderPool(recipe)) as decoders:
        pipeline = imgindex.ingest.pipeline.IngestPipeline(NodeRecorder([]), decoders, GridMean, None)
        one = GridMean(batch_size=batch_size)
        one.streams = streams
        pipeline.encoder = one
        found = pipeline._look_ahead()
    assert found == min(ahead, imgindex.ingest.pipeline.LOOK_AHEAD_BYTES // (3 * 224**2))
    assert found * 3 * 224**2 <= imgindex.ingest.pipeline.LOOK_AHEAD_BYTES


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [3, 3, 3, 1]), ("cuda", [10])])
def test_the_rest_is_shared_out_among_the_streams_of_a_cpu_alone(
    index: ImageIndex, tmp_path: Path, device: str, sizes: list[int]
) -> None:
    given: list[int] = []

    class Observed(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            given.append(len(batch))
            return super().encode(batch)

    for number in range(10):
        draw(tmp_path / "few" / f"{number}.png", number, (2, 2))
    encoder = Observed(batch_size=16)
    encoder.streams, encoder.device = 4, device
    replace_encoder(index, encoder)
    index.add([tmp_path / "few"])
    assert sorted(given, reverse=True) == sizes
