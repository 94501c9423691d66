"""Measures what only a GPU can show, correctness first, within eight minutes.

    python benchmarks/bench_gpu.py [--out FILE.json] [--steps facts,tests,…] [--rehearse] [--wheels FOLDER]

Each step is a process of its own with a limit of time. What it has measured is kept at once, so a step may fail or be
cut off, and the next one begins. The exit code is 1 if one did, or if vectors are wrong. With `--rehearse` a CPU runs
the same code with small pictures and counts, within four minutes; its figures mean nothing.

`facts`: the machine, and its ceilings: products of matrices in fp16 and fp32, copies on the GPU and to it.
`tests`: those of the GPU, among them the ones that are skipped without one.
`correctness`: vectors against those of fp32 on the CPU; whether they have the same bits again, alone, in other places,
from other threads, and in memory full of NaN; whether torch's settings are left as they were; k-means.
`files`: from JPEGs of 500 × 375 and of 12 megapixels to an index, against decoding alone and the network alone.
`sweep`: the network alone, in several forms, precisions and sizes of a batch.
`profile`: the kernels that take most, and how long the GPU stands idle.
`memory`: how much it takes, whether it grows, and what happens where there is too little.

Pictures and matrices are random with a seed: zeros are computed faster than anything real.

Nothing is downloaded. A machine that has torch, but lacks other dependencies, takes them from wheels in a folder, which
`pip download --only-binary=:all: --no-deps -d .whl faiss-cpu openvino cykooz-resizer …` fills where there is a network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import photos

ROOT = Path(__file__).resolve().parent.parent
# The seconds of each step on a GPU, together below 480. Those at the end can be missed first.
LIMITS = {"facts": 40, "tests": 80, "correctness": 60, "files": 100, "sweep": 90, "profile": 40, "memory": 50}
# In a rehearsal a step may take so many times as long, because its machine may be slow.
REHEARSAL_TIMES = 4
TESTS = [
    ["tests/encoders/vgg/test_gpu.py", "-k", "a_gpu_gives"],
    ["tests/encoders/vgg/test_cuda.py", "tests/clustering/test_nearest_torch.py", "tests/encoders/test_cuda_errors.py"],
]
SEED = 7
GFLOP = 30.69  # of the convolutions for a picture of 224 px
LEAST_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "bf16": 0.999}
EXPECTED = "DeviceUnavailable"
Figures = dict[str, Any]


class Part:
    """What one step has measured, on disk after each figure."""

    def __init__(self, path: Path, *, device: str) -> None:
        self.path, self.figures = path, Figures()
        self.device = device
        self.is_real = device == "cuda"
        self.side = 224 if self.is_real else 32
        self.started = time.perf_counter()

    def add(self, name: str, task: Callable[[], Any]) -> Any:
        """Add what a task returns, or the error that it raises, which must not cost the other figures."""
        try:
            value = task()
        except Exception as error:
            value = {"error": f"{type(error).__name__}: {error}"[:400]}
        self.figures[name] = value
        print(f"  {name}: {json.dumps(value)}"[:400], flush=True)
        self.path.write_text(json.dumps(self.figures))
        return value

    def has_time(self, seconds: float) -> bool:
        """Return whether the step has run for less than so many seconds; in a rehearsal it has always time."""
        return not self.is_real or time.perf_counter() - self.started < seconds

    def seconds_of(self, task: Callable[[], Any], budget: float = 0.5) -> float:
        """Return the median seconds of a task on the GPU, by its own clock."""
        import torch

        for _ in range(3 if self.is_real else 1):
            task()
        if not self.is_real:
            return measure.median_seconds(task, rounds=3, warm_up=0)
        times, end = [], time.perf_counter() + budget
        while time.perf_counter() < end or len(times) < 3:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            task()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) / 1e3)
        return statistics.median(times)

    def encoder(self, precision: str = "auto", *, batch_size: int | None = None, recipe: str = "vgg16-pool5") -> Any:
        """Return the encoder that is measured; in a rehearsal the one of a GPU, computed by the CPU."""
        from imgindex import Engine
        from imgindex.encoders.registry import choose_recipe
        from imgindex.encoders.vgg.gpu import VggGpuEncoder

        size, weights = (self.side, None) if recipe == "vgg16-pool5" else (None, "random:7")
        choice = choose_recipe(recipe, size=size, weights=weights)
        engine = Engine(self.device, precision, batch_size or (None if self.is_real else 8))
        return VggGpuEncoder(choice.recipe, choice.weights, engine, self.device)

    def pictures(self, count: int, side: int = 0) -> np.ndarray:
        """Return pictures, uint8 (count, side, side, 3): soft shapes with noise, all different."""
        side, random = side or self.side, np.random.default_rng(SEED)
        coarse = random.integers(0, 256, (count, side // 16, side // 16, 3), dtype=np.uint8)
        noise = random.integers(-12, 13, (count, side, side, 3), dtype=np.int16)
        return np.clip(coarse.repeat(16, axis=1).repeat(16, axis=2) + noise, 0, 255).astype(np.uint8)


def facts(part: Part) -> None:
    """Measure the ceilings of the machine."""
    import torch

    part.add("rehearsal", lambda: not part.is_real)
    if part.is_real:
        about = torch.cuda.get_device_properties(0)
        part.add(
            "gpu", lambda: f"{about.name}, {about.total_memory / 2**30:.0f} GiB, cuDNN {torch.backends.cudnn.version()}"
        )
    size, count = (8192, 1 << 29) if part.is_real else (256, 1 << 20)
    for dtype in (torch.float16, torch.float32):
        a, b = (torch.randn(size, size, device=part.device).to(dtype) for _ in range(2))
        part.add(
            f"product_{'fp16' if dtype == torch.float16 else 'fp32'}_tflops",
            lambda a=a, b=b: 2 * size**3 / part.seconds_of(lambda: a @ b) / 1e12,  # type: ignore[misc]
        )
    source, target = torch.randn(count, device=part.device), torch.empty(count, device=part.device)
    part.add("copy_gb_per_second", lambda: 8 * count / part.seconds_of(lambda: target.copy_(source)) / 1e9)
    host = torch.from_numpy(part.pictures(256 if part.is_real else 8))
    there = torch.empty_like(host, device=part.device)
    memories = {"pageable": host, "pinned": host.pin_memory()} if part.is_real else {"pageable": host}
    for name, memory in memories.items():
        copy = partial(there.copy_, memory, non_blocking=True)
        part.add(f"{name}_to_gpu_gb_per_second", lambda copy=copy: host.nbytes / part.seconds_of(copy) / 1e9)  # type: ignore[misc]


def correctness(part: Part) -> None:
    """Compare vectors with those of fp32 on the CPU, and with themselves."""
    import torch

    from imgindex import Engine
    from imgindex.encoders.vgg.encoder import make_encoder

    count = 32 if part.is_real else 5
    batch = part.pictures(count)
    for precision in ("fp16", "fp32", "bf16"):
        started = time.perf_counter()
        encoder = part.encoder(precision)
        made = time.perf_counter() - started
        seconds, found = measure.timed(lambda encoder=encoder: encoder.encode(batch))  # type: ignore[misc]
        exact = make_encoder(encoder.recipe, encoder._weights, Engine("cpu", "fp32")).encode(batch)
        compared = {**distance(found, exact), "make_seconds": made, "first_batch_seconds": seconds}
        part.add(precision, lambda compared=compared: compared)  # type: ignore[misc]
        part.add(f"{precision}_has_graph", lambda encoder=encoder: has_graph(encoder))  # type: ignore[misc]
        with ThreadPoolExecutor(4) as pool:
            threads = list(pool.map(encoder.encode, [batch] * 8))
        spoil_memory(part)
        same = {
            "again": encoder.encode(batch),
            # On the CPU, where batches have no fixed shape, a convolution of another shape rounds otherwise.
            "one_by_one": np.concatenate([encoder.encode(batch[at : at + 1]) for at in range(count)]),
            "turned": encoder.encode(batch[::-1].copy())[::-1],
            "in_threads": np.concatenate(threads),
            "after_nan": part.encoder(precision).encode(batch),
        }
        for name, vectors in same.items():
            right = np.concatenate([found] * (len(vectors) // count))
            part.add(f"{precision}_{name}", lambda vectors=vectors, right=right: distance(vectors, right))  # type: ignore[misc]
        del encoder
    part.add("settings_kept", lambda: settings_kept(part, batch))
    if part.is_real:
        part.add("fc1", lambda: fc1(part))
        part.add("cudnn_convolution_relu_with_nan", unwritten_addend)
        torch.cuda.empty_cache()
    part.add("k_means", lambda: nearest(part))


def distance(found: np.ndarray, right: np.ndarray) -> Figures:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(right, axis=1)
    return {
        "finite": bool(np.isfinite(found).all()),
        "least_cosine": float(((found.astype(np.float64) * right).sum(axis=1) / lengths).min()),
        "same_bits": bool(np.array_equal(found, right)),
    }


def has_graph(encoder: Any) -> bool | None:
    """Return whether the first stream computes by a CUDA graph; None where it is no stream of an NVIDIA GPU."""
    return getattr(encoder._idle[0].stream, "_graph", "") is not None if encoder.device == "cuda" else None


def spoil_memory(part: Part) -> None:
    """Fill memory with NaN and give it back, so that whoever reads what nobody has written finds it."""
    import torch

    sizes = [1 << power for power in range(8, 28 if part.is_real else 20)] * 2
    held = [torch.full((size,), float("nan"), device=part.device) for size in sizes]
    del held


def settings_kept(part: Part, batch: np.ndarray) -> bool:
    """Return whether an encoder leaves what the program has set, cuDNN's precisions apart from each other."""
    import torch

    cudnn = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):
        return True  # torch before 2.9 has one precision

    def settings() -> list[Any]:
        matmul = torch.backends.cuda.matmul
        return [cudnn.benchmark, cudnn.deterministic, *(one.fp32_precision for one in (cudnn.conv, cudnn.rnn, matmul))]

    cudnn.benchmark, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = True, "tf32", "ieee"
    before = settings()
    part.encoder("fp32").encode(batch)
    kept = settings() == before
    cudnn.benchmark, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = False, "none", "none"
    return kept


