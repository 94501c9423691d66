"""Measures embedding at 448 px to fc1: the article's loop, torch, OpenVINO and imgindex, and the machine's ceiling.

    python benchmarks/bench_embed.py [--images 1024] [--rounds 3] [--photos TAR] [--out FILE.json]

The article's loop is the script from which imgindex began: OpenCV reads one image, torchvision crops and scales it, and
VGG-16 up to its first fully connected layer makes its vector, in batches of one image, in fp32. Weights are random,
from a seed, which does not change any time. Contenders run in processes of their own, one after the other, for `rounds`
rounds. The first pass of each process, over some of the images, is not counted, nor is the time to make the network.
The slow contenders get an eighth or a sixteenth of the images.

`files`: from files to vectors (imgindex: to a finished index, with a precision receipt where the run is long enough).
`model`: the network alone, on tensors in memory.
`ceiling`: the rate of the network if all of its arithmetic ran as fast as its inner convolutions, those of blocks 3 to
5, each repeated alone on an input in the cache, in every thread at once.
`relative_error`: how much the vectors differ from those of the article's loop, where the pixels are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import photos

SEED = 7
WEIGHTS = "weights.pth"  # in the folder in which contenders run
SIDE = 448
BASE = "article's loop, fp32"
WARM = 4


def article_loop() -> Callable[[list[Path]], np.ndarray]:
    """Return the article's script as a function of files, with its network made."""
    import cv2
    import torch
    from torchvision import transforms

    extractor = torchvision_network().float()
    steps = [transforms.ToPILImage(), transforms.CenterCrop(512), transforms.Resize(SIDE), transforms.ToTensor()]
    transform = transforms.Compose(steps)

    def run(files: list[Path]) -> np.ndarray:
        features = []
        for file in files:
            image = transform(cv2.imread(str(file))).reshape(1, 3, SIDE, SIDE)
            with torch.no_grad():
                features.append(extractor(image).detach().numpy().reshape(-1))
        return np.array(features)

    return run


def write_weights(path: Path) -> None:
    """Write seeded random weights of torchvision's VGG-16."""
    import torch
    from torchvision import models

    torch.manual_seed(SEED)
    weights = models.vgg16(weights=None).state_dict()
    kept = {name: tensor for name, tensor in weights.items() if name.startswith(("features.", "classifier.0."))}
    torch.save(kept, path)


def torchvision_network() -> Any:
    """Return torchvision's VGG-16 up to its first fully connected layer, with those weights."""
    import torch
    from torchvision import models

    with torch.device("meta"):
        network = models.vgg16(weights=None).eval()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True, mmap=True), strict=False, assign=True)
    return torch.nn.Sequential(network.features, network.avgpool, torch.nn.Flatten(), network.classifier[0])


def torchvision_eager(precision: str) -> Callable[[list[Path]], None]:
    """Return torchvision's network alone, channels_last, in batches of 8."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = torchvision_network().to(dtype).to(memory_format=torch.channels_last)
    batch = torch.rand(8, 3, SIDE, SIDE, dtype=dtype).contiguous(memory_format=torch.channels_last)

    def run(files: list[Path]) -> None:
        with torch.inference_mode():
            for start in range(0, len(files), 8):
                network(batch[: len(files) - start])

    return run


def openvino(precision: str) -> Callable[[list[Path]], None]:
    """Return the same network in OpenVINO's throughput mode: single images, as many at once as OpenVINO recommends."""
    import openvino as ov
    from openvino import opset13 as ops

    layers = torchvision_network()
    parameter = ops.parameter([1, 3, SIDE, SIDE], np.float32)
    node = parameter
    for layer in layers[0]:
        kind = type(layer).__name__
        if kind == "Conv2d":
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy().reshape(1, -1, 1, 1)
            node = ops.convolution(node, ops.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1])
            node = ops.add(node, ops.constant(bias))
        elif kind == "ReLU":
            node = ops.relu(node)
        else:
            node = ops.max_pool(node, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    node = ops.adaptive_avg_pool(node, ops.constant(np.array([7, 7], np.int64)))
    flat = ops.reshape(node, ops.constant(np.array([1, -1], np.int64)), False)
    last = layers[3]
    node = ops.matmul(flat, ops.constant(last.weight.detach().numpy()), False, True)
    node = ops.add(node, ops.constant(last.bias.detach().numpy().reshape(1, -1)))
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]}
    compiled = ov.Core().compile_model(ov.Model([node], [parameter]), "CPU", hints)
    queue = ov.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    image = np.random.default_rng(0).random((1, 3, SIDE, SIDE), dtype=np.float32)

    def run(files: list[Path]) -> None:
        for _ in files:
            queue.start_async({0: image})
        queue.wait_all()

    return run


