"""Segments: files of fixed-width vectors behind a one-page header, appended to and never edited.

offset 0     magic b"IMGIVEC\\0"
       8     format version, header size, dimension: uint32 each, little-endian
      20     dtype: 8 bytes of ASCII, float32 or float16
      28     recipe digest: 32 bytes
      60     segment number: uint32
      64     CRC32 of the 64 bytes before
    4096     rows, little-endian, dimension × 2 or 4 bytes each
"""

from __future__ import annotations

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
# More numbers than any network's layer gives; what a stranger's index claims is not allocated without a look.
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
        """Return the segments of which a catalogue speaks. Raises KeyError or ValueError where it makes no sense."""
        dimension, dtype, digest = int(settings["dimension"]), settings["store"], settings["recipe_digest"]
        if not 1 <= dimension <= MAX_DIMENSION or dtype not in DTYPES or len(bytes.fromhex(digest)) != 32:
            raise ValueError(f"vectors of {dimension} numbers of type {dtype!r} and recipe {digest[:80]!r}")
        return cls(folder, dimension=dimension, dtype=dtype, digest=digest)

    def path(self, number: int) -> str:
        return os.path.join(self.folder, f"{number:06d}.vec")

    def append(self, number: int, rows: int, vectors: Stored) -> list[int]:
        """Write vectors behind the `rows` committed ones of a segment, durably; return the CRC32 of each.

        A torn tail, left by a run that died before its commit, is overwritten.
        """
        data = np.ascontiguousarray(vectors, dtype=self.dtype).tobytes()
        if rows == 0:
            durable.append(self.path(number), 0, self._header(number) + data)
        else:
            durable.append(self.path(number), HEADER_SIZE + rows * self.row_size, data)
        return [crc(data[start : start + self.row_size]) for start in range(0, len(data), self.row_size)]

    def map(self, number: int, rows: int) -> Stored:
        """Return the committed rows of a segment (rows, dimension), mapped read-only and in the stored dtype.

        Raises IndexDamaged when the file is missing, shorter than that, or not a segment of this index.
        """
        self.check(number, rows)
        return self._map(number, rows)

    def maps(self, rows: Mapping[int, int]) -> dict[int, Stored]:
        """Return the committed rows of each segment, mapped. Raises as `map` does."""
        return {number: self.map(number, count) for number, count in rows.items()}

    def salvage(self, number: int) -> Stored:
        """Return whatever whole rows a segment's file holds, header unread; which are right, their CRC32 must tell."""
        try:
            rows = (os.path.getsize(self.path(number)) - HEADER_SIZE) // self.row_size
        except OSError:
            rows = 0
        return self._map(number, max(0, rows))

    def _map(self, number: int, rows: int) -> Stored:
        if not rows:  # which cannot be mapped
            return np.empty((0, self.dimension), dtype=self.dtype)
        try:
            return np.memmap(
                self.path(number), dtype=self.dtype, mode="r", offset=HEADER_SIZE, shape=(rows, self.dimension)
            )
        except OSError as error:
            raise IndexDamaged(f"cannot read {self.path(number)}: {error.strerror}") from error

    def read(self, locations: Sequence[Location], maps: Mapping[int, Stored]) -> Vectors:
        """Return the vectors (n, dimension) at these places as float32, each checked against its CRC32.

        maps: the committed rows of each segment. Raises IndexDamaged when a CRC differs.
        """
        vectors = np.empty((len(locations), self.dimension), dtype=np.float32)
        for position, place in enumerate(locations):
            stored = maps.get(place.segment, ())
            if not has_crc(stored, place):
                raise IndexDamaged(f"the vector of image {place.id} is damaged in {self.path(place.segment)}")
            vectors[position] = stored[place.row]
        return vectors

    def damaged(self, locations: Iterable[Location], maps: Mapping[int, Stored]) -> Iterator[Location]:
        """Yield the places whose bytes do not have their CRC32, or which lie outside the mapped rows."""
        return (place for place in locations if not has_crc(maps.get(place.segment, ()), place))

    def check_header(self, number: int) -> None:
        """Raise IndexDamaged unless the file begins with the header that this index wrote for that number."""
        with durable.open_regular(self.path(number)) as file:
            header = file.read(FIELDS.size + 4)
        if header == self._header(number)[: FIELDS.size + 4]:
            return
        if header[:8] == MAGIC and len(header) > 12 and int.from_bytes(header[8:12], "little") > VERSION:
            raise FormatTooNew(f"{self.path(number)} was written by a newer imgindex")
        raise IndexDamaged(f"{self.path(number)} does not begin with the header of segment {number} of this index")

    def recover(self, rows: dict[int, int]) -> None:
        """Bring the folder to what the catalogue committed: cut torn tails, remove files that nothing speaks of.

        Raises IndexDamaged, and changes nothing, when a segment is missing, shorter than its committed rows or not
        of this index.
        """
        sizes = {number: self.check(number, count) for number, count in rows.items()}
        for number, count in rows.items():
            wanted = HEADER_SIZE + count * self.row_size
            if sizes[number] > wanted:
                durable.cut(self.path(number), wanted)
        if not rows:
            # Tools that copy and synchronise may leave out an empty folder.
            make_folder(self.folder)
        for path in self.unknown(rows):
            durable.remove(path)

    def check(self, number: int, rows: int) -> int:
        """Return the size in bytes of a segment's file, or raise IndexDamaged where it cannot hold its rows."""
        path = self.path(number)
        try:
            self.check_header(number)
            size = os.path.getsize(path)
        except FileNotFoundError as error:
            raise IndexDamaged(f"{path} is missing") from error
        except OSError as error:
            raise IndexDamaged(f"cannot read {path}: {error.strerror}") from error
        if rows < 0 or size < HEADER_SIZE + rows * self.row_size:
            raise IndexDamaged(f"{path} is shorter than the {rows} rows that the catalogue counts")
        return size

    def unknown(self, rows: dict[int, int]) -> list[str]:
        """Return the paths of files in the folder that no committed row lies in."""
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


