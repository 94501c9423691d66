"""The address of a collection of a Milvus server, and the one form that it has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imgindex.errors import UsageError
from imgindex.sources.addresses import with_secret

SCHEME, PORT = "milvus://", 19530
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]", re.ASCII).fullmatch
_COLLECTION = re.compile(r"[A-Za-z_]\w{0,254}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """The address of a collection of a Milvus server; host: a name or a number, an IPv6 number in brackets."""

    host: str
    port: int
    collection: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.host}:{self.port}/{self.collection}"


def milvus_address(address: str) -> MilvusAddress:
    """Return the parts of milvus://HOST:PORT/COLLECTION. Raises UsageError.

    >>> str(milvus_address("MILVUS://Search.example/photos"))
    'milvus://search.example:19530/photos'
    """
    form = "write milvus://HOST:PORT/COLLECTION, for example milvus://127.0.0.1:19530/photos"
    if address[: len(SCHEME)].lower() != SCHEME:
        raise UsageError(f"{address!r} does not name a search", hint=f"{form}, or local")
    place, _, collection = address[len(SCHEME) :].partition("/")
    if "@" in place:
        raise with_secret("a user name or a password", "set MILVUS_TOKEN in the environment instead")
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, str(PORT)
    if not _HOST(host) or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise UsageError(f"{address!r} names no server", hint=form)
    if not _COLLECTION(collection):
        raise UsageError(
            f"{collection!r} is not the name of a collection",
            hint="use letters, digits and _, with a letter or _ at the front",
        )
    return MilvusAddress(host.lower(), int(port), collection)
