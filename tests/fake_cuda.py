"""A GPU that is not there: torch.cuda replaced on a processor, with streams, events, and graphs that really replay."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from imgindex.encoders.vgg import gpu
from imgindex.encoders.vgg.network import VggNetwork


class FakeGraph(TorchDispatchMode):
    """Records the operations on tensors while it is captured, and does the same ones on the same memory in `replay`."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self._cuda = cuda
        self._steps: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        found = function(*arguments, **(named or {}))
        self._steps.append((function, arguments, named or {}, found))
        return found

    def replay(self) -> None:
        self._cuda.happened.append("replay")
        self._cuda.compute()
        for function, arguments, named, before in self._steps:
            found = function(*arguments, **named)
            if isinstance(found, Tensor) and found.data_ptr() != before.data_ptr():
                before.copy_(found)
        if self._cuda.replay_is_wrong:
            before.add_(1)


class FakeCuda:
    """What happened on the GPU, and how it behaves.

    room: how many pictures fit into one batch. capture_error, compute_error: raised while a graph is captured, and
    while a batch is computed. opened: the devices on which a network was put. sizes: of the batches that were computed
    other than by a graph.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, count: int = 1) -> None:
        self.happened: list[str] = []
        self.opened: list[str] = []
        self.sizes: list[int] = []
        self.room, self.free, self.total = 1 << 20, 1 << 40, 80 << 30
        self.share, self.reserved = 1.0, 0
        self.capture_error: Exception | None = None
        self.compute_error: Exception | None = None
        self.open_error: dict[str, Exception] = {}
        self.replay_is_wrong = False
        self.capture_modes: list[str] = []
        self._local = threading.local()
        cuda: dict[str, Any] = {
            "device_count": lambda: count,
            "is_available": lambda: True,
            "device": lambda device: contextlib.nullcontext(),
            "Stream": lambda device: SimpleNamespace(wait_stream=lambda other: self.happened.append(f"after {other}")),
            "default_stream": lambda device: "the default stream",
            "stream": self._in_stream,
            "Event": self._event,
            "CUDAGraph": lambda: FakeGraph(self),
            "graph": self._capture,
            "empty_cache": lambda: self.happened.append("emptied"),
            "mem_get_info": lambda device: (self.free, self.total),
            "memory_reserved": lambda device: self.reserved,
            "get_per_process_memory_fraction": lambda device: self.share,
            "get_device_properties": lambda device: SimpleNamespace(total_memory=self.total),
        }
        for name, value in cuda.items():
            monkeypatch.setattr(torch.cuda, name, value, raising=False)
        empty = torch.empty

        def pinned_empty(*shape: Any, pin_memory: bool = False, **named: Any) -> Tensor:
            if pin_memory:
                self.happened.append("pinned")
            return empty(*shape, **named)

        monkeypatch.setattr(torch, "empty", pinned_empty)
        monkeypatch.setattr(gpu, "VggNetwork", self._network)

    @property
    def stream(self) -> object:
        """The stream that this thread has chosen."""
        return getattr(self._local, "stream", None)

    def compute(self) -> None:
        if self.compute_error is not None:
            raise self.compute_error

    def _network(self, recipe: Any, weights: Any, device: torch.device, dtype: torch.dtype) -> VggNetwork:
        if device.type == "cpu":
            return VggNetwork(recipe, weights, device, dtype)
        if str(device) in self.open_error:
            raise self.open_error[str(device)]
        self.opened.append(str(device))
        network = VggNetwork(recipe, weights, torch.device("cpu"), dtype)
        outputs = network.outputs

        def observed(pixels: Tensor, padded: Tensor) -> Tensor:
            self.sizes.append(len(pixels))
            if len(pixels) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            assert self.stream is not None, "not in a stream"
            self.compute()
            return outputs(pixels, padded)

        network.outputs = observed  # type: ignore[method-assign]
        return network

    @contextlib.contextmanager
    def _in_stream(self, stream: object) -> Iterator[None]:
        before, self._local.stream = self.stream, stream
        try:
            yield
        finally:
            self._local.stream = before

    def _event(self, *, blocking: bool) -> SimpleNamespace:
        assert blocking, "a thread that spins takes a core from a decoder"
        return SimpleNamespace(
            record=lambda: self.happened.append("recorded"), synchronize=lambda: self.happened.append("waited")
        )

    @contextlib.contextmanager
    def _capture(self, graph: FakeGraph, *, stream: object, capture_error_mode: str) -> Iterator[None]:
        self.capture_modes.append(capture_error_mode)
        if self.capture_error is not None:
            raise self.capture_error
        with self._in_stream(stream), graph:
            yield