def make_folder(folder: str) -> None:
    """Make the folder of segments where it is missing. Raises IndexDamaged where something else has its name."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise IndexDamaged(f"{folder} is no folder", hint="move it away, put the segments back if there is a copy")
    durable.make_folder(folder)


class Tail:
    """Where the next vectors go: behind the rows of the last segment, then into new ones.

    rows: rows of each segment so far; first: number of the segment to begin with where there is none.
    """

    def __init__(self, segments: Segments, rows: dict[int, int], *, first: int) -> None:
        self.segments, self.rows, self.first = segments, rows, first

    def append(self, vectors: Stored) -> list[tuple[int, int, int]]:
        """Write vectors durably, where no committed row is; return segment, row and CRC32 of each."""
        places: list[tuple[int, int, int]] = []
        while len(places) < len(vectors):
            number = max(self.rows, default=self.first)
            if self.rows.get(number, 0) >= self.segments.capacity:
                number += 1
            rows = self.rows.get(number, 0)
            part = vectors[len(places) : len(places) + self.segments.capacity - rows]
            crcs = self.segments.append(number, rows, part)
            places += [(number, rows + position, crc) for position, crc in enumerate(crcs)]
            self.rows[number] = rows + len(crcs)
        return places


def crc(row: Stored | bytes) -> int:
    """CRC32 of one stored vector's bytes."""
    return zlib.crc32(row)  # type: ignore[arg-type]


def crc_of_rows(stored: Stored, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """CRC32 (n,) of the bytes of these rows of a mapped segment."""
    size = stored.shape[1] * stored.dtype.itemsize
    data: Any = stored.reshape(-1).view(np.uint8).data
    found = (zlib.crc32(data[row * size : (row + 1) * size]) for row in rows.tolist())
    return np.fromiter(found, dtype=np.int64, count=len(rows))


def has_crc(stored: Stored | tuple[()], place: Location) -> bool:
    """Whether a place lies within these rows, and its bytes have their CRC32."""
    return 0 <= place.row < len(stored) and crc(stored[place.row]) == place.crc32
