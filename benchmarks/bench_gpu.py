"""Measures embedding on a GPU: first whether its vectors are right, then files to index against the network alone.

    python benchmarks/bench_gpu.py [--images 4000] [--rounds 3] [--photos TAR] [--device cuda] [--out FILE.json]

First the vectors of 16 images are compared with those of fp32 on the CPU. If they differ by more than rounding, nothing
is measured and the exit code is 1. Then the parts run in processes of their own, in turn, for `rounds` rounds:

`files`: `add` of JPEGs of 500 × 375 that are all different, up to a finished index, with the network already made.
`memory`: the encoder on prepared images in memory: copies to the GPU, the network, copies of the vectors back.
`network`: the network alone, on a batch on the GPU: the ceiling in that precision, by the fastest of the plain layers,
cuDNN's convolutions with ReLU, and the code of torch.compile.
`decoding`: from files to prepared images, without a network. Where this is slower than the network, it is the limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import measure
import numpy as np
import photos

SEED = 7
# Recipe, side in pixels, weights.
RECIPES = {"vgg16-pool5 at 224 px": ("vgg16-pool5", 224, None), "vgg16-fc1 at 448 px": ("vgg16-fc1", None, "random:7")}
PARTS = ("files", "memory", "network", "decoding")
LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.999, "fp16": 0.999}
SECONDS = 5.0


def make_encoder(recipe: str, device: str, precision: str) -> Any:
    """Return the encoder of one of RECIPES on a device."""
    from imgindex import Engine
    from imgindex.encoders.registry import choose_recipe
    from imgindex.encoders.vgg.encoder import make_encoder as make_vgg

    name, size, weights = RECIPES[recipe]
    choice = choose_recipe(name, size=size, weights=weights)
    return make_vgg(choice.recipe, choice.weights, Engine(device, precision))


def pictures(side: int, count: int) -> np.ndarray:
    """Return drawn images uint8 (count, side, side, 3), smooth enough that the network sees more than noise."""
    coarse = np.random.default_rng(SEED).integers(0, 256, (count, side // 16, side // 16, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def least_cosine(recipe: str, device: str, precision: str) -> float:
    """Return the least cosine between vectors of the device and those of fp32 on the CPU."""
    found, right = make_encoder(recipe, device, precision), make_encoder(recipe, "cpu", "fp32")
    batch = pictures(right.recipe.side, 16)
    one, two = found.encode(batch), right.encode(batch)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(((one * two).sum(axis=1) / lengths).min())


def rate(step: Callable[[], int]) -> float:
    """Return the images per second of a step that returns its number of images; two warm-up steps are not counted."""
    step(), step()
    done, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS:
        done += step()
    return done / seconds


def memory(encoder: Any) -> float:
    """Return images per second from prepared images in memory to vectors, in all streams."""
    batch = pictures(encoder.recipe.side, encoder.batch_size)
    with ThreadPoolExecutor(encoder.streams) as pool:
        batches = [batch] * (4 * encoder.streams)
        return rate(lambda: sum(map(len, pool.map(encoder.encode, batches))))


def network(encoder: Any) -> float:
    """Return images per second of the network alone, on a batch on the device, by the fastest of its forms."""
    import torch

    from imgindex.encoders.vgg.cuda import CudnnNetwork, cudnn_without_tf32
    from imgindex.encoders.vgg.gpu import DTYPES, state_dict
    from imgindex.encoders.vgg.network import VggNetwork

    recipe, device = encoder.recipe, torch.device(encoder.device)
    plain = VggNetwork(recipe.layer)
    plain.load_state_dict(state_dict(encoder._weights, recipe.layer), assign=True)
    dtype = DTYPES[encoder.precision]
    plain = plain.eval().to(device, dtype).to(memory_format=torch.channels_last)
    batch = torch.zeros(encoder.batch_size, 3, recipe.side, recipe.side, device=device, dtype=dtype)
    batch = batch.contiguous(memory_format=torch.channels_last)
    forms: list[Callable[[Any], Any]] = [plain]
    if device.type == "cuda":
        twin = CudnnNetwork(plain)
        forms += [lambda x: twin.head(twin.maps(x)), torch.compile(plain, mode="max-autotune")]

    def step(form: Callable[[Any], Any]) -> int:
        for _ in range(4):
            form(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 4 * len(batch)

    best = 0.0
    with torch.inference_mode(), cudnn_without_tf32():
        for form in forms:
            try:
                best = max(best, rate(lambda form=form: step(form)))  # type: ignore[misc]
            except Exception as error:  # torch.compile needs a C compiler
                print(f"left out: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
    return best


def decoding(encoder: Any, folder: Path) -> float:
    """Return images per second from files to prepared images, in as many processes as there are cores."""
    from imgindex.decoding.lookahead import worker_count
    from imgindex.decoding.pool import DecoderPool

    files = [file.read_bytes() for file in sorted(folder.iterdir())]
    with closing(DecoderPool(encoder.recipe)) as decoders, ThreadPoolExecutor(worker_count(None)) as pool:
        list(pool.map(decoders.decode, files[:200]))
        return len(files) / measure.timed(lambda: list(pool.map(decoders.decode, files)))[0]


def to_index(encoder: Any, folder: Path) -> float:
    """Return images per second from files to a finished index, the second one that this process makes."""
    from imgindex import ImageIndex

    name = RECIPES[encoder.recipe.name + f" at {encoder.recipe.side} px"]
    files = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as place:
        for number, some in enumerate((files[:256], files)):
            where = Path(place, str(number))
            with ImageIndex.create(where, recipe=name[0], size=name[1], weights=name[2]) as index:
                index._encoder = encoder
                seconds, report = measure.timed(lambda index=index, some=some: index.add(some))  # type: ignore[misc]
                assert report.added == len(some), report
    return len(files) / seconds


def child(recipe: str, part: str, device: str, precision: str, folder: str) -> dict[str, Any]:
    """Measure one part in this process."""
    encoder = make_encoder(recipe, device, precision)
    found = {
        "files": lambda: to_index(encoder, Path(folder)),
        "memory": lambda: memory(encoder),
        "network": lambda: network(encoder),
        "decoding": lambda: decoding(encoder, Path(folder)),
    }[part]()
    return {"rate": found, "peak_mib": round(measure.peak_mib()), "batch": encoder.batch_size}


def main() -> int:
    """Read the command line, check the vectors, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="a tar of photos to vary, instead of drawn pictures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", default="bf16,fp16,fp32")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return 0
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no GPU that torch can use", file=sys.stderr)
        return 1
    pairs = [(recipe, precision) for recipe in RECIPES for precision in options.precisions.split(",")]
    cosines = {pair: least_cosine(pair[0], options.device, pair[1]) for pair in pairs}
    for (recipe, precision), cosine in cosines.items():
        if not cosine >= LEAST_COSINE[precision]:
            print(f"{recipe}, {precision}: a cosine of {cosine} to fp32 on the processor", file=sys.stderr)
            return 1
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        photos.write(folder, options.images, archive=options.photos, seed=SEED)
        for recipe, precision in pairs:
            runs: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
            for _ in range(options.rounds):
                for part, done in runs.items():
                    arguments = ["--child", recipe, part, options.device, precision, str(folder)]
                    done.append(measure.in_child([str(Path(__file__).resolve()), *arguments]))
            rates = {part: statistics.median(run["rate"] for run in done) for part, done in runs.items()}
            rows.append(
                {
                    "recipe": recipe,
                    "precision": precision,
                    "batch": runs["memory"][0]["batch"],
                    "least_cosine": cosines[recipe, precision],
                    **{f"{part}_per_second": found for part, found in rates.items()},
                    "files_of_network": rates["files"] / rates["network"],
                    "files_of_limit": rates["files"] / min(rates["network"], rates["decoding"]),
                    "peak_mib": max(run["peak_mib"] for run in runs["files"]),
                }
            )
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    measure.report("gpu", rows, options.out, gpu=gpu, images=options.images, rounds=options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
