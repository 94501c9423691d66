"""Decoding in a pool of processes: a hang, a crash or hunger for memory costs one image, and no process is left."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import struct
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoder_checks import LATE, TIGHT, encoded, pids, plain, reason
from grid_mean import GRID_RECIPE, GridMean, replace_encoder
from hostile import deed
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.decoding import process as module
from imgindex.decoding.decode import decode
from imgindex.decoding.lookahead import map_ahead
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodeLimits, Done, Task
from imgindex.decoding.transforms import prepare
from imgindex.errors import DecoderUnavailable, UnreadableImage
from imgindex.ingest import pipeline
from imgindex.recipe import RECIPES
from imgindex.sources.content import read_content

HUNGRY = "not enough memory to decode it (limit 0.5 GiB)"
POOL5 = RECIPES["vgg16-pool5"]
ENDINGS = ["hang", "eat", "crash", "abort", "leave", "be_killed", "babble", "boast"]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@functools.cache
def slow_jpeg() -> bytes:
    """A JPEG that is in order, and keeps libjpeg busy for many seconds: its last scan comes again and again."""
    data = encoded(Image.effect_noise((3000, 3000), 40), "JPEG", progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * 100 + b"\xff\xd9"


@functools.cache
def large_png(side: int = 12_000) -> bytes:
    """A few kilobytes that are a whole grey picture of that side."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compressobj(1)
    data = b"".join(rows.compress(bytes(side + 1)) for _ in range(side)) + rows.flush()
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# What comes out


def test_a_hundred_pictures_over_four_processes_keep_their_order_and_every_pixel() -> None:
    random = np.random.default_rng(5)
    files = []
    for number in range(100):
        width, height = random.integers(1, 400, 2)
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        files.append(encoded(picture, ("JPEG", "PNG", "WEBP", "BMP")[number % 4]))
    for recipe in (POOL5, RECIPES["article"]):
        decoders = DecoderPool(recipe)
        try:
            with ThreadPoolExecutor(4) as pool:
                found = list(map_ahead(pool, decoders.decode, files, depth=64))
            assert 1 <= len(pids(decoders)) <= 4
        finally:
            decoders.close()
        for data, one in zip(files, found, strict=True):
            picture = decode(data, alpha=recipe.alpha)
            assert (one.width, one.height, one.format) == (picture.width, picture.height, picture.format)
            assert np.array_equal(one.pixels, prepare(picture.image, recipe))


def test_reduced_pictures_of_a_lot_have_their_own_sizes() -> None:
    recipe = replace(POOL5, side=200, geometry="reduced")
    sizes = [(300, 200), (20, 30), (200, 200), (1, 900), (120, 199)]
    pictures = [Image.effect_noise(size, 80).convert("RGB") for size in sizes]
    pool = DecoderPool(recipe)
    try:
        found = pool.work([Task(data=encoded(picture, "PNG")) for picture in pictures])
    finally:
        pool.close()
    decoded = [one.picture for one in found if isinstance(one, Done) and one.picture is not None]
    assert [one.pixels.shape for one in decoded] == [
        (133, 200, 3),
        (30, 20, 3),
        (200, 200, 3),
        (200, 1, 3),
        (199, 120, 3),
    ]
    for one, picture in zip(decoded, pictures, strict=True):
        assert np.array_equal(one.pixels, prepare(picture, recipe))


def test_pictures_of_a_lot_become_a_batch_without_a_copy() -> None:
    pool = DecoderPool(POOL5)
    try:
        found = pool.work([Task(data=encoded(Image.effect_noise((90, 60), 80).convert("RGB"), "PNG"))] * 4)
    finally:
        pool.close()
    pictures = [one.picture.pixels for one in found if isinstance(one, Done) and one.picture is not None]
    batch = pipeline._stacked(pictures[1:])
    assert np.array_equal(batch, np.stack(pictures[1:]))
    assert all(np.shares_memory(batch, one) for one in pictures[1:])
    assert not np.shares_memory(batch, pictures[0])


