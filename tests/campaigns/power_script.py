"""The run that campaigns/power.py records: everything that a program does to an index, noted step by step in a journal.

    python power_script.py FOLDER        FOLDER holds nothing; afterwards it holds pictures, it.imgindex and journal
    python power_script.py FOLDER again  FOLDER holds pictures, and it.imgindex as a crash left it: brought up to date

A line of the journal is what the index has acknowledged: its present images, and the ids that are gone for good.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from decoders_here import work_here
from grid_mean import GRID_RECIPE, GridMean, replace_encoder
from pictures import draw

from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import ImgindexError
from imgindex.ingest import store_recorder
from imgindex.storage import segments

TOLD = 7  # the exit code of a run that ended with an error which a caller can expect
LINE = 16384
ROWS = 8  # of a segment, so that the run needs several


class Ledger:
    """Writes what the index returns as its content, in one `write` for each line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._removed: set[int] = set()

    def note(self, index: ImageIndex, step: str, *, removed: list[int] | None = None) -> None:
        self._removed.update(removed or ())
        present = {os.path.basename(image.path): [image.id, image.sha256] for image in index.images()}
        line = json.dumps({"step": step, "present": present, "removed": sorted(self._removed)})
        os.write(self._file, line.ljust(LINE).encode() + b"\n")


def mtime(path: Path, second: int) -> None:
    """Give files times that are the same in every run: nothing that depends on them depends on the machine."""
    os.utime(path, ns=(second * 10**9, second * 10**9))


def paint(pictures: Path, names: dict[str, int], *, at: int) -> None:
    for name, colour in names.items():
        mtime(draw(pictures / name, colour), at + colour)


def run(folder: Path) -> None:
    """Do all of it. Raises what the index raises."""
    pictures, home, ledger = folder / "pictures", folder / "it.imgindex", Ledger(folder / "ledger")
    paint(pictures, {f"{number}.png": number for number in range(6)}, at=1_600_000_000)
    with ImageIndex.create(home, encoder=GridMean()) as index:
        ledger.note(index, "created")
        add(index, pictures, ledger, "first")
        paint(pictures, {"1.png": 20, "2.png": 21, "6.png": 22}, at=1_700_000_000)
        shutil.copy2(pictures / "0.png", pictures / "copy.png")
        os.rename(pictures / "3.png", pictures / "renamed.png")
        (pictures / "broken.png").write_bytes(b"this is no picture")
        mtime(pictures / "broken.png", 1_700_000_001)
        add(index, pictures, ledger, "changed")
        (pictures / "4.png").unlink()
        (pictures / "1.png").write_bytes(b"this was one")
        mtime(pictures / "1.png", 1_700_000_002)
        add(index, pictures, ledger, "gone")
        taken = index.remove([pictures / "5.png", pictures / "copy.png"])
        ledger.note(index, "removed", removed=[image.id for image in taken])
        paint(pictures, {"4.png": 4, "7.png": 23}, at=1_600_000_000)
        add(index, pictures, ledger, "restored")
        if hasattr(index, "compact"):
            index.compact()
            ledger.note(index, "compact")
    if hasattr(ImageIndex, "repair"):
        ImageIndex.repair(home, encoder=GridMean(batch_size=3))
    with ImageIndex.open(home) as index:
        ledger.note(index, "opened again")
        paint(pictures, {"8.png": 24, "2.png": 25}, at=1_800_000_000)
        add(index, pictures, ledger, "last")


def run_again(folder: Path) -> None:
    """Bring an index up to date that a crash has left, or make it. Raises what the index raises."""
    home, ledger = folder / "it.imgindex", Ledger(folder / "ledger")
    made = (home / "catalogue.db").exists()
    with ImageIndex.open(home) if made else ImageIndex.create(home, encoder=GridMean()) as index:
        ledger.note(index, "opened after a crash")
        add(index, folder / "pictures", ledger, "after a crash")


def add(index: ImageIndex, pictures: Path, ledger: Ledger, step: str) -> None:
    """Bring the index up to date, and note after each batch what it has."""
    replace_encoder(index, GridMean(batch_size=3))
    index.add([pictures], on_progress=lambda progress: ledger.note(index, step))
    ledger.note(index, step)


if __name__ == "__main__":
    # Decoders have descriptors of their own, which the record would take for the index's.
    DecoderPool.work = work_here
    store_recorder.COMMIT_SECONDS = 0.0  # each batch is acknowledged
    segments.SEALED_SIZE = segments.HEADER_SIZE + ROWS * 4 * GRID_RECIPE.dimension
    try:
        (run_again if sys.argv[2:] else run)(Path(sys.argv[1]))
    except (OSError, ImgindexError, sqlite3.Error) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(TOLD)
