"""Measures how long commands take as whole processes, against `python -c "import torch"` in the same rounds.

    python benchmarks/bench_start.py [--images 500] [--rounds 7] [--out FILE.json]

Every round runs every command once, in turn, so a change of the machine's speed affects all of them. A second table has
the steps of `similar` for a new image, one after the other in a process of its own. In the command itself the decoder
process starts while the network is made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

IMGINDEX = [sys.executable, "-m", "imgindex"]
BASE = 'python -c "import torch"'
NEW = "new.png"
FIVE = "five.imgindex"

# The steps in their order, and the code of each; all run in one namespace.
STEPS = {
    "imports of the command line": "import imgindex.cli.app",
    "imports of imgindex and numpy": "import imgindex.index, imgindex.search.query",
    "open the index": "index = imgindex.index.ImageIndex.open('.imgindex')",
    "start a decoder": f"data = open({NEW!r}, 'rb').read(); decoded = index._decoders.decode(data)",
    "decode": "decoded = index._decoders.decode(data)",
    "import OpenVINO": "import openvino",
    "imports for the network": (
        "from imgindex.encoders import registry\nfrom imgindex.encoders.vgg import encoder, graph"
    ),
    "find the weights, by SHA-256": (
        "found = registry.find_weights_again(index.recipe, source=index._store.settings['weights'])"
    ),
    "make the network": "network = encoder.make_encoder(index.recipe, found, index.engine)",
    "embed the first image": "vector = network.encode(decoded.pixels[None])",
    "embed it again": "vector = network.encode(decoded.pixels[None])",
    "open the search, import FAISS": "import imgindex.search.lifecycle as l; search = l.load_search(index._store)",
    "search": "search.search(vector, 11)",
}


def commands(image: str) -> dict[str, list[str]]:
    """Return the commands that are timed, by the name that is printed."""
    return {
        BASE: [sys.executable, "-c", "import torch"],
        "imgindex --help": [*IMGINDEX, "--help"],
        "imgindex similar (indexed image)": [*IMGINDEX, "similar", image, "--json"],
        "imgindex add (nothing changed)": [*IMGINDEX, "add", "images", "--json"],
        "imgindex similar (new image)": [*IMGINDEX, "similar", NEW, "--json"],
        "imgindex add (five new images)": [*IMGINDEX, "add", "five", "--index", FIVE, "--json"],
    }


def prepare(folder: Path, images: int) -> str:
    """Make an index of sample images, with the default recipe; return the path of one image."""
    import sample_images  # imported here, because it imports numpy, which the process that times the steps must not

    names = sample_images.write(folder / "images", images, seed=7)
    make = [*IMGINDEX, "add", "images", "--quiet"]
    subprocess.run(make, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    sample_images.write(folder / "more", 1, seed=8)
    next((folder / "more").iterdir()).rename(folder / NEW)
    sample_images.write(folder / "five", 5, seed=9)
    return os.path.join("images", next(iter(names)))


def time_steps() -> dict[str, float]:
    """Run the steps in this process; return the seconds of each."""
    names: dict[str, object] = {}
    return {step: measure.timed(lambda code=code: exec(code, names))[0] for step, code in STEPS.items()}


def steps_in_children(folder: Path, rounds: int) -> list[measure.Row]:
    """Time the steps in a process of its own for each round; return a row for each step."""
    command = [sys.executable, str(Path(__file__).resolve()), "--steps"]
    runs = [json.loads(subprocess.check_output(command, cwd=folder)) for _ in range(rounds + 1)][1:]
    return [{"step": step, "milliseconds": statistics.median(run[step] for run in runs) * 1000} for step in STEPS]


def main() -> None:
    """Read the command line, run the rounds, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps:
        print(json.dumps(time_steps()), flush=True)
        os._exit(0)  # decoder processes are still running
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = commands(prepare(folder, options.images))
        seconds: dict[str, list[float]] = {command: [] for command in timed}
        for number in range(options.rounds + 1):
            for command, arguments in timed.items():
                shutil.rmtree(folder / FIVE, ignore_errors=True)
                run = measure.timed(lambda arguments=arguments: run_quietly(arguments, folder))[0]
                if number:  # the first round fills the disk cache
                    seconds[command].append(run)
        steps = steps_in_children(folder, options.rounds)
        shutil.rmtree(folder / FIVE, ignore_errors=True)
        peaks = {name: peak_mib(given, folder) for name, given in timed.items() if name != BASE}
    rows = [
        {
            "command": command,
            "seconds": statistics.median(runs),
            "ratio_to_import_torch": statistics.median(
                run / base for run, base in zip(runs, seconds[BASE], strict=True)
            ),
            "peak_mib": round(peaks[command]) if command in peaks else "",
            "all_seconds": [round(run, 4) for run in runs],
        }
        for command, runs in seconds.items()
    ]
    measure.report("start", rows, options.out, images=options.images, rounds=options.rounds, steps=steps)
    print()
    measure.report("steps of similar (new image)", steps, None)


def run_quietly(arguments: list[str], folder: Path) -> None:
    subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_mib(arguments: list[str], folder: Path) -> float:
    """Return the largest resident size of a command's own process, in MiB."""
    script = (
        "import runpy, sys; sys.argv[0] = 'imgindex'\n"
        "try: runpy.run_module('imgindex', run_name='__main__')\n"
        f"except SystemExit: sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import measure; print(measure.peak_mib(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments[len(IMGINDEX) :]],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stderr.splitlines()[-1])


if __name__ == "__main__":
    main()