def fc1(part: Part) -> Figures:
    from imgindex import Engine
    from imgindex.encoders.vgg.encoder import make_encoder

    encoder, batch = part.encoder("fp16", recipe="vgg16-fc1"), part.pictures(4, 448)
    return distance(
        encoder.encode(batch), make_encoder(encoder.recipe, encoder._weights, Engine("cpu", "fp32")).encode(batch)
    )


def unwritten_addend() -> Figures:
    """Does torch's fused convolution read the unwritten output that it passes as an addend? It decides its use here."""
    import torch

    finite = calls = 0
    for channels, side in ((64, 224), (256, 56), (512, 14)):
        x, w = (
            torch.randn(*shape, device="cuda").half().contiguous(memory_format=torch.channels_last)
            for shape in ((16, channels, side, side), (channels, channels, 3, 3))
        )
        for _ in range(4):
            unwritten = torch.full_like(x, float("nan"))
            del unwritten  # the next allocation of this size is the same memory
            y = torch.cudnn_convolution_relu(x, w, w[:, 0, 0, 0].contiguous(), [1, 1], [1, 1], [1, 1], 1)
            finite, calls = finite + bool(y.isfinite().all()), calls + 1
    return {"finite": finite, "calls": calls}


def nearest(part: Part) -> Figures:
    """Compare k-means's labels with FAISS's, and time a step with the rows in the GPU's memory."""
    from imgindex.clustering.nearest_torch import NearestByTorch
    from imgindex.vectors.rows import VectorRows, nearest_by_faiss

    rows, dimension, k = (200_000, 512, 1000) if part.is_real else (2000, 64, 20)
    random = np.random.default_rng(SEED)
    points = VectorRows.of(random.random((rows, dimension), dtype=np.float32))
    centroids = random.random((k, dimension), dtype=np.float32)
    finder = NearestByTorch(part.device)
    labels = [
        np.concatenate([block.labels for block in found(points, centroids)]) for found in (nearest_by_faiss, finder)
    ]
    seconds = measure.median_seconds(lambda: list(finder(points, centroids)), rounds=3)
    return {"same_labels": float((labels[0] == labels[1]).mean()), "step_seconds": seconds}


