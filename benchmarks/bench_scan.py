"""Measures `add` over files that have not changed, and its first scan of new ones, as whole processes.

    python benchmarks/bench_scan.py [--size fast|regular|large] [--rounds 5] [--out FILE.json]

The files are real images of one pixel, a thousand in a folder. The index is filled through its store, because the
vectors do not matter here. Every round runs every contender once, in turn. The floor is a Python process that walks the
folders and only reads the size and time of each file.

The other columns are the rate without the start of a process (`imgindex --version`), the peak memory, how many of the
images were opened (by an audit hook, in a run of its own) and which large libraries were imported.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
import numpy as np
from PIL import Image

from imgindex import ImageIndex
from imgindex.sources.registry import find_files
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import FoundFile

SIZES = {"fast": (2_000,), "regular": (10_000, 100_000), "large": (10_000, 100_000, 1_000_000)}
FOLDER, LOT = 1_000, 4_096

WALK = """
import os
for folder, _, names in os.walk("photos"):
    for name in names:
        os.stat(os.path.join(folder, name))
"""
# Runs a program, and prints to stderr what it opened and imported, and its peak memory.
WATCHED = """
import json, runpy, sys
program, opened = sys.argv[1], 0
del sys.argv[:1]
def note(event, arguments):
    global opened
    opened += event == "open" and str(arguments[0]).endswith(".png")
sys.addaudithook(note)
try:
    exec(program) if len(sys.argv) == 1 else runpy.run_module("imgindex", run_name="__main__")
except SystemExit:
    pass
imported = [name for name in ("torch", "faiss", "pandas", "PIL", "numpy") if name in sys.modules]
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(json.dumps({"opened": opened, "imported": imported, "peak_mib": int(peak) / 1024}), file=sys.stderr)
"""
START = "imgindex --version"
CONTENDERS = {
    "os.walk and os.stat": [WALK],
    START: ["", "--version"],
    "imgindex add (nothing changed)": ["", "add", "photos", "--json", "--quiet"],
    "imgindex add --dry-run (all new)": [
        "",
        "add",
        "photos",
        "--json",
        "--quiet",
        "--dry-run",
        "--recipe",
        "vgg16-pool5",
        "--index",
        "no",
    ],
}


def make_files(root: Path, count: int) -> None:
    """Write PNG files of one pixel, all different."""
    for number in range(count):
        folder = root / f"{number // FOLDER:04d}"
        if number % FOLDER == 0:
            folder.mkdir(parents=True)
        data = io.BytesIO()
        Image.new("RGB", (1, 1), (number >> 16, number >> 8 & 255, number & 255)).save(data, "PNG")
        (folder / f"photo-{number:07d}.png").write_bytes(data.getvalue())


def make_index(folder: Path) -> None:
    """Fill an index with all of the files, through its store."""
    ImageIndex.create(folder / ".imgindex", recipe="vgg16-pool5", size=32, store="fp16").close()
    vector = np.ones(512, dtype=np.float32)
    with contextlib.closing(Store(str(folder / ".imgindex"))) as store, store.writing() as writer:
        for number, file in enumerate(find_files([str(folder / "photos")])):
            assert isinstance(file, FoundFile)
            writer.put(NewImage(file, hashlib.sha256(file.path.encode()).digest(), 1, 1, "PNG"), vector)
            if number % LOT == LOT - 1:
                writer.commit()
        writer.commit()


def run(contender: str, folder: Path) -> None:
    """Run a contender as a user runs it."""
    program, *arguments = CONTENDERS[contender]
    python = ["-m", "imgindex", *arguments] if arguments else ["-c", program]
    subprocess.run([sys.executable, *python], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def watch(contender: str, folder: Path) -> dict[str, Any]:
    """Run a contender under an audit hook; return what it opened and imported, and its peak memory."""
    command = [sys.executable, "-c", WATCHED, *CONTENDERS[contender]]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, text=True)
    facts: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return facts


def measure_count(count: int, rounds: int, folder: Path) -> Iterator[measure.Row]:
    """Time every contender over so many files."""
    make_files(folder / "photos", count)
    make_index(folder)
    seconds: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    for number in range(rounds + 1):
        for contender, runs in seconds.items():
            elapsed, _ = measure.timed(lambda contender=contender: run(contender, folder))
            if number:  # the first round warms the disk's cache
                runs.append(elapsed)
    for contender, runs in seconds.items():
        facts = watch(contender, folder)
        beyond = statistics.median(run - start for run, start in zip(runs, seconds[START], strict=True))
        yield {
            "files": count,
            "contender": contender,
            "seconds": statistics.median(runs),
            "files_per_second": "" if contender == START else round(count / statistics.median(runs)),
            "beyond_the_start": "" if contender == START or beyond <= 0 else round(count / beyond),
            "peak_mib": round(facts["peak_mib"], 1),
            "opened": facts["opened"],
            "imported": ",".join(facts["imported"]) or "none",
            "all_seconds": [round(run, 3) for run in runs],
        }


def main() -> None:
    """Read the command line, run the rounds at each count of files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="regular")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    rows: list[measure.Row] = []
    for count in SIZES[options.size]:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure_count(count, options.rounds, Path(folder))
    measure.report("scan", rows, options.out, size=options.size, rounds=options.rounds)


if __name__ == "__main__":
    main()
