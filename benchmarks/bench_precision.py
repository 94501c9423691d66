"""Measures the network alone on a CPU: int8 against bf16 and fp32, by side, alone and beside a busy process.

    python benchmarks/bench_precision.py [--sides 128,224,320,448] [--rounds 5] [--photos TAR] [--out FILE.json]

Each round takes every precision in turn for about a second, on prepared pictures in memory, in as many streams as `add`
uses. `beside` a busy process: another process of this user computes on one core all the time. `instructions`: all that
the processor has, or those of an older one, which oneDNN is limited to by ONEDNN_MAX_CPU_ISA. `torch` is torchvision's
network, in channels_last, with all threads on one batch.

With labelled photos, a second table shows what a precision changes: the share of the ten nearest photos that are those
of fp32, the least cosine between the two vectors of a photo, and the scores as bench_recipes.py has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import numpy as np

SECONDS = 1.0
OLDER = ("AVX512_CORE", "AVX2")
BATCH = 8


def imgindex(side: int, precision: str) -> Callable[[], int]:
    """Return a function that encodes a batch in every stream, and returns how many pictures these are."""
    from imgindex import Engine
    from imgindex.encoders.registry import choose_recipe, make_encoder

    choice = choose_recipe("vgg16-pool5", size=side)
    encoder = make_encoder(choice.recipe, {}, None, Engine("cpu", precision))
    pictures = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    pool = ThreadPoolExecutor(encoder.streams)

    def step() -> int:
        return sum(map(len, pool.map(encoder.encode, [pictures] * encoder.streams)))

    return step


def torchvision(side: int, precision: str) -> Callable[[], int]:
    """Return the same for torchvision's convolutions."""
    import torch
    from torchvision import models

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = models.vgg16(weights=None).features.eval().to(dtype).to(memory_format=torch.channels_last)
    batch = torch.rand(BATCH, 3, side, side).to(dtype).contiguous(memory_format=torch.channels_last)

    def step() -> int:
        with torch.inference_mode():
            network(batch)
        return BATCH

    return step


CONTENDERS = {
    "imgindex, int8": lambda side: imgindex(side, "int8"),
    "imgindex, bf16": lambda side: imgindex(side, "bf16"),
    "imgindex, fp32": lambda side: imgindex(side, "fp32"),
    "torch, bf16": lambda side: torchvision(side, "bf16"),
    "torch, fp32": lambda side: torchvision(side, "fp32"),
}


def rate(step: Callable[[], int]) -> float:
    """Return the pictures a second of a step, over about SECONDS."""
    done, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS:
        done += step()
    return done / seconds


def measured(sides: list[int], names: list[str], rounds: int) -> list[measure.Row]:
    """Return a row for each side and contender, measured in turn in this process."""
    rows: list[measure.Row] = []
    for side in sides:
        steps = {name: CONTENDERS[name](side) for name in names}
        for step in steps.values():
            step(), step()
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, step in steps.items():
                rates[name].append(rate(step))
        rows += [
            {
                "side": side,
                "contender": name,
                "images_per_second": statistics.median(found),
                "int8_is_times_faster": statistics.median(
                    int8 / this for int8, this in zip(rates["imgindex, int8"], found, strict=True)
                ),
                "all_images_per_second": [round(one, 1) for one in found],
            }
            for name, found in rates.items()
        ]
    return rows


def in_child(sides: list[int], names: list[str], rounds: int, instructions: str | None = None) -> list[measure.Row]:
    """Measure in a process of its own, which takes no instructions beyond these."""
    environment = os.environ | ({"ONEDNN_MAX_CPU_ISA": instructions} if instructions else {})
    request = json.dumps([sides, names, rounds])
    command = [sys.executable, str(Path(__file__).resolve()), "--child", request]
    rows: list[measure.Row] = json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
    return [{"beside": "–", "instructions": instructions or "all", **row} for row in rows]


def fidelity(archive: Path) -> list[measure.Row]:
    """Return what each precision changes in the answers of vgg16-pool5, with and without its mean."""
    import bench_recipes

    from imgindex import Engine
    from imgindex.decoding.lookahead import map_in_streams
    from imgindex.decoding.transforms import prepare
    from imgindex.encoders.cpu import CpuEncoder
    from imgindex.encoders.output import finish
    from imgindex.encoders.registry import choose_recipe, make_encoder

    photos = bench_recipes.read(archive)
    rows = []
    for side in (224, 320):
        recipe = choose_recipe("vgg16-pool5", size=side).recipe
        pictures = [prepare(picture, recipe) for picture in photos.white]
        batches = [np.stack(pictures[at : at + 4]) for at in range(0, len(pictures), 4)]
        exact: dict[str, np.ndarray] = {}
        for precision in ("fp32", "bf16", "int8"):
            encoder = make_encoder(recipe, {}, None, Engine("cpu", precision))
            assert isinstance(encoder, CpuEncoder)
            outputs = np.concatenate(list(map_in_streams(encoder, encoder.outputs, batches)))
            for name, one in (("less the mean", recipe), ("as they are", replace(recipe, offset=""))):
                vectors = finish(outputs, one)
                exact.setdefault(name, vectors)
                scores = bench_recipes.score([vectors], photos.labels)
                rows.append(
                    {
                        "side": side,
                        "vectors": name,
                        "precision": precision,
                        "same_of_10_nearest": overlap(vectors, exact[name]),
                        "least_cosine": float((vectors * exact[name]).sum(axis=1).min()),
                        **{score: scores[score] for score in ("p_at_1", "map", "nmi")},
                    }
                )
    return rows


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of the ten nearest of each vector, by its cosine, that are the same in both sets."""
    nearest = []
    for vectors in (one, other):
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -2)
        nearest.append(np.argsort(-cosines, axis=1)[:, :10])
    return float(np.mean([len(np.intersect1d(*both)) / 10 for both in zip(*nearest, strict=True)]))


def main() -> None:
    """Read the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default="128,224,320,448")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=Path, help="a tar of labelled photos, CLASS/FILE")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(*json.loads(options.child))))
        return
    sides = [int(side) for side in options.sides.split(",")]
    rows: list[measure.Row] = in_child(sides, list(CONTENDERS), options.rounds)
    ours = [name for name in CONTENDERS if name.startswith("imgindex")]
    for instructions in OLDER:
        rows += in_child([224], ["imgindex, int8", "imgindex, fp32"], options.rounds, instructions)
    busy: subprocess.Popen[Any] = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        rows += [row | {"beside": "a busy process"} for row in in_child([224], ours, options.rounds)]
    finally:
        busy.kill()
        busy.wait()
    answers = fidelity(options.photos) if options.photos else []
    measure.report("precision", rows, options.out, rounds=options.rounds, answers=answers)
    if answers:
        print()
        measure.report("answers", answers, None)


if __name__ == "__main__":
    main()