def to_index(recipe: str, precision: str) -> Callable[[list[Path]], np.ndarray]:
    """Return a function that adds files to a new index, with the network made and the decoders running."""
    from imgindex import Engine, ImageIndex

    folder = tempfile.TemporaryDirectory()
    indexes = iter(range(1000))
    first = ImageIndex.create(
        Path(folder.name, "first"), recipe=recipe, weights=WEIGHTS, engine=Engine(precision=precision)
    )

    def run(files: list[Path]) -> np.ndarray:
        where = Path(folder.name, str(next(indexes)))
        with ImageIndex.create(where, recipe=recipe, weights=WEIGHTS, engine=first.engine) as index:
            index._encoder, index._decoders = first.encoder, first._decoders
            index.add(files)
            order = np.argsort([Path(path).name for path in index.paths()], kind="stable")
            vectors: np.ndarray = index.vectors()[order]
            index._decoders = type(first._decoders)(
                first.recipe
            )  # so that closing this index does not end the decoders of the first one
            return vectors

    return run


def network_alone(precision: str) -> Callable[[list[Path]], None]:
    """Return imgindex's network alone on prepared images, in all its streams."""
    from concurrent.futures import ThreadPoolExecutor

    from imgindex import Engine
    from imgindex.encoders.registry import choose_recipe, make_encoder

    choice = choose_recipe("vgg16-fc1", weights=WEIGHTS)
    encoder = make_encoder(choice.recipe, {"weights": choice.weights.source}, None, Engine("cpu", precision))
    batch = np.random.default_rng(0).integers(0, 256, (encoder.batch_size, SIDE, SIDE, 3), dtype=np.uint8)
    pool = ThreadPoolExecutor(encoder.streams)

    def run(files: list[Path]) -> None:
        starts = range(0, len(files), len(batch))
        list(pool.map(encoder.encode, [batch[: len(files) - start] for start in starts]))

    return run


def ceiling(precision: str) -> Callable[[list[Path]], None]:
    """Return a function that takes as long as images would at the rate of the network's inner convolutions."""
    from imgindex.encoders.devices import cpu_streams
    from imgindex.encoders.vgg.layers import LAYERS

    size, channels, shapes, flop = SIDE, 3, [], 2.0 * 4096 * 512 * 49
    for layer in LAYERS:
        if isinstance(layer, str):
            size //= 2
        else:
            flop += 2 * layer * channels * 9 * size**2
            shapes.append((channels, layer, size))
            channels = layer
    inner = shapes[4:]

    def run(files: list[Path]) -> None:
        seconds = sum(min(one_convolution(*shape, precision) for _ in range(3)) for shape in inner) / cpu_streams()
        rate = sum(2 * out * channels * 9 * size**2 for channels, out, size in inner) / seconds
        run.seconds = len(files) * flop / rate  # type: ignore[attr-defined]

    return run


def one_convolution(channels: int, out: int, size: int, precision: str) -> float:
    """Return the seconds of a convolution of one image, when every stream computes it on an image of its own."""
    import openvino as ov
    from openvino import opset13 as ops

    from imgindex.encoders.cpu import compiled, quantised, quantised_weight
    from imgindex.encoders.devices import cpu_streams

    random, rounds = np.random.default_rng(0), 6
    if precision == "int8":
        parameter = ops.parameter([1, channels, size, size], np.uint8)
        maps = quantised(ops.convert(parameter, np.float32), 255.0)
        steps = random.integers(-127, 128, (out, channels, 3, 3), dtype=np.int8)
        weight = quantised_weight(steps, np.ones(out, np.float32))
    else:
        maps = parameter = ops.parameter([1, channels, size, size], np.float32)
        weight = ops.constant(random.random((out, channels, 3, 3), dtype=np.float32))
    node = ops.relu(ops.convolution(maps, weight, [1, 1], [1, 1], [1, 1], [1, 1]))
    if precision == "int8":
        node = quantised(node, 255.0)
    # Only one number is copied out.
    node = ops.reduce_max(node, np.array([1, 2, 3]))
    network = compiled(ov.Model([node], [parameter], "one"), precision, streams=cpu_streams())
    requests = [network.create_infer_request() for _ in range(cpu_streams())]
    for request in requests:
        request.infer()
    ready = threading.Barrier(len(requests) + 1)

    def work(request: Any) -> None:
        ready.wait()
        for _ in range(rounds):
            request.infer()

    workers = [threading.Thread(target=work, args=(request,)) for request in requests]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - started) / rounds


