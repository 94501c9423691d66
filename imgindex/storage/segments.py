"""Segments: files of fixed-width vectors after a one-page header. Rows are appended and never changed.

offset 0     magic b"IMGIVEC\\0"
       8     format version, header size, dimension: uint32 each, little-endian
      20     dtype: 8 bytes of ASCII, float32 or float16
      28     recipe digest: 32 bytes
      60     segment number: uint32
      64     CRC32 of the 64 bytes before
    4096     rows, little-endian, dimension × 2 or 4 bytes each

Every later version has to keep the magic and the format version at their offsets.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import durable
from imgindex.storage.records import Location
from imgindex.types import Vectors

MAGIC = b"IMGIVEC\0"
VERSION = 1
HEADER_SIZE = 4096
FIELDS = struct.Struct("<8sIII8s32sI")
SEALED_SIZE = 1 << 30
# More numbers than the output of any network's layer. A wrong dimension in an index from elsewhere must not make
# imgindex allocate memory for it.
MAX_DIMENSION = 1 << 20
DTYPES = ("float32", "float16")

Stored = npt.NDArray[Any]


class Segments:
    """The folder of segments of one index: vectors of one dimension, dtype and recipe."""

    def __init__(self, folder: str, *, dimension: int, dtype: str, digest: str) -> None:
        self.folder = folder
        self.dimension = dimension
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.digest = digest
        self.row_size = dimension * self.dtype.itemsize
        self.capacity = max(1, (SEALED_SIZE - HEADER_SIZE) // self.row_size)

    @classmethod
    def from_settings(cls, folder: str, settings: dict[str, str]) -> Segments:
        """Return the segments that a catalogue describes. Raises KeyError or ValueError for impossible settings."""
        dimension, dtype, digest = int(settings["dimension"]), settings["store"], settings["recipe_digest"]
        if not 1 <= dimension <= MAX_DIMENSION or dtype not in DTYPES or len(bytes.fromhex(digest)) != 32:
            raise ValueError(f"impossible vectors: {dimension} numbers of type {dtype!r}, recipe {digest[:80]!r}")
        return cls(folder, dimension=dimension, dtype=dtype, digest=digest)

    def path(self, number: int) -> str:
        return os.path.join(self.folder, f"{number:06d}.vec")

    def append(self, number: int, rows: int, vectors: Stored) -> list[int]:
        """Write vectors after the `rows` committed rows of a segment, durably; return the CRC32 of each.

        Rows that a process left there when it died before its commit are overwritten.
        """
        data = np.ascontiguousarray(vectors, dtype=self.dtype).tobytes()
        if rows == 0:
            durable.append(self.path(number), 0, self._header(number) + data)
        else:
            durable.append(self.path(number), HEADER_SIZE + rows * self.row_size, data)
        return [crc(data[start : start + self.row_size]) for start in range(0, len(data), self.row_size)]

    def map(self, number: int, rows: int) -> Stored:
        """Return the committed rows of a segment (rows, dimension), mapped read-only and in the stored dtype.

        Raises IndexDamaged when the file is missing, shorter than that, or not a segment of this index; FormatTooNew.
        """
        self.check(number, rows)
        return self._map(number, rows)

    def maps(self, rows: Mapping[int, int]) -> dict[int, Stored]:
        """Return the committed rows of each segment, mapped. Raises as `map` does."""
        return {number: self.map(number, count) for number, count in rows.items()}

    def map_all(self, number: int) -> Stored:
        """Return all whole rows in a segment's file, whatever its header; the caller has to check their CRC32."""
        try:
            rows = (os.path.getsize(self.path(number)) - HEADER_SIZE) // self.row_size
        except OSError:
            rows = 0
        return self._map(number, max(0, rows))

    def _map(self, number: int, rows: int) -> Stored:
        if not rows:  # numpy cannot map an empty range
            return np.empty((0, self.dimension), dtype=self.dtype)
        try:
            return np.memmap(
                self.path(number), dtype=self.dtype, mode="r", offset=HEADER_SIZE, shape=(rows, self.dimension)
            )
        except OSError as error:
            raise IndexDamaged(f"cannot read {self.path(number)}: {error.strerror}") from error

    def read(self, locations: Sequence[Location], maps: Mapping[int, Stored]) -> Vectors:
        """Return the vectors at these locations, float32 (n, dimension), each checked against its CRC32.

        maps: the committed rows of each segment. Raises IndexDamaged when a CRC32 differs.
        """
        vectors = np.empty((len(locations), self.dimension), dtype=np.float32)
        for position, location in enumerate(locations):
            stored = maps.get(location.segment, ())
            if not has_crc(stored, location):
                raise IndexDamaged(f"the vector of image {location.id} is damaged in {self.path(location.segment)}")
            vectors[position] = stored[location.row]
        return vectors

    def damaged(self, locations: Iterable[Location], maps: Mapping[int, Stored]) -> Iterator[Location]:
        """Yield the locations whose bytes do not have their CRC32, or which lie outside the mapped rows."""
        return (location for location in locations if not has_crc(maps.get(location.segment, ()), location))

    def check_header(self, number: int) -> None:
        """Raise IndexDamaged unless the file begins with the header of that segment of this index; FormatTooNew."""
        with durable.open_regular(self.path(number)) as file:
            header = file.read(FIELDS.size + 4)
        if header == self._header(number)[: FIELDS.size + 4]:
            return
        _refuse_newer(self.path(number), header)
        raise IndexDamaged(f"{self.path(number)} does not begin with the header of segment {number} of this index")

    def recover(self, rows: dict[int, int]) -> None:
        """Restore the committed state of the folder: cut off uncommitted rows, remove files of no segment.

        Raises IndexDamaged or FormatTooNew, and changes nothing, when a segment is missing, shorter than its committed
        rows or not of this index.
        """
        sizes = {number: self.check(number, count) for number, count in rows.items()}
        for number, count in rows.items():
            wanted = HEADER_SIZE + count * self.row_size
            if sizes[number] > wanted:
                durable.truncate(self.path(number), wanted)
        if not rows:
            # Tools that copy or synchronise files may leave out an empty folder.
            make_folder(self.folder)
        for path in self.unknown(rows):
            durable.remove(path)

    def check(self, number: int, rows: int) -> int:
        """Return the size in bytes of a segment's file. Raises IndexDamaged if it is too short, FormatTooNew."""
        path = self.path(number)
        try:
            self.check_header(number)
            size = os.path.getsize(path)
        except FileNotFoundError as error:
            raise IndexDamaged(f"{path} is missing") from error
        except OSError as error:
            raise IndexDamaged(f"cannot read {path}: {error.strerror}") from error
        if rows < 0 or size < HEADER_SIZE + rows * self.row_size:
            raise IndexDamaged(f"{path} is shorter than its {rows} committed rows")
        return size

    def unknown(self, rows: dict[int, int]) -> list[str]:
        """Return the paths of files in the folder that hold no committed rows."""
        names = {os.path.basename(self.path(number)) for number in rows}
        with os.scandir(self.folder) as entries:
            return sorted(entry.path for entry in entries if entry.name not in names and not entry.is_dir())

    def _header(self, number: int) -> bytes:
        fields = FIELDS.pack(
            MAGIC,
            VERSION,
            HEADER_SIZE,
            self.dimension,
            self.dtype.name.encode(),
            bytes.fromhex(self.digest),
            number,
        )
        return (fields + struct.pack("<I", zlib.crc32(fields))).ljust(HEADER_SIZE, b"\0")


