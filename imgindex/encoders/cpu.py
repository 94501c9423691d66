"""Networks on a CPU, by OpenVINO: each stream computes one picture at a time, and nothing here imports torch.

A network's module describes it as an OpenVINO graph. OpenVINO compiles the graph for this processor; its convolutions
are those of oneDNN. Streams do not wait for one another after each layer, as threads that share a picture do. So a
vector depends neither on the other pictures of a batch nor on the number of threads.
"""

from __future__ import annotations

import functools
import logging
import mmap
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import openvino
from openvino import opset13 as ops

from imgindex.encoders.devices import cpu_flags, cpu_streams, cpu_threads, default_batch_size
from imgindex.encoders.output import finish
from imgindex.errors import DeviceUnavailable, is_out_of_memory
from imgindex.recipe import Recipe
from imgindex.types import Engine, Pixels, Vectors

log = logging.getLogger(__name__)

# OpenVINO pins threads to cores by default, where they wait for any other process that the system runs there.
OPTIONS = {"ENABLE_CPU_PINNING": False}
# The arithmetic of the layers that the graph does not mark as int8.
ARITHMETIC = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
# The cosine, of the outputs for a drawn picture, above which int8 is right. It is 0.995 or more where the arithmetic
# works; sums that overflow bring it below 0.9.
ALIKE = 0.98
# The greatest weight in int8, and in 7 bits.
WEIGHT_LIMIT, SMALL_WEIGHT_LIMIT = 127, 63
# Addresses, in bytes, that OpenVINO takes for a network: at least, for each thread (its stack, and its part of the
# heap), and for each pixel of a picture. Measured with the networks here at 128 to 1024 px.
ADDRESSES, ADDRESSES_OF_THREAD, ADDRESSES_OF_PIXEL = 450 << 20, 72 << 20, 1400
# By so much bf16 must be faster than fp32 to be chosen, and how often a convolution is timed.
FASTER, TIMED = 1.2, 8
# By `Graphs.key` and side: making an encoder again, as tests and services do, need not try it again.
_INT8_FAULTS: dict[str, str] = {}


class Graphs(Protocol):
    """What a kind of network must describe so that it can be computed here."""

    # Tells this network from others, with other weights too.
    key: str
    # Those that it can be computed in, the fastest first.
    precisions: tuple[str, ...]
    # The colour (3,), uint8, of the picture's surroundings, which the network sees through the padding of its first
    # layer; None where the graph pads by itself.
    border: Pixels | None

    def graph(self, side: int, precision: str) -> openvino.Model:
        """Return the graph of the network for one picture, uint8 (1, side, side, 3), with one output (1, dimension).

        With a border, the picture is one pixel larger on each side. precision: fp32, bf16 or int8.
        """
        ...

    def reference(self, side: int) -> Vectors | None:
        """Return the output (dimension,) in fp32 for `drawn_pictures(1, side)`; None where it is not known already."""
        ...


def cpu_encoder(recipe: Recipe, graphs: Graphs, engine: Engine) -> CpuEncoder:
    """Return the encoder of a recipe in the precision of the engine.

    auto is int8 where this processor computes it, and computes it rightly; else bf16 where that is faster than fp32;
    else fp32. The recipe `article` reproduces another program's numbers, so its auto is fp32.

    Raises DeviceUnavailable for a precision that this processor does not have, or when there is not enough memory.
    """
    precision = engine.precision
    if precision not in ("auto", *graphs.precisions):
        hint = f"choose auto, {', '.join(graphs.precisions[:-1])} or {graphs.precisions[-1]}"
        raise DeviceUnavailable(f"a CPU does not compute {recipe.name} in the precision {precision!r}", hint=hint)
    if precision == "auto" and recipe.name == "article":
        precision = "fp32"
    if precision in ("auto", "int8") and "int8" in graphs.precisions:
        encoder = CpuEncoder(recipe, graphs, "int8", engine.batch_size)
        fault = int8_fault(encoder, graphs)
        if not fault:
            return encoder
        if precision == "int8":
            raise DeviceUnavailable(f"this processor cannot take int8: {fault}", hint="choose `precision=auto`")
        log.info("not int8: %s", fault)
    if precision == "auto":
        precision = "bf16" if bf16_is_faster() else "fp32"
    return CpuEncoder(recipe, graphs, precision, engine.batch_size)


