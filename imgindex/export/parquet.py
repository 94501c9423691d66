"""Write a table of images as Parquet, as Embedding Atlas, Renumics Spotlight and Hugging Face datasets open it.

Thumbnails have the type that Hugging Face calls Image, {bytes, path}, and the schema has their metadata for it: these
programs recognise a column of pictures by the metadata or by its type.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgindex.export.tables import Column, VectorTable
from imgindex.types import Vectors

KINDS = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string()}
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Rows of a row group, which a reader holds at once.
GROUP = 1024


def write(file: IO[bytes], table: VectorTable) -> None:
    """Write the table in row groups of at most 1,024 rows."""
    schema = _schema(table)
    with pq.ParquetWriter(file, schema) as writer:
        for part, block in table.parts():
            for start in range(part.start, part.stop, GROUP):
                rows = slice(start, min(start + GROUP, part.stop))
                of_block = block[rows.start - part.start : rows.stop - part.start]
                writer.write_table(pa.table(_arrays(table, rows, of_block), schema=schema))
    # Run the generator of thumbnails to its end: it logs those that are missing, and ends its processes.
    next(table.thumbnails or iter(()), None)


def render_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Return some columns of rows of numbers and texts as Parquet, with the types that the values have."""
    file = io.BytesIO()
    values = {name: [row[name] for row in rows] for name in columns}
    texts = {name for name, of in values.items() if any(isinstance(value, str) for value in of)}
    table = pa.table({name: [_text(one) for one in of] if name in texts else of for name, of in values.items()})
    pq.write_table(table, file)
    return file.getvalue()


def _schema(table: VectorTable) -> Any:
    fields = [("path", pa.string()), ("id", pa.int64())]
    fields += [(column.name, KINDS[column.kind]) for column in table.columns]
    fields += [("vector", pa.list_(pa.float32(), table.dimension))]
    fields += [("thumbnail", PICTURE)] if table.thumbnails is not None else []
    features: dict[str, Any] = {
        name: {"dtype": str(kind).replace("double", "float64"), "_type": "Value"} for name, kind in fields
    }
    vector = {"feature": {"dtype": "float32", "_type": "Value"}, "length": table.dimension, "_type": "Sequence"}
    features["vector"] = vector
    if table.thumbnails is not None:
        features["thumbnail"] = {"_type": "Image"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _arrays(table: VectorTable, rows: slice, vectors: Vectors) -> list[Any]:
    names = [_text(path) for path in table.paths[rows]]
    arrays = [pa.array(names), pa.array(table.ids[rows], pa.int64())]
    arrays += [_values(column, rows) for column in table.columns]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, table.dimension))
    if table.thumbnails is not None:
        pictures = islice(table.thumbnails, len(names))
        filled = [
            None if data is None else {"bytes": data, "path": name} for data, name in zip(pictures, names, strict=True)
        ]
        arrays.append(pa.array(filled, PICTURE))
    return arrays


def _values(column: Column, rows: slice) -> Any:
    values = column.values[rows]
    return pa.array([_text(value) for value in values] if column.kind == "text" else values, KINDS[column.kind])


def _text(value: str | None) -> str | None:
    """Return text that can be written as UTF-8: other bytes of a name become \\udcXX."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