def check_formats(folder: str) -> None:
    """Raise FormatTooNew where a segment in a folder has a newer format; any other problem is left to other checks."""
    for path in (os.path.join(folder, name) for name in sorted(os.listdir(folder))):
        with contextlib.suppress(OSError), durable.open_regular(path) as file:
            _refuse_newer(path, file.read(12))


def _refuse_newer(path: str, header: bytes) -> None:
    if header.startswith(MAGIC) and len(header) >= 12:
        version = int.from_bytes(header[8:12], "little")
        if version > VERSION:
            raise FormatTooNew(f"{path} has format {version}, and this imgindex reads format {VERSION}")


def make_folder(folder: str) -> None:
    """Create the folder of segments if it is missing. Raises IndexDamaged where something else has its name."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise IndexDamaged(
            f"{folder} is not a folder", hint="move it away, and put the segments back from a copy if there is one"
        )
    durable.make_folder(folder)


class Tail:
    """Appends vectors to the last segment, then to new ones.

    rows: segment number → rows so far. first: the number of the first segment, if there is none yet.
    """

    def __init__(self, segments: Segments, rows: dict[int, int], *, first: int) -> None:
        self.segments, self.rows, self.first = segments, rows, first

    def append(self, vectors: Stored) -> list[tuple[int, int, int]]:
        """Write vectors durably after the committed rows; return segment, row and CRC32 of each."""
        written: list[tuple[int, int, int]] = []
        while len(written) < len(vectors):
            number = max(self.rows, default=self.first)
            if self.rows.get(number, 0) >= self.segments.capacity:
                number += 1
            rows = self.rows.get(number, 0)
            part = vectors[len(written) : len(written) + self.segments.capacity - rows]
            crcs = self.segments.append(number, rows, part)
            written += [(number, rows + position, crc) for position, crc in enumerate(crcs)]
            self.rows[number] = rows + len(crcs)
        return written


def crc(row: Stored | bytes) -> int:
    """Return the CRC32 of the bytes of one stored vector."""
    return zlib.crc32(row)  # type: ignore[arg-type]


def crc_of_rows(stored: Stored, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the CRC32 (n,) of the bytes of these rows of a mapped segment."""
    size = stored.shape[1] * stored.dtype.itemsize
    data: Any = stored.reshape(-1).view(np.uint8).data
    found = (zlib.crc32(data[row * size : (row + 1) * size]) for row in rows.tolist())
    return np.fromiter(found, dtype=np.int64, count=len(rows))


def has_crc(stored: Stored | tuple[()], location: Location) -> bool:
    """Whether a location lies within these rows, and its bytes have their CRC32."""
    return 0 <= location.row < len(stored) and crc(stored[location.row]) == location.crc32