class Stub:
    """An encoder that takes no time: what is left is the cost of the rest of `add`."""

    device, precision, streams = "cuda", "fp32", 2

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Return the first numbers of each picture, at length 1."""
        vectors = batch.reshape(len(batch), -1)[:, 1000:1512].astype(np.float32) + 1
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def fp32(self) -> Stub:
        """Return itself."""
        return self


def files(part: Part) -> None:
    """Measure files to index, and the steps that could limit it."""
    from imgindex.decoding.lookahead import core_count

    count, large = (6000, 160) if part.is_real else (32, 2)
    with tempfile.TemporaryDirectory() as place:
        drawn = draw(Path(place, "small"), count, (500, 375))
        encoder, warm = part.encoder(), count // 12
        # As many as `add` has in one lot, so that processes are not asked for each picture.
        part.add("decoding", lambda: decoding(encoder.recipe, drawn, core_count()))
        part.add("from_memory", lambda: from_memory(part, encoder))
        part.add("without_a_network", lambda: to_index(part, Stub(encoder.batch_size), drawn, warm))
        part.add("files_to_index", lambda: to_index(part, encoder, drawn, warm))
        part.add("files_to_index_again", lambda: to_index(part, encoder, drawn, warm))
        if part.has_time(60):
            twelve = draw(Path(place, "large"), large, (4000, 3000))
            part.add("twelve_megapixels", lambda: to_index(part, encoder, twelve, large // 2))


def draw(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write drawn JPEGs by all cores."""
    from imgindex.decoding.lookahead import core_count

    parts = min(core_count(), count)
    with ThreadPoolExecutor(parts) as pool:
        code = "import sys, pathlib, photos; photos.write(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:3]), "
        code += "size=(int(sys.argv[3]), int(sys.argv[4])), seed=int(sys.argv[5]))"
        arguments = [
            [
                sys.executable,
                "-c",
                code,
                str(folder / str(number)),
                str(-(-count // parts)),
                *map(str, size),
                str(number),
            ]
            for number in range(parts)
        ]
        list(pool.map(partial(subprocess.run, check=True, cwd=Path(photos.__file__).parent), arguments))
    return sorted(folder.rglob("*.jpg"))[:count]


def decoding(recipe: Any, drawn: list[Path], workers: int) -> Figures:
    """Return the images a second from files to prepared pictures, in as many processes as there are cores."""
    from imgindex.decoding.pool import DecoderPool
    from imgindex.decoding.process import Task

    with closing(DecoderPool(recipe)) as decoders, ThreadPoolExecutor(workers) as pool:
        lots = [
            [Task(str(file)) for file in drawn[at : at + decoders.lot]] for at in range(0, len(drawn), decoders.lot)
        ]
        list(pool.map(decoders.work, lots[:workers]))
        seconds, _ = measure.timed(lambda: list(pool.map(decoders.work, lots)))
    return {"images_per_second": len(drawn) / seconds, "processes": workers}


def from_memory(part: Part, encoder: Any) -> Figures:
    """Return the images a second from prepared pictures in pinned memory to vectors, in all streams."""
    batch = encoder.empty_batch(encoder.batch_size)
    batch[:] = part.pictures(encoder.batch_size)
    lots = (40 if part.is_real else 2) * encoder.streams
    with ThreadPoolExecutor(encoder.streams) as pool:
        list(pool.map(encoder.encode, [batch] * 2 * encoder.streams))
        seconds, _ = measure.timed(lambda: list(pool.map(encoder.encode, [batch] * lots)))
    return {"images_per_second": lots * len(batch) / seconds, "batch": len(batch), "streams": encoder.streams}


def to_index(part: Part, encoder: Any, drawn: list[Path], warm: int) -> Figures:
    """Add files by an encoder that is made; decoders are warm after the first ones."""
    from imgindex import ImageIndex
    from imgindex.storage import precision

    with (
        tempfile.TemporaryDirectory() as place,
        ImageIndex.create(Path(place, "it.imgindex"), recipe="vgg16-pool5", size=part.side) as index,
    ):
        index._encoder = encoder
        index.add(drawn[:warm])
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds, report = measure.timed(lambda: index.add(drawn[warm:]))
        after = resource.getrusage(resource.RUSAGE_SELF)
        receipt = precision.read(index._store.catalogue).get(encoder.precision)
    assert report.added == len(drawn) - warm, report
    parent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    overlap = None if receipt is None else receipt.overlap
    return {
        "images_per_second": report.added / seconds,
        "parent_us": parent / report.added * 1e6,
        "of_ten_nearest_those_of_fp32": overlap,
    }


def sweep(part: Part) -> None:
    """Measure the network alone, on random pictures that are on the GPU already."""
    import torch

    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    sizes = (
        {"fp16": (256, 64, 128, 512), "bf16": (256,), "fp32": (64,)} if part.is_real else {"fp16": (2,), "fp32": (2,)}
    )
    for precision, batches in sizes.items():
        for size in batches:
            for name, form in forms(part, dtypes[precision], size).items():
                if part.has_time(LIMITS["sweep"] - 12):
                    part.add(f"{name}, {precision}, batch {size}", partial(rate, part, form, size))


def rate(part: Part, form: Callable[[], Any], size: int) -> Figures:
    import torch

    with torch.inference_mode():
        found = form().float().cpu()
        seconds = part.seconds_of(form)
    tflops = size * GFLOP * (part.side / 224) ** 2 / seconds / 1e3
    return {"images_per_second": size / seconds, "tflops": tflops, "finite": bool(found.isfinite().all())}


def forms(part: Part, dtype: Any, size: int) -> dict[str, Callable[[], Any]]:
    """Return ways to compute the network, by name; those that a CPU does not have are left out."""
    import torch
    from torch import nn

    from imgindex.encoders.registry import choose_recipe
    from imgindex.encoders.vgg.cuda import CudaStream
    from imgindex.encoders.vgg.layers import shapes
    from imgindex.encoders.vgg.network import VggNetwork, max_pooled
    from imgindex.encoders.weights import load_weights

    choice = choose_recipe("vgg16-pool5", size=part.side)
    network = VggNetwork(choice.recipe, load_weights(choice.weights, shapes("pool5")), torch.device(part.device), dtype)
    pixels = torch.from_numpy(part.pictures(size)).to(part.device)
    padded = network.new_input(size, part.side)
    found: dict[str, Callable[[], Any]] = {"ours without a graph": lambda: network.outputs(pixels, padded)}
    if not part.is_real:
        return found
    zeros = torch.zeros(512, device="cuda", dtype=dtype)

    def fused() -> Any:
        """Bias and ReLU while cuDNN writes the convolution, with the addend that nobody has written."""
        maps = padded.permute(0, 3, 1, 2)
        for layer in network._layers:
            bias = zeros[: len(layer.weight)] if layer.bias is None else layer.bias.flatten()
            maps = torch.cudnn_convolution_relu(maps, layer.weight, bias, [1, 1], [1, 1], [1, 1], 1)
            maps = max_pooled(maps) if layer.is_pooled else maps
        return maps

    def torch_pooling() -> Any:
        maps = padded.permute(0, 3, 1, 2)
        for layer in network._layers:
            maps = torch.conv2d(maps, layer.weight, None, 1, 1).relu_()
            maps = nn.functional.max_pool2d(maps, 2) if layer.is_pooled else maps
        return maps

    stream = CudaStream(network, part.side, size)
    if stream._graph is not None:
        found["ours"] = lambda: (stream._graph.replay(), stream._outputs)[1]
    return {**found, "fused": fused, "torch's pooling, no bias": torch_pooling}


def profile(part: Part) -> None:
    """Record the kernels of some batches in all streams."""
    import torch

    activity = torch.profiler.ProfilerActivity.CUDA if part.is_real else torch.profiler.ProfilerActivity.CPU
    encoder = part.encoder()
    batch = encoder.empty_batch(encoder.batch_size)
    batch[:] = part.pictures(encoder.batch_size)
    with ThreadPoolExecutor(encoder.streams) as pool, tempfile.TemporaryDirectory() as place:
        list(pool.map(encoder.encode, [batch] * 2 * encoder.streams))
        with torch.profiler.profile(activities=[activity]) as found:
            list(pool.map(encoder.encode, [batch] * (8 if part.is_real else 1) * encoder.streams))
            encoder.encode(batch)  # of a CPU's work only that of this thread is seen
        found.export_chrome_trace(f"{place}/trace.json")
        events = json.loads(Path(place, "trace.json").read_text())["traceEvents"]
    kinds = ("kernel", "gpu_memcpy", "gpu_memset") if part.is_real else ("cpu_op",)
    events = [event for event in events if event.get("cat") in kinds and "dur" in event]
    part.add("kernels", lambda: top_kernels(events))
    part.add("idle_share", lambda: idle_share(events))


def top_kernels(events: list[Figures]) -> list[Figures]:
    totals: dict[str, list[float]] = {}
    for event in events:
        totals.setdefault(event["name"][:100], []).append(event["dur"])
    whole = sum(map(sum, totals.values()))
    ranked = sorted(totals.items(), key=lambda item: -sum(item[1]))[:25]
    return [
        {"kernel": name, "share": sum(times) / whole, "calls": len(times), "mean_us": statistics.mean(times)}
        for name, times in ranked
    ]


def idle_share(events: list[Figures]) -> float:
    """Return the share of the time in which no kernel ran."""
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if "memcpy" not in event["cat"])
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - busy / (end - spans[0][0])


def memory(part: Part) -> None:
    """Measure memory, and compute with less and less of it."""
    import torch

    from imgindex.encoders.cuda_errors import is_out_of_gpu_memory

    words = ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory.")
    device = torch.device(part.device)
    part.add("known_words", lambda: all(is_out_of_gpu_memory(RuntimeError(word), device) for word in words))
    batch, right = in_enough_memory(part)
    if not part.is_real:
        return
    total = torch.cuda.get_device_properties(0).total_memory
    # At last too little for one picture: the error that users see.
    for mib in (3000, 1500, 800, 300, 8):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + (mib << 20)) / total)
        part.add(f"with_{mib}_mib", lambda: in_little_memory(part, batch, right))