# What is measured, one in how many of the images it gets, and how it is made.
CONTENDERS: dict[str, tuple[str, int, Callable[[], Callable[[list[Path]], Any]]]] = {
    BASE: ("files", 16, article_loop),
    "imgindex, article, fp32": ("files", 16, lambda: to_index("article", "fp32")),
    "imgindex, article, bf16": ("files", 8, lambda: to_index("article", "bf16")),
    "imgindex, vgg16-fc1, fp32": ("files", 8, lambda: to_index("vgg16-fc1", "fp32")),
    "imgindex, vgg16-fc1, bf16": ("files", 1, lambda: to_index("vgg16-fc1", "bf16")),
    "imgindex, vgg16-fc1, int8": ("files", 1, lambda: to_index("vgg16-fc1", "int8")),
    "imgindex's network, fp32": ("model", 16, lambda: network_alone("fp32")),
    "imgindex's network, bf16": ("model", 1, lambda: network_alone("bf16")),
    "imgindex's network, int8": ("model", 1, lambda: network_alone("int8")),
    "torchvision, fp32": ("model", 16, lambda: torchvision_eager("fp32")),
    "torchvision, bf16": ("model", 8, lambda: torchvision_eager("bf16")),
    "OpenVINO, fp32": ("model", 16, lambda: openvino("fp32")),
    "OpenVINO, bf16": ("model", 1, lambda: openvino("bf16")),
    "ceiling, fp32": ("ceiling", 16, lambda: ceiling("fp32")),
    "ceiling, bf16": ("ceiling", 1, lambda: ceiling("bf16")),
    "ceiling, int8": ("ceiling", 1, lambda: ceiling("int8")),
}


def child(name: str, folder: Path, vectors: Path) -> dict[str, Any]:
    """Run one contender in this process over the files of a folder, after a warm-up over some of them."""
    os.chdir(folder.parent)
    _, part, make = CONTENDERS[name]
    files = sorted(folder.iterdir())
    files = files[: max(8, len(files) // part)]
    run = make()
    run(files[: WARM if "fp32" in name else 8 * WARM])
    seconds, found = measure.timed(lambda: run(files))
    if isinstance(found, np.ndarray):
        np.save(vectors, found)
    seconds = getattr(run, "seconds", seconds)
    return {"images": len(files), "images_per_second": len(files) / seconds, "peak_mib": round(measure.peak_mib())}


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the largest difference of a vector, relative to the largest number of the true one."""
    found = found[: len(truth)]
    return float((np.abs(found - truth).max(axis=1) / np.abs(truth).max(axis=1)).max())


def main() -> None:
    """Read the command line, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="a tar of photos to vary, instead of drawn pictures")
    parser.add_argument("--only", help="contenders whose name has this in it, and the article's loop")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], Path(options.child[1]), Path(options.child[2]))))
        return
    names = [name for name in CONTENDERS if name == BASE or (options.only or "") in name]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        write_weights(folder.parent / WEIGHTS)
        photos.write(folder, options.images, archive=options.photos, seed=SEED)
        truth = Path(place, "truth.npy")
        for _ in range(options.rounds):
            for name in names:
                vectors = truth if name == BASE else Path(place, "vectors.npy")
                script = str(Path(__file__).resolve())
                runs[name].append(measure.in_child([script, "--child", name, str(folder), str(vectors)]))
                if "article, " in name:
                    errors[name] = relative_error(np.load(vectors), np.load(truth))
    rows = [
        {
            "contender": name,
            "from": CONTENDERS[name][0],
            "images": done[0]["images"],
            "images_per_second": statistics.median(run["images_per_second"] for run in done),
            "times_the_article": statistics.median(
                run["images_per_second"] / base["images_per_second"] for run, base in zip(done, runs[BASE], strict=True)
            ),
            "peak_mib": statistics.median(run["peak_mib"] for run in done),
            "relative_error": errors.get(name, ""),
            "all_images_per_second": [round(run["images_per_second"], 3) for run in done],
        }
        for name, done in runs.items()
    ]
    measure.report("embed", rows, options.out, rounds=options.rounds, side=SIDE)


if __name__ == "__main__":
    main()
