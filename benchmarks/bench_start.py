"""Measures how long commands take as whole processes, against `python -c "import torch"` in the same rounds.

    python benchmarks/bench_start.py [--images 500] [--rounds 7] [--out FILE.json]

Every round runs every command once, in turn, so that a machine whose speed drifts slows them all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import sample_images

IMGINDEX = [sys.executable, "-m", "imgindex"]
BASE = 'python -c "import torch"'


def commands(image: str) -> dict[str, list[str]]:
    """What is timed: the name that is printed, and the command."""
    return {
        BASE: [sys.executable, "-c", "import torch"],
        "imgindex --help": [*IMGINDEX, "--help"],
        "imgindex similar (indexed image)": [*IMGINDEX, "similar", image, "--json"],
        "imgindex add (nothing changed)": [*IMGINDEX, "add", "images", "--json"],
        "imgindex similar (new image)": [*IMGINDEX, "similar", "new.png", "--json"],
    }


def prepare(folder: Path, images: int) -> str:
    """Make an index of sample images (at 32 px: their vectors do not matter here); return the path of one image."""
    names = sample_images.write(folder / "images", images, seed=7)
    make = [*IMGINDEX, "add", "images", "--recipe", "vgg16-pool5", "--size", "32", "--quiet"]
    subprocess.run(make, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    sample_images.write(folder / "more", 1, seed=8)
    next((folder / "more").iterdir()).rename(folder / "new.png")
    return os.path.join("images", next(iter(names)))


def main() -> None:
    """Read the command line, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = commands(prepare(folder, options.images))
        seconds: dict[str, list[float]] = {command: [] for command in timed}
        for number in range(options.rounds + 1):
            for command, arguments in timed.items():
                run = measure.timed(lambda arguments=arguments: run_quietly(arguments, folder))[0]
                if number:  # the first round warms the disk's cache
                    seconds[command].append(run)
    rows = [
        {
            "command": command,
            "seconds": statistics.median(runs),
            "ratio_to_import_torch": statistics.median(
                run / base for run, base in zip(runs, seconds[BASE], strict=True)
            ),
            "all_seconds": [round(run, 4) for run in runs],
        }
        for command, runs in seconds.items()
    ]
    measure.report("start", rows, options.out, images=options.images, rounds=options.rounds)


def run_quietly(arguments: list[str], folder: Path) -> None:
    subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
