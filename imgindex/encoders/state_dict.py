"""Reads a state dict that torch.save wrote, without torch: nothing in the file is executed, and tensors are mapped.

torch writes a pickle and, beside it, the numbers of each tensor's storage: today as members of a zip that are not
compressed; before torch 1.6, as torchvision's file of VGG-16 is, one after the other in the same file. The pickle calls
functions to put tensors together. Only the few calls that a state dict needs are known here, by name, and functions of
this file take their place. The operations of the pickle are checked before it is read.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What a pickle of dicts, lists, strings, numbers and calls consists of; the others can take memory without having data.
OPERATIONS = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID",
    "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
}  # fmt: skip
NOT_A_STATE_DICT = "it is not a state dict of tensors only"


@dataclass(frozen=True, slots=True)
class Storage:
    """The numbers of one or several tensors: their type, as in DTYPES, the name of their place, and how many."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A part of a storage, from an offset, with a size and a step in each dimension, counted in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


def read_state_dict(path: str, keys: Callable[[Iterable[str]], Iterable[str]]) -> dict[str, object]:
    """Return values of a state dict: tensors as arrays, which are mapped from the file, and others as they are.

    keys: chooses among the names of the state dict. A bfloat16 tensor becomes float32. Raises ValueError, KeyError,
    OSError or what zipfile raises if the file is not a state dict, or not a whole one.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data:
        state, places = _of_zip(path, data) if zipfile.is_zipfile(path) else _of_legacy_file(data)
        if not isinstance(state, Mapping):
            raise TypeError("it is not a state dict")
        return {key: _value(state[key], places, path) for key in keys(state)}


def _of_zip(path: str, data: mmap.mmap) -> tuple[object, dict[str, int]]:
    """Return the object in a zip, and where the numbers of each storage begin in the file."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("it is compressed, which torch.save never does")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise ValueError("its numbers are big-endian")
        state = _unpickled(archive.read(members["data.pkl"]))
    places = {}
    for name, member in members.items():
        if name.startswith("data/"):
            # The local header has 30 bytes, the name and an extra field, whose length differs from the directory's.
            name_length, extra_length = struct.unpack_from("<HH", data, member.header_offset + 26)
            places[name.removeprefix("data/")] = member.header_offset + 30 + name_length + extra_length
    return state, places


def _of_legacy_file(data: mmap.mmap) -> tuple[object, dict[str, int]]:
    """Return the object in a file of the older form, and where the numbers of each storage begin."""
    if _next(data) != LEGACY_MAGIC:
        raise ValueError(NOT_A_STATE_DICT)
    _next(data), _next(data)  # the version of the form, and the machine's sizes of integers
    storages: dict[str, Storage] = {}
    state, order = _next(data, storages), _next(data)
    places, place = {}, data.tell()
    if not isinstance(order, list) or not all(key in storages for key in order):
        raise ValueError(NOT_A_STATE_DICT)
    for key in order:
        # The number of numbers comes first.
        places[key] = place + 8
        place += 8 + storages[key].count * _width(storages[key].dtype)
    return state, places


def _next(data: mmap.mmap, storages: dict[str, Storage] | None = None) -> object:
    """Return the object of the next pickle of the file, and note the storages that it names."""
    start = data.tell()
    for _ in pickletools.genops(data):  # type: ignore[arg-type]
        pass
    return _unpickled(data[start : data.tell()], storages)


def _unpickled(text: bytes, storages: dict[str, Storage] | None = None) -> object:
    """Return the object of a pickle. Raises ValueError for one that does more than a state dict's does."""
    for operation, argument, _ in pickletools.genops(text):
        if operation.name not in OPERATIONS:
            raise ValueError(NOT_A_STATE_DICT)
        # The reader's memory for these grows with the number, which torch counts up from 0.
        if "PUT" in operation.name and isinstance(argument, int) and argument > len(text):
            raise ValueError(NOT_A_STATE_DICT)
    return _Unpickler(text, storages).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, text: bytes, storages: dict[str, Storage] | None) -> None:
        super().__init__(io.BytesIO(text))
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return name
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) not in known:
            raise ValueError(NOT_A_STATE_DICT)
        return known[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or dtype not in DTYPES or not (isinstance(key, str) and type(count) is int and count >= 0):
            raise ValueError(NOT_A_STATE_DICT)
        storage = Storage(dtype, key, count)
        if self._storages is not None:
            self._storages[key] = storage
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, steps: Any, *_: object) -> StoredTensor:
    numbers = [offset, *shape, *steps]
    right = isinstance(storage, Storage) and len(shape) == len(steps) <= 8
    if not right or not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise ValueError(NOT_A_STATE_DICT)
    return StoredTensor(storage, offset, tuple(shape), tuple(steps))


def _parameter(tensor: Any, *_: object) -> Any:
    return tensor


def _width(dtype: str) -> int:
    return 2 if DTYPES[dtype] == "bfloat16" else np.dtype(DTYPES[dtype]).itemsize


def _value(value: object, places: dict[str, int], path: str) -> object:
    """Return the array of a tensor, and any other value as it is. Raises ValueError if the file is too short for it."""
    if not isinstance(value, StoredTensor):
        return value
    storage, width = value.storage, _width(value.storage.dtype)
    last = value.offset + sum((size - 1) * step for size, step in zip(value.shape, value.steps, strict=True))
    if 0 not in value.shape and last >= storage.count:
        raise ValueError("a tensor is larger than its storage")
    # Copied when it is written to, which torch may do: the file stays as it is.
    name = DTYPES[storage.dtype]
    type_on_disk = "<u2" if name == "bfloat16" else name
    raw = np.memmap(path, type_on_disk, "c", offset=places[storage.key], shape=(storage.count,))
    steps = tuple(step * width for step in value.steps)
    array = np.lib.stride_tricks.as_strided(raw[value.offset :], value.shape, steps).view(np.ndarray)
    # The upper half of a float32 is a bfloat16.
    return (array.astype(np.uint32) << 16).view(np.float32) if name == "bfloat16" else array
