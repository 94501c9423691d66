"""Adds every file of the corpora of broken images with the real command line, and checks what became of each.

The command line is a black box here: whatever the files contain, the run ends in bounded time and memory, and each file
is either an image with a sound vector or a failure with a reason. `ci` adds a tenth of the files, `full` all
of them, and each of them also cut short and altered.

    python tests/campaigns/corpus.py --size full --out tests/campaigns/results/corpus.json
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from campaign import Figures, main
from fetch_corpus import fetch, files_below

from imgindex import ImageIndex
from imgindex.sources.selection import ARCHIVE_ENDINGS, ending

WORKERS = 2
SECONDS = {"ci": 900, "full": 3600}
# Two pictures at once: one of the corpora has 200 megapixels, and an altered header may claim up to the limit.
PEAK_MIB = {"ci": 3072, "full": 4096}
STAGES = {"find", "read", "decode", "embed"}
MUTATED_BYTES = 1 << 20
CUTS = (0.1, 0.5, 0.9)
FLIPS = (1, 8, 64)

# Runs the command line, and writes which files it opened and whether it imported torch.
WATCHED = """
import json, os, runpy, sys
opened = []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(os.fsdecode(arguments[0]))
sys.addaudithook(note)
report = sys.argv.pop(1)
try:
    runpy.run_module("imgindex", run_name="__main__", alter_sys=True)
finally:
    with open(report, "w", encoding="utf-8") as file:
        json.dump({"torch": "torch" in sys.modules, "opened": opened}, file)
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: `code` is None if it ran out of time; `peak_mib` of its whole tree, 0 without /proc."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    peak_mib: int