def test_a_small_picture_keeps_no_more_memory_than_its_own_pixels() -> None:
    recipe = replace(POOL5, side=600, geometry="reduced")
    pool = DecoderPool(recipe)
    try:
        pixels = pool.decode(encoded(Image.effect_noise((30, 20), 80).convert("RGB"), "PNG")).pixels
    finally:
        pool.close()
    kept = pixels
    while isinstance(kept.base, np.ndarray):
        kept = kept.base
    assert pixels.shape == (20, 30, 3)
    assert kept.nbytes == pixels.nbytes


def test_an_unreadable_file_has_the_reason_of_decode_and_costs_no_process(decoders: DecoderPool) -> None:
    assert reason(decoders, b"not a picture") == "not an image that Pillow can read"
    before = pids(decoders)
    assert reason(decoders, plain()[:-30])
    assert decoders.decode(plain()).format == "PNG"
    assert pids(decoders) == before


# What a decoder may do


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("hang", LATE),
        ("eat", HUNGRY),
        ("crash", "the decoder crashed (SIGSEGV)"),
        ("abort", "the decoder crashed (SIGABRT)"),
        ("leave", "the decoder ended by itself (exit status 0)"),
        ("be_killed", "the decoder was killed (SIGKILL), as the system does when memory runs out"),
        ("babble", "the decoder sent an invalid reply"),
        ("boast", "the decoder sent an invalid reply"),
    ],
)
def test_whatever_ends_a_decoder_is_the_reason_for_that_picture_alone(
    decoders: DecoderPool, what: str, expected: str
) -> None:
    assert reason(decoders, deed(what)) == expected
    assert decoders.decode(plain()).pixels[16, 16].tolist() == [255, 0, 0]
    assert reason(decoders, deed(what)) == expected
    assert decoders.decode(plain("blue")).pixels[16, 16].tolist() == [0, 0, 255]


def test_a_process_that_dies_between_two_pictures_is_replaced(decoders: DecoderPool) -> None:
    decoders.decode(plain())
    (pid,) = pids(decoders)
    os.kill(pid, signal.SIGKILL)
    assert decoders.decode(plain()).format == "PNG"
    assert pids(decoders) != [pid]


@pytest.mark.parametrize(("make", "expected"), [(slow_jpeg, LATE), (large_png, HUNGRY)])
def test_real_files_that_take_too_long_or_too_much_are_stopped(
    decoders: DecoderPool, make: Callable[[], bytes], expected: str
) -> None:
    assert reason(decoders, make()) == expected
    assert decoders.decode(plain()).format == "PNG"


def test_a_process_that_exceeds_its_time_is_given_up(decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 1.0)
    decoders.decode(plain())
    (pid,) = pids(decoders)
    os.kill(pid, signal.SIGSTOP)
    assert reason(decoders, plain()) == "the decoder does not answer any more"
    assert not is_running(pid)
    assert decoders.decode(plain()).format == "PNG"


def test_of_large_pictures_one_is_decoded_at_a_time(plugin: Path) -> None:
    decoders = DecoderPool(GRID_RECIPE)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(decoders.decode, [deed("huge"), plain()] * 6))
    finally:
        decoders.close()
    assert [one.format for one in found] == ["JXL", "PNG"] * 6


# The whole way


def test_hangs_crashes_and_hunger_for_memory_are_failures_and_the_add_goes_on(
    index: ImageIndex, folder: Path, plugin: Path
) -> None:
    index._decoders = DecoderPool(index.recipe, TIGHT)
    for number, name in enumerate(ENDINGS):
        (folder / "ab"[number % 2] / f"{name}.jxl").write_bytes(deed(name))
    (folder / "b/slow.jpg").write_bytes(slow_jpeg())
    (folder / "b/large.png").write_bytes(large_png())
    report = index.add([folder])
    assert (report.added, report.failed) == (12, len(ENDINGS) + 2)
    reasons = {Path(failure.path).stem: failure.reason for failure in index.failures()}
    assert reasons.keys() == {*ENDINGS, "slow", "large"}
    assert (reasons["slow"], reasons["large"], reasons["crash"]) == (LATE, HUNGRY, "the decoder crashed (SIGSEGV)")
    assert {failure.stage for failure in index.failures()} == {"decode"}
    again = index.add([folder])
    assert (again.unchanged, again.failed, again.failures) == (12, len(ENDINGS) + 2, ())


