"""Measures whole runs, from a folder of JPEGs to a searchable index, against fastdup on the same files.

    python benchmarks/bench_end_to_end.py --photos TAR [--images 1420] [--rounds 3] [--sizes 96,128,160,224,320,448]
                                          [--out FILE.json]

Speed: whole processes, started on a folder of JPEGs of 500 × 375 that are all different, ended when the index is on
disk; images per second of that time, and of the part that the program itself reports as its run. Every round runs every
contender once, in turn. Quality: the same contender's vectors of the labelled photos in TAR (CLASS/FILE), scored as
bench_recipes.py does. Without TAR the images are drawn, and quality is not measured.

fastdup is the fastest of the other programs on a CPU: a small network of its own, with 576 numbers for each image. It
is installed into an environment of its own, with its telemetry turned off, and run as its documentation describes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np
import photos

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imgindex-bench"
SIZES = (96, 128, 160, 224, 320, 448)
FASTDUP = """
import os, sys, time
os.environ["SENTRY_OPT_OUT"] = "1"
import fastdup
import numpy as np
source, work, out = sys.argv[1:]
started = time.perf_counter()
fastdup.create(work_dir=work, input_dir=source).run(print_summary=False, overwrite=True)
seconds = time.perf_counter() - started
names, vectors = fastdup.load_binary_feature(os.path.join(work, "atrain_features.dat"), 576)
np.savez(out, names=np.array([os.path.abspath(name) for name in names]), vectors=vectors, seconds=seconds)
"""


@dataclass(frozen=True)
class Contender:
    """A program with its settings, and the Python that runs it."""

    name: str
    python: str
    recipe: str = ""
    size: int = 0

    def command(self, folder: Path, work: Path) -> list[str]:
        if not self.recipe:
            return [self.python, "-c", FASTDUP, str(folder), str(work / "fastdup"), str(work / "vectors.npz")]
        options = ["--recipe", self.recipe, "--index", str(work / "it.imgindex")]
        options += ["--size", str(self.size)] if self.size else []
        return [self.python, "-m", "imgindex", "add", *options, "--json", "--quiet", str(folder)]

    def vectors(self, work: Path) -> tuple[list[str], np.ndarray]:
        """Return the absolute paths and the vectors, of length 1, of the run that has its results in `work`."""
        if not self.recipe:
            found = np.load(work / "vectors.npz")
            vectors = found["vectors"] / np.linalg.norm(found["vectors"], axis=1, keepdims=True)
            return found["names"].tolist(), vectors
        from imgindex import ImageIndex

        with ImageIndex.open(work / "it.imgindex") as index:
            return [os.path.abspath(path) for path in index.paths()], index.vectors()


def fastdup_python() -> str:
    """Return the Python of an environment that has fastdup; the first call makes the environment."""
    home = CACHE / "fastdup"
    python = str(home / "bin" / "python")
    if (
        subprocess.run([python, "-c", "import fastdup"], capture_output=True, check=False).returncode
        if home.exists()
        else 1
    ):
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "fastdup"], check=True)
    return python


def run(contender: Contender, folder: Path, work: Path) -> dict[str, float]:
    """Run a contender over a folder; return the seconds of the process and of its run, and the peak of its memory."""
    work.mkdir()
    environment = {**os.environ, "SENTRY_OPT_OUT": "1"}
    started = time.perf_counter()
    with open(work / "stdout", "wb") as out, open(work / "stderr", "wb") as errors:
        process = subprocess.Popen(contender.command(folder, work), stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{contender.name} failed: {(work / 'stderr').read_text()[-1000:]}")
    if contender.recipe:
        inside = json.loads((work / "stdout").read_text())["seconds"]
    else:
        inside = float(np.load(work / "vectors.npz")["seconds"])
    return {"seconds": seconds, "inside": inside, "peak_mib": usage.ru_maxrss / 1024}


def quality(contender: Contender, classes: dict[Path, str], folder: Path, work: Path) -> dict[str, Any]:
    """Return the scores of a contender's vectors of labelled photos."""
    from bench_recipes import score

    run(contender, folder, work)
    names, vectors = contender.vectors(work)
    labels = np.array([classes[Path(name)] for name in names])
    scores = score([vectors.astype(np.float64)], labels)
    return {name: scores[name] for name in ("p_at_1", "p_at_1_interval", "map", "nmi", "nmi_range", "dimension")}


def main() -> None:
    """Read the command line, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1420)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="a tar of labelled photos, CLASS/FILE")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--without-fastdup", action="store_true")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    contenders = [
        Contender(f"imgindex --size {size}", sys.executable, "vgg16-pool5", int(size))
        for size in options.sizes.split(",")
    ]
    contenders.append(Contender("imgindex --recipe efficientnet-lite2", sys.executable, "efficientnet-lite2"))
    if not options.without_fastdup:
        contenders.append(Contender("fastdup", fastdup_python()))
    runs: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    scores: dict[str, dict[str, Any]] = {contender.name: {} for contender in contenders}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        photos.write(place / "jpegs", options.images, archive=options.photos)
        if options.photos:
            classes = photos.labelled(options.photos, place / "photos")
            for number, contender in enumerate(contenders):
                work = place / f"quality-{number}"
                scores[contender.name] = quality(contender, classes, place / "photos", work)
        for turn in range(options.rounds):
            for number, contender in enumerate(contenders):
                runs[contender.name].append(run(contender, place / "jpegs", place / f"{turn}-{number}"))
    rows = [
        {
            "contender": name,
            "images_per_second": options.images / statistics.median(one["seconds"] for one in done),
            "images_per_second_inside": options.images / statistics.median(one["inside"] for one in done),
            "peak_mib": round(statistics.median(one["peak_mib"] for one in done)),
            **scores[name],
            "all_seconds": [round(one["seconds"], 3) for one in done],
        }
        for name, done in runs.items()
    ]
    measure.report("end_to_end", rows, options.out, images=options.images, rounds=options.rounds, pixels="500 × 375")


if __name__ == "__main__":
    main()
