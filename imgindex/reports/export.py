"""Vectors to files that other programs read, block by block, so that memory does not grow with the index."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.lib import format as npy

from imgindex.errors import UsageError
from imgindex.reports.files import replacing
from imgindex.types import Vectors


@dataclass(frozen=True, slots=True)
class Table:
    """What is exported: ids and paths (n each), and their vectors in blocks (m, dimension) of the same order."""

    ids: list[int]
    paths: list[str]
    dimension: int
    blocks: Iterable[Vectors]


def export(out: str, table: Table) -> None:
    """Write a table in the format that the file's ending names. Raises UsageError for an unknown one."""
    suffix = os.path.splitext(out)[1].lower()
    if suffix not in WRITERS:
        raise UsageError(f"cannot export to {out!r}", hint=f"end the name in one of: {' '.join(WRITERS)}")
    with replacing(out) as file:
        WRITERS[suffix](file, table)


def write_npz(file: IO[bytes], table: Table) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        arrays = {"ids": np.array(table.ids, dtype=np.int64), "paths": np.array(table.paths, dtype=np.str_)}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            write_npy(member, table)


def write_npy(file: IO[bytes], table: Table) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(table.ids), table.dimension)}
    npy.write_array_header_2_0(file, header)
    for block in table.blocks:
        file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def write_parquet(file: IO[bytes], table: Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), table.dimension)
    schema = pa.schema([("id", pa.int64()), ("path", pa.string()), ("vector", vector)])
    with pq.ParquetWriter(file, schema) as writer:
        start = 0
        for block in table.blocks:
            part = slice(start, start + len(block))
            # Parquet's strings are UTF-8: bytes of a name that are not come out as \udcXX.
            names = [os.fspath(path).encode("utf-8", "backslashreplace").decode() for path in table.paths[part]]
            rows = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), table.dimension)
            writer.write_table(pa.table([pa.array(table.ids[part]), pa.array(names), rows], schema=schema))
            start += len(block)


def write_csv(file: IO[bytes], table: Table) -> None:
    rows = _Lines(file)
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["id", "path", *(f"v{position}" for position in range(table.dimension))])
    start = 0
    for block in table.blocks:
        part = slice(start, start + len(block))
        for id, path, vector in zip(table.ids[part], table.paths[part], block, strict=True):
            writer.writerow([id, path, *(f"{number:.9g}" for number in vector.tolist())])
        start += len(block)


class _Lines:
    """Text to bytes as the file system has them, names that are not UTF-8 included."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "surrogateescape"))


WRITERS: dict[str, Callable[[IO[bytes], Table], None]] = {
    ".npz": write_npz,
    ".npy": write_npy,
    ".parquet": write_parquet,
    ".csv": write_csv,
}
