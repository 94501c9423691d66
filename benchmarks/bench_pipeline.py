"""Measures what `add` costs besides the network: processor time of the parent and of the decoders for each image.

    python benchmarks/bench_pipeline.py [--images 2000] [--rounds 3] [--photos TAR] [--out FILE.json]

The recipe is vgg16-pool5, whose network is a stub that returns a few pixels as the vector. So everything else is
measured: the scan, reading, hashing, decoding, and the store. Images are JPEGs of 500 × 375, and a twentieth as many of
12 megapixels, varied from the photos of a tar or from drawn pictures. Each run is a process of its own, and adds a
folder to a new index (`first`), or to an index that has one of its files, so that the catalogue is asked before
anything is decoded (`later`), or to a new index as a list of files (`listed`).

`parent_us`: processor time of the parent for each image, in microseconds; `decoders_us`: that of the decoder processes.
`images_per_second`: with two workers. The least of the rounds is reported, because other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
import numpy as np
import photos

WORKERS = 2
SHAPES = {"500 × 375": ((500, 375), 1), "12 megapixels": ((4000, 3000), 20)}


class Stub:
    """An encoder that computes nothing."""

    dimension = 512
    batch_size, streams, precision, device = 32, WORKERS, "fp32", "cpu"

    def __init__(self, side: int) -> None:
        self.side = side

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Return the first 512 numbers of each picture, at length 1."""
        vectors = batch.reshape(len(batch), -1)[:, :512].astype(np.float32) + 1
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def fp32(self) -> Stub:
        """Return itself."""
        return self


def add(folder: Path, kind: str, side: int) -> dict[str, Any]:
    """Add the files of a folder; return the processor time of each image in this process and in its children."""
    from imgindex import Engine, ImageIndex
    from imgindex.encoders import registry

    registry.make_encoder = lambda *arguments: Stub(side)
    files = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        with ImageIndex.create(Path(scratch) / "it.imgindex", size=side, engine=Engine(workers=WORKERS)) as index:
            if kind == "later":
                index.add(files[0])
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            report = index.add(files if kind == "listed" else folder)
            seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert report.added == len(files) - (kind == "later")
    return {
        "parent_us": round((_cpu(after) - _cpu(before)) / len(files) * 1e6),
        "decoders_us": round(_cpu(children) / len(files) * 1e6),
        "images_per_second": round(len(files) / seconds, 1),
        "peak_mib": round(measure.peak_mib()),
    }


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[measure.Row]:
    """Yield a row for each shape of pictures, kind of run and side."""
    for name, (size, share) in SHAPES.items():
        count = max(20, arguments.images // share)
        files = folder / name
        photos.write(files, count, archive=arguments.photos, size=size)
        for kind in ("first", "later", "listed"):
            for side in arguments.sides:
                runs = [
                    measure.in_child([__file__, "--run", str(files), "--kind", kind, "--sides", str(side)])
                    for _ in range(arguments.rounds)
                ]
                least = {key: min(run[key] for run in runs) for key in ("parent_us", "decoders_us", "peak_mib")}
                rate = max(run["images_per_second"] for run in runs)
                yield {"pictures": name, "run": kind, "side": side, "images": count, **least, "images_per_second": rate}


def main() -> None:
    """Run the benchmark, or one contender in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=lambda text: [int(side) for side in text.split(",")], default=[160, 224, 320])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        import json

        sys.stdout.write(json.dumps(add(arguments.run, arguments.kind, arguments.sides[0])) + "\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure.report("pipeline", list(rows(arguments, Path(scratch))), arguments.out, workers=WORKERS)


if __name__ == "__main__":
    main()