def in_enough_memory(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Measure how much memory is taken, and whether it grows; return pictures and their vectors."""
    import torch

    encoder = part.encoder()
    batch = part.pictures(encoder.batch_size)
    part.add("grows_mib", lambda: growth(part, encoder, batch))
    if part.is_real:
        part.add("peak_mib", lambda: torch.cuda.max_memory_reserved() / 2**20)
    return batch, encoder.encode(batch)


def in_little_memory(part: Part, batch: np.ndarray, right: np.ndarray) -> Figures:
    encoder = part.encoder()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(encoder.encode, [batch] * 2))
    return {**distance(np.concatenate(found), np.concatenate([right] * 2)), "batch": encoder.batch_size}


def growth(part: Part, encoder: Any, batch: np.ndarray) -> list[float]:
    """Return the memory of this process, in MiB, after batches of changing sizes in new threads."""
    seen = []
    for number in range(4):
        with ThreadPoolExecutor(encoder.streams) as pool:
            list(pool.map(encoder.encode, [batch[number:]] * (20 if part.is_real else 2)))
        seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    return seen


STEPS = {
    "facts": facts,
    "correctness": correctness,
    "files": files,
    "sweep": sweep,
    "profile": profile,
    "memory": memory,
}


def rows_of(steps: dict[str, Figures]) -> Iterator[measure.Row]:
    """Yield a row for each rate: files, memory, and the forms of the network."""
    for step in ("files", "sweep"):
        for name, figure in steps.get(step, {}).items():
            if isinstance(figure, dict) and "images_per_second" in figure:
                yield {"step": step, "what": name.replace("_", " "), **figure}


def faults(steps: dict[str, Figures]) -> Iterator[str]:
    """Yield what is wrong with the vectors, and the steps that did not end."""
    for name, figures in steps.items():
        if figures.get("exit") != 0:
            yield f"{name}: exit {figures.get('exit')}"
        for key, figure in figures.items():
            # Where memory is very short, an error is the right answer, if it is ours.
            if isinstance(figure, dict) and not figure.get("error", EXPECTED).startswith(EXPECTED):
                yield f"{name}, {key}: {figure['error']}"
    found, is_real = steps.get("correctness", {}), not steps.get("facts", {}).get("rehearsal", True)
    for name, figure in found.items():
        least = LEAST_COSINE.get(name.partition("_")[0], 0)
        if isinstance(figure, dict) and "least_cosine" in figure:
            if not (figure["finite"] and figure["least_cosine"] >= least):
                yield f"{name}: {figure}"
            if is_real and name.partition("_")[2] and not figure["same_bits"]:
                yield f"{name}: other bits"
    if found.get("settings_kept") is False:
        yield "the program's settings were changed"


@contextlib.contextmanager
def environment(wheels: Path | None) -> Iterator[dict[str, str]]:
    """Lend the environment of the steps, with packages of a folder of wheels before all others."""
    with tempfile.TemporaryDirectory() as site:
        path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        if wheels is not None:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site]
            subprocess.run([*pip, *map(str, wheels.glob("*.whl"))], check=True)
            path.insert(0, site)
        yield {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}


def run(step: str, device: str, seconds: float, env: dict[str, str]) -> Figures:
    """Run a step in a process of its own; return its figures, as far as it came, and its exit code, 124: too long."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "figures.json")
        commands = [[str(Path(__file__).resolve()), "--step", step, str(out), "--device", device]]
        if step == "tests":
            # Warnings stay warnings: another torch may have its own.
            commands = [
                ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "default", *t] for t in TESTS
            ]
        started, code = time.perf_counter(), 0
        for command in commands:
            left = max(1.0, seconds - (time.perf_counter() - started))
            try:
                code = subprocess.run(
                    [sys.executable, *command], cwd=ROOT, env=env, timeout=left, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
            if code:
                break
        figures: Figures = json.loads(out.read_text()) if out.exists() else {}
        return {**figures, "exit": code, "seconds": round(time.perf_counter() - started, 1)}


def main() -> int:
    """Run the steps, write what they measured after each, and name what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--steps", default=",".join(LIMITS))
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with small numbers")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER")
    parser.add_argument("--device", help=argparse.SUPPRESS)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step[0]](Part(Path(options.step[1]), device=options.device))
        return 0
    with environment(options.wheels) as env:
        code = "import torch; print(torch.cuda.is_available())"
        asked = subprocess.run([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, check=True)
        device = "cuda" if asked.stdout.strip() == "True" else "cpu"
        if device == "cpu" and not options.rehearse:
            print("there is no GPU that torch can use; --rehearse tries this program on the CPU", file=sys.stderr)
            return 1
        steps: dict[str, Figures] = {}
        for step in options.steps.split(","):
            print(f"{step}:", flush=True)
            steps[step] = run(step, device, LIMITS[step] * (1 if device == "cuda" else REHEARSAL_TIMES), env)
            print(f"  exit {steps[step]['exit']} after {steps[step]['seconds']} s", flush=True)
            if options.out:
                found = {"benchmark": "gpu", "machine": measure.machine(), "versions": measure.versions()}
                found |= {
                    "gpu": steps.get("facts", {}).get("gpu", "none"),
                    "rows": list(rows_of(steps)),
                    "figures": steps,
                }
                Path(options.out).write_text(json.dumps(found, indent=2) + "\n")
    for row in rows_of(steps):
        print(f"{row['images_per_second']:10.1f} images/s  {row['step']}: {row['what']}")
    wrong = list(faults(steps))
    print("\n".join(["wrong:", *wrong]) if wrong else "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
