"""Write vectors to files for other programs, block by block, so that memory does not grow with the index."""

from __future__ import annotations

import csv
import os
import struct
import zipfile
from collections.abc import Callable
from typing import IO

import numpy as np
from numpy.lib import format as npy

from imgindex.errors import UsageError
from imgindex.export.tables import VectorTable
from imgindex.export.targets import writing


def export(out: str, format: str, table: VectorTable, *, overwrite: bool = False, index: str | None = None) -> None:
    """Write a table to the file `out`, in a format of WRITERS. Raises as `check_target`, and OSError."""
    with writing(out, overwrite=overwrite, index=index) as file:
        WRITERS[format](file, table)


def check_format(out: str, format: str | None = None) -> str:
    """Return a format, or if it is None the one that the ending of a file name means. Raises UsageError."""
    if format is not None:
        if format not in WRITERS:
            raise UsageError(f"cannot export as {format!r}", hint=f"choose one of: {', '.join(WRITERS)}")
        return format
    ending = os.path.splitext(out)[1].lower().removeprefix(".")
    if ending not in WRITERS:
        endings = " ".join(f".{name}" for name in WRITERS)
        raise UsageError(f"cannot export to {out!r}", hint=f"end the name in one of: {endings}")
    return ending


def write_npz(file: IO[bytes], table: VectorTable) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        arrays = {"ids": np.array(table.ids, dtype=np.int64), "paths": np.array(table.paths, dtype=np.str_)}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            write_npy(member, table)


def write_npy(file: IO[bytes], table: VectorTable) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(table.ids), table.dimension)}
    npy.write_array_header_2_0(file, header)
    for block in table.blocks:
        file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def write_faiss(file: IO[bytes], table: VectorTable) -> None:
    """Write an IndexIDMap2 over an IndexFlatL2, byte for byte as FAISS does; FAISS would hold all vectors in memory."""
    n, unused, trained, euclidean = len(table.ids), 1 << 20, True, 1
    header = struct.pack("<iqqq?i", table.dimension, n, unused, unused, trained, euclidean)
    file.write(b"IxM2" + header + b"IxF2" + header + struct.pack("<Q", n * table.dimension))
    for block in table.blocks:
        file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
    file.write(struct.pack("<Q", n) + np.array(table.ids, dtype="<i8").tobytes())


def write_parquet(file: IO[bytes], table: VectorTable) -> None:
    from imgindex.export.parquet import write

    write(file, table)


def write_csv(file: IO[bytes], table: VectorTable) -> None:
    rows = _Lines(file)
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["id", "path", *(f"v{position}" for position in range(table.dimension))])
    for part, block in table.parts():
        for id, path, vector in zip(table.ids[part], table.paths[part], block, strict=True):
            writer.writerow([id, path, *(f"{number:.9g}" for number in vector.tolist())])


class _Lines:
    """A text file that writes names that are not UTF-8 with the bytes that the file system has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "surrogateescape"))


WRITERS: dict[str, Callable[[IO[bytes], VectorTable], None]] = {
    "npz": write_npz,
    "npy": write_npy,
    "parquet": write_parquet,
    "faiss": write_faiss,
    "csv": write_csv,
}
