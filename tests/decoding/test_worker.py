"""A decoder process: what it imports, prints, and keeps from one picture to the next."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from decoder_checks import LATE, pids, plain, reason
from grid_mean import GRID_RECIPE
from hostile import deed

from imgindex.decoding.pool import DecoderPool


def test_the_process_imports_neither_torch_nor_anything_that_is_heavy(decoders: DecoderPool) -> None:
    decoders.decode(plain())
    (pid,) = pids(decoders)
    libraries = Path(f"/proc/{pid}/maps").read_text()
    assert "_multiarray_umath" in libraries
    for heavy in ("torch", "faiss", "pandas", "pyarrow", "sqlite"):
        assert f"/{heavy}" not in libraries


def test_what_a_decoder_prints_is_not_taken_for_a_reply(
    decoders: DecoderPool, capfd: pytest.CaptureFixture[str]
) -> None:
    before = decoders.decode(plain())
    assert decoders.decode(deed("shout")).format == "JXL"
    assert np.array_equal(decoders.decode(plain()).pixels, before.pixels)
    assert capfd.readouterr() == ("", "")


def test_a_picture_does_not_fail_for_what_an_earlier_one_left_behind(decoders: DecoderPool) -> None:
    assert decoders.decode(deed("poison")).format == "JXL"
    assert decoders.decode(plain()).format == "PNG"


def test_time_is_limited_even_if_the_parent_ignores_and_blocks_alarms(decoders: DecoderPool) -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        assert reason(decoders, deed("hang")) == LATE
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.signal(signal.SIGALRM, before)


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIL", "numpy", "json", "struct", "signal", "imgindex", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    decoders = DecoderPool(GRID_RECIPE)
    try:
        assert decoders.decode(plain()).format == "PNG"
    finally:
        decoders.close()


def test_the_process_is_of_the_same_imgindex_wherever_else_one_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imgindex").mkdir()
    (tmp_path / "imgindex/__init__.py").write_text("import os; os._exit(9)")
    monkeypatch.syspath_prepend(str(tmp_path))
    decoders = DecoderPool(GRID_RECIPE)
    try:
        assert decoders.decode(plain()).format == "PNG"
    finally:
        decoders.close()