class CpuEncoder:
    """Encodes images with a network on the CPU; implements `Encoder`.

    Raises DeviceUnavailable when it is made and there is not enough memory.
    """

    device = "cpu"

    def __init__(self, recipe: Recipe, graphs: Graphs, precision: str, batch_size: int | None = None) -> None:
        self.recipe, self.precision = recipe, precision
        self.batch_size = batch_size or default_batch_size("cpu", precision, recipe.side)
        self.streams = cpu_streams()
        self._graphs = graphs
        self._idle: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        _require_addresses(recipe.side)
        with _memory_errors():
            self.network = compiled(graphs.graph(recipe.side, precision), precision, streams=self.streams)
            for _ in range(self.streams):
                self._idle.put(_Request(self.network, graphs.border))

    def encode(self, batch: Pixels) -> Vectors:
        """Return float32 vectors (n, dimension) of uint8 images (n, side, side, 3).

        At most `streams` calls compute at the same time; further ones wait. Raises DeviceUnavailable when there is not
        enough memory for one image.
        """
        return finish(self.outputs(batch), self.recipe)

    def outputs(self, batch: Pixels) -> Vectors:
        """Return the network's outputs (n, dimension) of images, before the last step of `encode`."""
        request = self._idle.get()
        try:
            with _memory_errors():
                return np.stack([request.output(image) for image in batch])
        finally:
            self._idle.put(request)

    def fp32(self) -> CpuEncoder:
        """Return an encoder that computes the same in fp32; this one if its precision is fp32."""
        if self.precision == "fp32":
            return self
        return CpuEncoder(self.recipe, self._graphs, "fp32", self.batch_size)


class _Request:
    """A stream's memory for a picture and its output."""

    def __init__(self, network: openvino.CompiledModel, border: Pixels | None) -> None:
        self._request = network.create_infer_request()
        self._input = self._request.get_input_tensor().data[0]
        edge = 0 if border is None else 1
        if border is not None:
            self._input[:] = border
        height, width, _ = self._input.shape
        self._picture = self._input[edge : height - edge, edge : width - edge]

    def output(self, image: Pixels) -> Vectors:
        """Return the network's output (dimension,) for an image (side, side, 3)."""
        self._picture[:] = image
        self._request.infer()
        return np.array(self._request.get_output_tensor().data[0], dtype=np.float32)


def compiled(graph: openvino.Model, precision: str, *, streams: int = 1) -> openvino.CompiledModel:
    """Return a graph that OpenVINO has compiled for this processor, and for so many pictures at a time."""
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": ARITHMETIC[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": cpu_threads(),
    }
    return _core().compile_model(graph, "CPU", OPTIONS | options)


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


def _require_addresses(side: int) -> None:
    """Raise MemoryError if the process may not have the addresses that OpenVINO takes for a network of this side.

    Under a limit, such as that of `ulimit -v`, OpenVINO does not always raise an error: its threads can wait for ever
    for one that could not be started. So the addresses are asked for first, and given back unused.
    """
    size = ADDRESSES + cpu_threads() * ADDRESSES_OF_THREAD + side * side * ADDRESSES_OF_PIXEL
    try:
        mmap.mmap(-1, size).close()
    except OSError as error:
        raise MemoryError(f"the network needs {size >> 20} MiB of addresses") from error


def int8_fault(encoder: CpuEncoder, graphs: Graphs) -> str:
    """Return what is wrong with an encoder in int8 on this processor, or nothing: it is tried once for each network.

    It must give the output for a drawn picture that fp32 gives, but for rounding, and its convolutions must really be
    computed in int8: OpenVINO computes them in fp32 on a processor for which it has no such instructions.
    """
    key = f"{graphs.key} {encoder.recipe.side}"
    if key not in _INT8_FAULTS:
        _INT8_FAULTS[key] = _int8_fault(encoder, graphs)
    return _INT8_FAULTS[key]


def _int8_fault(encoder: CpuEncoder, graphs: Graphs) -> str:
    if not _is_mostly_int8(encoder.network):
        return "OpenVINO computes its convolutions in another precision"
    drawn = drawn_pictures(1, encoder.recipe.side)
    rounded = encoder.outputs(drawn)[0].astype(np.float64)
    exact = graphs.reference(encoder.recipe.side)
    if exact is None:
        exact = CpuEncoder(encoder.recipe, graphs, "fp32").outputs(drawn)[0]
    cosine = exact @ rounded / max(np.linalg.norm(exact) * np.linalg.norm(rounded), 1e-12)
    return "" if cosine >= ALIKE else f"its vector of a drawn picture has a cosine of {cosine:.3f} to that of fp32"


def _is_mostly_int8(network: openvino.CompiledModel) -> bool:
    nodes = (node.get_rt_info() for node in network.get_runtime_model().get_ops())
    precisions = [
        node["runtimePrecision"].astype(str) for node in nodes if node["layerType"].astype(str) == "Convolution"
    ]
    return sum(precision in ("u8", "i8") for precision in precisions) > len(precisions) / 2