def test_hangs_and_crashes_are_failures_of_single_queries(
    index: ImageIndex, folder: Path, plugin: Path, tmp_path: Path
) -> None:
    index.add([folder])
    index._decoders.close()
    index._decoders = DecoderPool(index.recipe, TIGHT)
    queries = [draw(tmp_path / "new.png", 90)]
    for name in ("hang", "crash", "eat"):
        queries.append(tmp_path / f"{name}.jxl")
        queries[-1].write_bytes(deed(name))
    sound, *failed = index.answers(queries, n=2)
    assert len(sound.matches) == 2
    assert [one.failure.reason for one in failed if one.failure] == [LATE, "the decoder crashed (SIGSEGV)", HUNGRY]
    with pytest.raises(UnreadableImage, match=r"cannot read .*hang\.jxl: decoding took more than"):
        index.similar(tmp_path / "hang.jxl")


# Lots


def test_files_of_a_lot_are_read_hashed_and_decoded_in_their_order(decoders: DecoderPool, tmp_path: Path) -> None:
    paths = []
    for number, colour in enumerate(("red", "lime", "blue")):
        paths.append(tmp_path / f"{number} \udcff.png")
        paths[-1].write_bytes(plain(colour))
    tasks = [Task(str(path)) for path in paths]
    hashed = [replace(task, decode=False) for task in tasks]
    for given, wanted in ((tasks, True), (hashed, False)):
        outcomes = decoders.work(given)
        for path, outcome, colour in zip(paths, outcomes, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
            assert isinstance(outcome, Done)
            assert outcome.content == replace(read_content(str(path)), data=b"")
            assert (outcome.picture is not None) == wanted
            if outcome.picture:
                assert tuple(outcome.picture.pixels[16, 16]) == colour


def test_a_lot_has_a_reason_for_each_file_that_cannot_be_read(decoders: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / "changed.png").write_bytes(plain())
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text")
    os.mkfifo(tmp_path / "fifo.png")
    tasks = [Task(str(tmp_path / f"{name}.png")) for name in ("gone", "empty", "fifo", "text")]
    tasks += [
        Task(str(tmp_path / "changed.png"), sha256=bytes(32)),
        Task("/\0"),
        Task(data=b"text"),
        Task(data=plain()),
    ]
    *failed, done = decoders.work(tasks)
    with pytest.raises(ValueError, match="null") as not_a_path:
        os.open("/\0", os.O_RDONLY)
    assert [(one.stage, one.reason) for one in failed if isinstance(one, UnreadableImage)] == [
        ("read", "No such file or directory"),
        ("read", "file is empty"),
        ("read", "not a regular file"),
        ("decode", "not an image that Pillow can read"),
        ("read", "file changed while it was read"),
        ("read", f"not a path: {not_a_path.value}"),
        ("decode", "not an image that Pillow can read"),
    ]
    assert isinstance(done, Done)


@pytest.mark.parametrize("what", ENDINGS)
def test_in_a_lot_only_the_file_that_ends_the_decoder_fails(decoders: DecoderPool, what: str) -> None:
    data = [plain(), plain("lime"), deed(what), plain("blue"), deed(what, b"again"), plain("red")]
    outcomes = decoders.work([Task(data=one) for one in data])
    colours = [tuple(one.picture.pixels[16, 16]) for one in outcomes if isinstance(one, Done) and one.picture]
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0)]
    assert [isinstance(one, UnreadableImage) for one in outcomes] == [False, False, True, False, True, False]


def test_pictures_stay_as_they_are_while_their_process_works_on_further_lots(decoders: DecoderPool) -> None:
    """Of more lots than there are blocks, so that some are copied; and again when nothing uses the blocks any more."""
    colours = [(40 * number, 255, 0) for number in range(module.BLOCKS + 2)]
    for _ in range(2):
        pictures = []
        for colour in colours:
            data = encoded(Image.new("RGB", (32, 32), colour), "PNG")
            pictures += [done.picture for done in decoders.work([Task(data=data)] * 3) if isinstance(done, Done)]
        assert [tuple(picture.pixels[16, 16]) for picture in pictures if picture] == [
            colour for colour in colours for _ in range(3)
        ]
    assert len(decoders._processes) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the decoder of this test finds its memory by /proc")