def run(size: str, *, seed: int = 0, folders: dict[str, Path] | None = None) -> Figures:
    """Add all corpora, or the files of the folders that are given; see the top of this file."""
    skipped: dict[str, str] = {}
    fetched = folders is None
    if folders is None:
        folders, skipped = fetch()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if size == "full":
            folders = {**folders, "mutated": mutate(folders, place / "mutated", seed)}
        # An archive that is given by name is read as one: its members are images, and not itself.
        files = {
            name: [path for path in files_below(folder) if ending(path.name) not in ARCHIVE_ENDINGS]
            for name, folder in folders.items()
        }
        if fetched and size == "ci":
            chance = random.Random(seed)
            files = {name: sorted(chance.sample(paths, -(-len(paths) // 10))) for name, paths in files.items()}
        figures = {"corpora": {name: len(paths) for name, paths in files.items()}, "skipped": skipped}
        everything = [path for paths in files.values() for path in paths]
        if not everything:
            return {**figures, "lost": ["no corpus was found: nothing was tried"]}
        return {**figures, **_add_all(everything, place, size)}


def _add_all(files: Sequence[Path], place: Path, size: str) -> Figures:
    seconds = SECONDS[size]
    index, options = place / "corpora.imgindex", ["--recipe", "vgg16-pool5", "--size", "32", "--workers", str(WORKERS)]
    command = ["add", "-0", "-", *options, "--index", str(index), "--json"]
    named = b"\0".join(os.fsencode(path) for path in files)
    first = watch([sys.executable, "-m", "imgindex", *command], named, seconds)
    lost = _how_it_ended("the first add", first)
    if lost:
        return {"lost": lost}
    figures, lost = _what_became_of(files, index)
    if first.peak_mib > PEAK_MIB[size]:
        lost.append(f"the first add took {first.peak_mib} MiB")
    again, opened = place / "again.json", {str(path) for path in files}
    second = watch([sys.executable, "-c", WATCHED, str(again), *command], named, seconds)
    lost += _how_it_ended("the second add", second) or _did_nothing(second, json.loads(again.read_text()), opened)
    check = watch([sys.executable, "-m", "imgindex", "verify", "--full", "--index", str(index)], b"", seconds)
    if check.code != 0:
        lost.append(f"verify --full ended with {check.code}: {check.stdout[-400:]}")
    return {
        **figures,
        "peak_mib": first.peak_mib,
        "seconds": {"first add": first.seconds, "second add": second.seconds, "verify": check.seconds},
        "lost": lost,
    }


def _how_it_ended(what: str, ended: Ended) -> list[str]:
    if ended.code is None:
        return [f"{what} did not end within {ended.seconds:.0f} s"]
    if ended.code not in (0, 3):
        return [f"{what} ended with {ended.code}: {ended.stderr[-800:]}"]
    if "Traceback" in ended.stderr:
        return [f"{what} showed a traceback: {ended.stderr[-800:]}"]
    return []


def _what_became_of(files: Sequence[Path], index: Path) -> tuple[Figures, list[str]]:
    with ImageIndex.open(index) as opened:
        indexed = [os.path.abspath(image.path) for image in opened.images()]
        failures = [(os.path.abspath(one.path), one.stage, one.reason) for one in opened.failures()]
        vectors = opened.vectors()
    lost = unaccounted([str(path) for path in files], indexed, failures) + unsound(indexed, vectors)
    figures = {
        "files": len(files),
        "indexed": len(indexed),
        "failed": dict(Counter(stage for _, stage, _ in failures)),
        "distinct_vectors": len(np.unique(vectors, axis=0)),
        # gdk-pixbuf must refuse these; Pillow may know better.
        "meant_to_fail_but_read": [Path(path).name for path in indexed if Path(path).parent.name == "fail"],
        "reasons": dict(Counter(reason for _, _, reason in failures).most_common(12)),
    }
    return figures, lost


def unaccounted(files: Sequence[str], indexed: Sequence[str], failures: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return a line for each file that is not exactly once an image or a failure, or fails without stage and reason."""
    times = Counter(indexed) + Counter(path for path, _, _ in failures)
    lost = [f"{path} is {times[path]} times in index and ledger" for path in files if times[path] != 1]
    lost += [f"{path} was never given" for path in times.keys() - set(files)]
    for path, stage, reason in failures:
        if stage not in STAGES or not reason.strip() or len(reason.splitlines()) != 1:
            lost.append(f"{path} failed without a stage or a reason in one line: {stage!r}, {reason!r}")
    return lost


def unsound(paths: Sequence[str], vectors: np.ndarray) -> list[str]:
    """Return a line for each vector that is not finite or not of length 1, and one if most vectors are the same."""
    lengths = np.linalg.norm(vectors, axis=1)
    bad = ~np.isfinite(vectors).all(axis=1) | ~(np.abs(lengths - 1) < 1e-4)
    lost = [f"{paths[at]} has a vector of length {lengths[at]}" for at in np.flatnonzero(bad)]
    # Corpora hold the same picture in many formats, and altered ones may show no difference.
    distinct = len(np.unique(vectors, axis=0))
    if distinct * 10 <= len(vectors):
        lost.append(f"{len(vectors)} pictures have {distinct} distinct vectors")
    return lost


def _did_nothing(second: Ended, seen: dict[str, Any], files: set[str]) -> list[str]:
    counts = json.loads(second.stdout)
    lost = [f"the second add opened {path}" for path in seen["opened"] if os.path.abspath(path) in files]
    if seen["torch"]:
        lost.append("the second add imported torch")
    if counts["unchanged"] + counts["failed"] != counts["found"] or counts["found"] != len(files):
        lost.append(f"the second add found something to do: {counts}")
    return lost


def mutate(folders: dict[str, Path], target: Path, seed: int) -> Path:
    """Write each small file of the corpora cut short and with altered bytes; return the folder."""
    dice = random.Random(seed)
    for name, folder in folders.items():
        for number, path in enumerate(files_below(folder)):
            if not 0 < path.stat().st_size <= MUTATED_BYTES:
                continue
            out = target / name
            out.mkdir(parents=True, exist_ok=True)
            for way, data in _mutants(path.read_bytes(), dice):
                (out / f"{number}-{way}{path.suffix}").write_bytes(data)
    return target


def _mutants(data: bytes, dice: random.Random) -> Iterator[tuple[str, bytes]]:
    for part in CUTS:
        yield f"cut{part}", data[: int(len(data) * part)]
    for flips in FLIPS:
        altered = bytearray(data)
        for _ in range(flips):
            altered[dice.randrange(len(data))] = dice.randrange(256)
        yield f"flip{flips}", bytes(altered)


def watch(command: Sequence[str], stdin: bytes, seconds: int) -> Ended:
    """Run a process to its end, or kill it after so many seconds; sample the memory of it and its children."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    peak, over = [0], threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], _memory(process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        out, err = process.communicate(timeout=seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        (out, err), code = process.communicate(), None
    finally:
        over.set()
        sampler.join()
    took = round(time.perf_counter() - started, 1)
    return Ended(code, out.decode(errors="replace"), err.decode(errors="replace"), took, peak[0] >> 20)


def _memory(root: int) -> int:
    """Resident bytes of a process and all below it; what they share counts for each."""
    parents, sizes = {}, {}
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():
        if entry.name.isdecimal():
            try:
                # The name in brackets may hold spaces and brackets; the parent is the second field behind it.
                fields = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            parents[int(entry.name)], sizes[int(entry.name)] = int(fields[1]), int(fields[21]) * page
    below = {root}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(sizes.get(pid, 0) for pid in below)


if __name__ == "__main__":
    main("corpus", run)