@functools.cache
def weight_limit() -> int:
    """Return how large an int8 weight may be on this processor: 127, or 63 where sums of products overflow.

    Instructions before VNNI add two products of uint8 and int8 in 16 bits. The sum of two greatest products, 2 × 255 ×
    127, does not fit. It is tried, not read from the processor's flags: one convolution of the greatest numbers
    shows it, whichever instructions OpenVINO chooses.
    """
    channels, side = 64, 8
    parameter = ops.parameter([1, channels, side, side], np.uint8)
    maps = quantised(ops.convert(parameter, np.float32), 255.0)
    weight = quantised_weight(np.full((channels, channels, 3, 3), WEIGHT_LIMIT, np.int8), np.ones(channels, np.float32))
    sums = ops.convolution(maps, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    request = compiled(openvino.Model([sums], [parameter], "overflow"), "int8").create_infer_request()
    request.infer([np.full((1, channels, side, side), 255, np.uint8)])
    exact = 255 * WEIGHT_LIMIT * 9 * channels
    found = request.get_output_tensor().data
    return WEIGHT_LIMIT if np.allclose(found, exact, rtol=1e-3) else SMALL_WEIGHT_LIMIT


@functools.cache
def bf16_is_faster() -> bool:
    """Return whether this processor computes bf16 faster than fp32.

    With AMX it does, and without any instructions for bf16 it does not. AVX512-BF16 alone makes bf16 twice as fast on
    some processors, and half as fast on others, so one convolution is timed in both.
    """
    flags = cpu_flags()
    if "amx_bf16" in flags or "avx512_bf16" not in flags:
        return "amx_bf16" in flags
    return FASTER * _seconds("bf16") < _seconds("fp32")


def _seconds(precision: str) -> float:
    """Return how long this processor takes for convolutions: the least of some times, as other work only adds."""
    channels, side, layers = 64, 56, 3
    random = np.random.default_rng(0)
    parameter = maps = ops.parameter([1, channels, side, side], np.float32)
    for _ in range(layers):
        weight = random.standard_normal((channels, channels, 3, 3), dtype=np.float32) / (3 * channels**0.5)
        maps = ops.relu(ops.convolution(maps, ops.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1]))
    request = compiled(openvino.Model([maps], [parameter], "timed"), precision).create_infer_request()
    request.get_input_tensor().data[:] = random.standard_normal((1, channels, side, side), dtype=np.float32)
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        request.infer()
        times.append(time.perf_counter() - started)
    return min(times)


def picture_input(side: int) -> tuple[Any, Any]:
    """Return the nodes of a graph's input, uint8 (1, side, side, 3), and of its maps, float32 (1, 3, side, side)."""
    picture = ops.parameter([1, side, side, 3], np.uint8)
    channels_first = ops.constant(np.array([0, 3, 1, 2], np.int64))
    return picture, ops.transpose(ops.convert(picture, np.float32), channels_first)


def normalised(maps: Any, mean: np.ndarray, deviation: np.ndarray) -> Any:
    """Return the node of maps less the mean (3,) of their channels, divided by the deviation (3,)."""
    mean_node, deviation_node = (
        ops.constant(numbers.reshape(1, 3, 1, 1).astype(np.float32)) for numbers in (mean, deviation)
    )
    return ops.divide(ops.subtract(maps, mean_node), deviation_node)


def quantised(maps: Any, greatest: float) -> Any:
    """Return the node of maps in 256 steps from 0 to the greatest number, which makes OpenVINO store them as uint8."""
    zero, top = np.float32(0), np.float32(greatest)
    return ops.fake_quantize(maps, zero, top, zero, top, 256)


def quantised_weight(steps: np.ndarray, scales: Vectors) -> Any:
    """Return the node of a weight, int8 (out, …), that is multiplied by one scale for each output channel (out,)."""
    scale = scales.astype(np.float32).reshape(-1, *[1] * (steps.ndim - 1))
    return ops.multiply(ops.convert(ops.constant(steps), np.float32), ops.constant(scale))


def drawn_pictures(count: int, side: int) -> Pixels:
    """Return drawn pictures, uint8 (count, side, side, 3): blots from fine to coarse, with edges, always the same."""
    random = np.random.default_rng(763)
    pictures = np.zeros((count, side, side, 3))
    for number in range(count):
        for size in (2, 8, 32):
            cells = random.random((-(-side // size), -(-side // size), 3))
            pictures[number] += cells.repeat(size, 0).repeat(size, 1)[:side, :side] * (1 + (number % 3 == 1) * size)
        lows, highs = pictures[number].min(), pictures[number].max()
        pictures[number] = (pictures[number] - lows) / (highs - lows) * 255
    drawn: Pixels = pictures.round().astype(np.uint8)
    return drawn


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise DeviceUnavailable for OpenVINO's errors when memory has run out; MemoryError stays one."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceUnavailable(
            "the CPU does not have enough memory for the network",
            hint="free memory, or take a smaller recipe, such as `recipe=vgg16-pool5` with `size=128`",
        ) from error