def test_a_corrupted_process_changes_no_picture_of_an_earlier_lot(decoders: DecoderPool, plugin: Path) -> None:
    found = decoders.work([Task(data=plain())] * 3)
    pictures = [done.picture for done in found if isinstance(done, Done) and done.picture]
    decoders.work([Task(data=plain("blue")), Task(data=deed("scribble"))])
    assert list(plugin.glob("begun *"))
    assert [tuple(picture.pixels[16, 16]) for picture in pictures] == [(255, 0, 0)] * 3


def test_reading_a_file_may_take_longer_than_decoding_one(
    decoders: DecoderPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that reads is waited for; here it is stopped by a signal meanwhile."""
    path = tmp_path / "slow.bmp"
    path.write_bytes(plain())
    decoders.decode(plain())
    (process,) = decoders._processes
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(module, "GRACE", 0.0)
        os.kill(process._process.pid, signal.SIGSTOP)
        waiting = pool.submit(decoders.work, [Task(str(path))])
        time.sleep(0.2)
        process._block.state = 0, True
        time.sleep(2 * TIGHT.seconds + 0.5)
        os.kill(process._process.pid, signal.SIGCONT)
        assert isinstance(waiting.result()[0], Done)


# Beginning and end


def test_processes_are_used_by_one_add_after_the_other_and_end_with_the_index(folder: Path, tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index.add([folder / "a"])
        first = set(pids(index._decoders))
        index.add([folder / "b"])
        index.similar(draw(tmp_path / "new.png", 90))
        both = set(pids(index._decoders))
        assert first <= both
        assert all(map(is_running, both))
    assert not any(map(is_running, both))


def test_a_forked_child_that_closes_an_index_leaves_its_parent_s_decoders_alone(
    index: ImageIndex, folder: Path
) -> None:
    index.add([folder])
    decoders = pids(index._decoders)
    child = os.fork()
    if child == 0:
        index.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert decoders
    assert all(map(is_running, decoders))
    draw(folder / "new.png", 99)
    assert index.add([folder]).added == 1
    assert set(decoders) <= set(pids(index._decoders))


def test_an_add_that_fails_ends_busy_processes_and_the_next_one_starts_others(
    index: ImageIndex, folder: Path, plugin: Path, encoder: GridMean
) -> None:
    class Failing(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            seen.extend(pids(index._decoders))
            raise RuntimeError("no more")

    seen: list[int] = []
    (folder / "b/0.jxl").write_bytes(deed("hang"))  # for a minute, by the limits that are the default
    replace_encoder(index, Failing())
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="no more"):
        index.add([folder])
    assert time.monotonic() - started < 40
    assert seen
    assert not any(map(is_running, seen))
    replace_encoder(index, encoder)
    assert index.add([folder / "a"]).added == 6
    assert list(index.failures()) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("executable", None, "no Python"),
        ("executable", "", "no Python"),
        ("executable", "/nowhere/python", "No such file"),
        ("executable", shutil.which("false"), "does not start: the decoder ended by itself"),
        ("path", [], "does not start"),
        ("frozen", True, "no Python"),
    ],
)
def test_if_no_process_starts_the_run_fails_and_no_image_is_in_the_ledger(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, says: str
) -> None:
    index.add([folder / "a/0.png"])
    index._decoders.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, name, value, raising=False)
        with pytest.raises(DecoderUnavailable, match=says) as caught:
            index.add([folder])
    assert caught.value.hint
    assert list(index.failures()) == []
    assert index.add([folder]).added == 11


def test_too_little_memory_for_the_process_itself_is_an_error_of_the_run(index: ImageIndex, folder: Path) -> None:
    index._decoders = DecoderPool(index.recipe, DecodeLimits(memory=40 << 20))
    with pytest.raises(DecoderUnavailable, match="does not start"):
        index.add([folder])
    assert list(index.failures()) == []
