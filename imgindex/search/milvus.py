"""One collection of a Milvus server: the ids, CRC32s and vectors of the images of one index; imports pymilvus.

The collection says in its description to which index it belongs. One that says something else is never changed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from imgindex.errors import CollectionNotOurs, ExtraMissing, SearchUnavailable
from imgindex.search.milvus_address import MilvusAddress
from imgindex.types import Ids, Vectors

try:
    from grpc import RpcError
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException
except ImportError as import_error:
    raise ExtraMissing(
        "Milvus searches for this index, and pymilvus is not installed", hint="install it: pip install pymilvus"
    ) from import_error

# Seconds until a server that does not accept a connection, or does not answer, counts as unavailable. One that is only
# slow gets more time for what it was asked: it answers another question meanwhile.
CONNECT, TIMEOUT, ALIVE = 5.0, 6.0, 3.0
PATIENCE = 600.0
# Seconds after a change within which a search waits until the server has made it. Without that it takes 5 ms, not 60 or
# more, and the server may lag by 5 seconds.
SETTLED = 10.0
# The most matches that Milvus returns for a query, and the largest ef of its HNSW.
MOST, LARGEST_EF = 16_384, 32_768
# Up to so many rows Milvus compares all.
FLAT_ROWS = 10_000
FLAT, HNSW = "FLAT", "HNSW"
BUILD = {FLAT: {}, HNSW: {"M": 16, "efConstruction": 128}}
# Bytes of vectors in one request, and ids that are listed at once, the most that Milvus returns.
SENT, LISTED = 8 << 20, 16_384
METRIC, FIELD = "L2", "vector"
# The codes of errors of a collection that exists and is not in memory; texts of older servers.
NOT_LOADED = ("not loaded", "not fully loaded", "has not been loaded")
SECRETS = ("MILVUS_TOKEN", "MILVUS_PASSWORD")

T = TypeVar("T")

# pymilvus writes what it does and each failure to stderr, beside the exception that it raises.
for _name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "pymilvus"]:
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Owner:
    """What a collection belongs to: the id of an index, and the digest of its recipe."""

    index: str
    recipe: str

    def describe(self) -> str:
        """Return the description of a collection of this owner."""
        return json.dumps({"imgindex": 1, **asdict(self)})


class Collection:
    """A collection of a Milvus server, open.

    All methods raise SearchUnavailable where the server does not answer, after at most 10 seconds.
    """

    def __init__(self, address: MilvusAddress, client: MilvusClient) -> None:
        self.address, self._client, self._name = address, client, address.collection
        # Connections are not closed by themselves: pymilvus keeps them.
        self._close = weakref.finalize(self, _close, client)

    @classmethod
    def connect(cls, address: MilvusAddress) -> Collection:
        """Connect to the server of a collection, which may not exist yet.

        Credentials and TLS come from the environment, see `credentials`.
        """
        try:
            options = credentials()
            scheme = "https" if options["secure"] else "http"
            uri = f"{scheme}://{address.host}:{address.port}"
            client = MilvusClient(uri=uri, timeout=CONNECT, dedicated=True, **options)
        except (MilvusException, RpcError, OSError) as error:
            raise _failed(address, error) from error
        return cls(address, client)

    def close(self) -> None:
        self._close()

    # What it is.

    def exists(self, owner: Owner, dimension: int) -> bool:
        """Return whether the collection exists. Raises CollectionNotOurs where it belongs to something else."""
        if not self._patiently(self._client.has_collection, self._name):
            return False
        found = self._patiently(self._client.describe_collection, self._name)
        self._check_owner(found.get("description", ""), owner)
        fields = {field["name"]: field for field in found["fields"]}
        kinds = {name: field["type"] for name, field in fields.items()}
        if kinds != {"id": DataType.INT64, "crc32": DataType.INT64, FIELD: DataType.FLOAT_VECTOR}:
            raise CollectionNotOurs(f"{self.address} has other fields than imgindex makes")
        if (held := int(fields[FIELD]["params"]["dim"])) != dimension:
            raise CollectionNotOurs(f"{self.address} has vectors of {held} numbers, and this index of {dimension}")
        return True

    def _check_owner(self, description: str, owner: Owner) -> None:
        try:
            found = json.loads(description)
            of = Owner(str(found["index"]), str(found["recipe"]))
        except (ValueError, TypeError, KeyError):
            raise CollectionNotOurs(f"{self.address} was not made by imgindex") from None
        if of.index != owner.index:
            raise CollectionNotOurs(f"{self.address} belongs to another index")
        if of.recipe != owner.recipe:
            raise CollectionNotOurs(f"{self.address} has vectors of another recipe")

    def create(self, owner: Owner, dimension: int, kind: str) -> None:
        """Create the collection, with an index of a kind: FLAT or HNSW."""
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False, description=owner.describe())
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("crc32", DataType.INT64)
        schema.add_field(FIELD, DataType.FLOAT_VECTOR, dim=dimension)
        self._patiently(self._client.create_collection, self._name, schema=schema, consistency_level="Bounded")
        self._create_index(kind)
        self.load()

    def _create_index(self, kind: str) -> None:
        index = self._client.prepare_index_params()
        index.add_index(FIELD, index_name=FIELD, index_type=kind, metric_type=METRIC, params=BUILD[kind])
        self._patiently(self._client.create_index, self._name, index, sync=False)

    def kind(self) -> str:
        """Return the kind of its index, "" where it has none: a process died while it made the collection."""
        if not self._patiently(self._client.list_indexes, self._name):
            return ""
        found = self._patiently(self._client.describe_index, self._name, FIELD)
        return str(found["index_type"])

    def set_kind(self, kind: str) -> None:
        """Replace its index. Searches of other processes wait meanwhile."""
        if self.kind():
            self._patiently(self._client.release_collection, self._name)
            self._patiently(self._client.drop_index, self._name, FIELD)
        self._create_index(kind)
        self.load()

    def load(self) -> None:
        """Have it in the server's memory, where it must be to be searched."""
        self._patiently(self._client.load_collection, self._name)

    # What it holds.

    def put(self, ids: Ids, crcs: Ids, vectors: Vectors) -> None:
        """Write rows, float32 (n, dimension), in the place of those with the same ids, and wait until they are safe."""
        step = max(1, SENT // (4 * vectors.shape[1]))
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            rows = [
                {"id": id, "crc32": crc, FIELD: vector}
                for id, crc, vector in zip(ids[part].tolist(), crcs[part].tolist(), vectors[part], strict=True)
            ]
            self._patiently(self._client.upsert, self._name, rows)

    def delete(self, ids: Ids) -> None:
        """Delete rows; those that it does not hold do not matter."""
        for start in range(0, len(ids), LISTED):
            part = ids[start : start + LISTED].tolist()
            self._patiently(self._client.delete, self._name, ids=part)

    def count(self) -> int:
        """Return how many rows it holds, after all changes so far."""
        found = self._loaded(
            self._client.query, self._name, filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(found[0]["count(*)"])

    def stored(self, last: int) -> tuple[Ids, Ids]:
        """Return the ids (n,) of its rows, rising, and their CRC32s, after all changes so far.

        last: the highest id that an image has. Of higher ids at most 16,384 are returned: they are to be deleted.
        """
        ranges = [f"{start} <= id < {start + LISTED}" for start in range(0, last + 1, LISTED)]
        # The client's own iterator reads the state at a time that it takes from the clock of this machine: with some
        # servers it misses rows that were just written.
        found = [self._query(condition) for condition in [*ranges, f"id >= {len(ranges) * LISTED}"]]
        table = np.array([(row["id"], row["crc32"]) for rows in found for row in rows], np.int64).reshape(-1, 2)
        table = table[np.argsort(table[:, 0])]
        return table[:, 0], table[:, 1]

    def _query(self, condition: str) -> list[dict[str, int]]:
        found: list[dict[str, int]] = self._loaded(
            self._client.query,
            self._name,
            filter=condition,
            limit=LISTED,
            output_fields=["id", "crc32"],
            consistency_level="Strong",
        )
        return found

    def flush(self) -> None:
        """Have all rows written to the server's storage, where it indexes them."""
        self._patiently(self._client.flush, self._name)

    def wait_until_indexed(self) -> None:
        """Wait until the index has all flushed rows, at most ten minutes; until then the server compares them all."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self._patiently(self._client.describe_index, self._name, FIELD)
            left = int(found.get("pending_index_rows", 0))
            if not left and int(found.get("indexed_rows", 0)) >= int(found.get("total_rows", 0)):
                break
            time.sleep(0.1)

    def reload(self) -> None:
        """Have the index in memory that was made since the collection was loaded; the server does so within seconds."""
        self._patiently(self._client.release_collection, self._name)
        self.load()

    # What it answers.

    def search(self, queries: Vectors, n: int, *, kind: str, ef: int, strong: bool) -> Ids:
        """Return the ids (q, n) of the rows nearest to float32 queries, nearest first; −1 where there are fewer.

        n: at most 16,384. ef: how many rows HNSW keeps on its way. strong: after all changes so far, else the server
        may lag by 5 seconds.
        """
        parameters = {"ef": min(max(ef, n), LARGEST_EF)} if kind == HNSW else {}
        found = self._loaded(
            self._client.search,
            self._name,
            data=list(queries),
            limit=n,
            search_params={"metric_type": METRIC, "params": parameters},
            output_fields=[],
            consistency_level="Strong" if strong else "Bounded",
        )
        ids = np.full((len(queries), n), -1, np.int64)
        for row, hits in zip(ids, found, strict=True):
            row[: len(hits)] = [hit["id"] for hit in hits]
        return ids

    # How it is asked.

    def _loaded(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do what `_patiently` does, after loading the collection where it is not loaded."""
        try:
            return self._patiently(method, *arguments, **options)
        except SearchUnavailable as error:
            if not any(words in str(error.__cause__) for words in NOT_LOADED):
                raise
        self.load()
        return self._patiently(method, *arguments, **options)

    def _patiently(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method with a limit of time, again while the server is only slow; each may be called twice."""
        end = time.monotonic() + PATIENCE
        while True:
            started = time.monotonic()
            try:
                return method(*arguments, **options, timeout=TIMEOUT)
            except (MilvusException, RpcError) as error:
                now = time.monotonic()
                if now - started < TIMEOUT or now > end or not self._is_alive():
                    raise _failed(self.address, error) from error

    def _is_alive(self) -> bool:
        try:
            return bool(self._client.get_server_version(timeout=ALIVE))
        except (MilvusException, RpcError):
            return False


def _close(client: MilvusClient) -> None:
    with contextlib.suppress(MilvusException, RpcError):
        client.close()


def credentials() -> dict[str, Any]:
    """Return the client's options for credentials and TLS, from the environment.

    MILVUS_TOKEN, or MILVUS_USER with MILVUS_PASSWORD. MILVUS_SECURE=1 turns TLS on, as each of these files does:
    MILVUS_CA_PEM_PATH, MILVUS_SERVER_PEM_PATH, MILVUS_CLIENT_PEM_PATH with MILVUS_CLIENT_KEY_PATH. MILVUS_SERVER_NAME:
    the name in the server's certificate, where it is another one than the host. MILVUS_DB_NAME: the database.
    """
    value = {name: os.environ.get(f"MILVUS_{name.upper()}", "") for name in (
        "token", "user", "password", "db_name", "server_name", "ca_pem_path", "server_pem_path", "client_pem_path",
        "client_key_path", "secure",
    )}  # fmt: skip
    secure = value.pop("secure").lower() not in ("", "0", "false", "no")
    return {
        **{name: text for name, text in value.items() if text},
        "secure": secure or any(text for name, text in value.items() if name.endswith("_path")),
    }


def _failed(address: MilvusAddress, error: Exception) -> SearchUnavailable:
    """Return the error of a server that did not do what it was asked; no secret is in its text."""
    text = str(getattr(error, "message", "") or error)
    for secret in filter(None, map(os.environ.get, SECRETS)):
        text = text.replace(secret, "…")
    if "fail connecting" in text.lower() or "UNAVAILABLE" in text or "DEADLINE" in text:
        return SearchUnavailable(f"{address} does not answer")
    return SearchUnavailable(f"{address} cannot search: {' '.join(text.split())[:200]}")
