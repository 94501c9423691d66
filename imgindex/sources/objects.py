"""The objects of stores: S3 and what speaks its protocol, Google Cloud Storage, Azure, and folders by file://.

obstore (https://developmentseed.org/obstore) reads them. A store is chosen by the address alone: its endpoint and the
keys come from the environment variables that its other programs use. Nothing of them is kept or shown.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from imgindex.errors import ExtraMissing, SourceUnavailable, UnreadableImage
from imgindex.sources.base import BLOCK, MAX_BYTES, Content, FileHash, Found, ReadPart, far_file_hash, megabytes
from imgindex.sources.gateway import Gateway
from imgindex.sources.outages import Outages
from imgindex.sources.selection import NameRules, Selection
from imgindex.sources.signature import HEAD
from imgindex.types import Failure, FoundFile, UnnamedFile

# Addresses that are looked up at once, each with a request of its own; the requests that are under way at a time.
CHUNK, THREADS = 256, 16
# Up to so many objects are asked for one by one; of more, the store is asked for a list.
FEW = 8
# Objects that a store lists at once, at most.
LISTED = 1000
# A store that does not answer ends the run within half a minute: it has so long for each part of an answer, and a
# request is repeated only while that took less than RETRIES_WITHIN.
PATIENCE, CONNECTING, RETRIES_WITHIN = timedelta(seconds=10), timedelta(seconds=5), timedelta(seconds=8)
RETRIES, BACKOFF, MOST_BACKOFF = 2, timedelta(milliseconds=200), timedelta(seconds=2)
# Read timeouts end a stalled answer; a large object may take long.
LONGEST = timedelta(hours=1)

# The variables that say where a store is, and those by which it knows who asks. Without any of the latter requests are
# not signed: obstore would ask a server of the machine's provider for keys, which the user did not name.
VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "file": "-"}
CREDENTIALS = {
    "s3": (
        "AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
    ),
    "az": (
        "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_CLIENT_ID", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN",
    ),
}  # fmt: skip
# With these, keys come from a server.
KEYS_OF_SERVERS = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_WEB_IDENTITY_TOKEN_FILE",
    *CREDENTIALS["gs"], "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_STORAGE_CLIENT_ID",
)  # fmt: skip
TO_SET = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
NO_SUCH_OBJECT = "the store has no such object"
BAD_NAME = "a name with an empty part, with . or .. as a part, or with a control character cannot be read"

DENIED = ("PermissionDeniedError", "UnauthenticatedError")
FILES = "file://"
AGAIN = "run the same command again; finished batches are kept, and nothing was removed"

# How the names of variables end that have an address.
ENDPOINTS = ("_ENDPOINT", "_ENDPOINT_URL", "_ENDPOINT_URL_S3", "_BASE_URL")
_IS_ENDPOINT = re.compile(r"https?://[\w.:\[\]-]+(?:/[\w./-]*)?", re.ASCII).fullmatch

_CODE = re.compile(r"<Code>(\w{1,60})</Code>").search
_STATUS = re.compile(r"status code: (\d{3})").search


class ObjectSource:
    """The objects of stores. `anonymous`: the buckets, such as s3://bucket, whose requests are never signed."""

    where, is_far = "in an object store", True

    def __init__(self) -> None:
        self.anonymous: frozenset[str] = frozenset()
        self._stores: dict[tuple[str, bool, int], Any] = {}
        self._lock = threading.Lock()
        self._outages = Outages()
        self._gateway = Gateway()

    def read_anonymously(self, buckets: Iterable[str], anonymous: bool) -> None:
        """Let requests to these buckets be unsigned from now on, or signed again."""
        self.anonymous = self.anonymous.union(buckets) if anonymous else self.anonymous.difference(buckets)

    # Finding.

    def find(self, roots: Iterable[str], selection: Selection) -> Iterator[Found]:
        """Yield the images at and below addresses, as the stores list them, each once.

        An address that is neither an object nor above one is a Failure. A listing that is interrupted raises
        SourceUnavailable.
        """
        self._outages.forget()
        given = dict.fromkeys(roots)
        waiting = iter(given)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="imgindex-look") as threads:
            while chunk := list(islice(waiting, CHUNK)):
                # A bucket itself cannot be an object.
                for root, found in zip(chunk, threads.map(self._object_at, chunk), strict=True):
                    if found is not None:
                        yield found
                    if found is None or not (isinstance(found, Failure) or selection.has_image_ending(_name(root))):
                        yield from self._below(root, found is not None, given, selection)

    def _object_at(self, root: str) -> Found | None:
        try:
            return self._head(root) if _split(root)[1] else None
        except SourceUnavailable:
            raise
        except UnreadableImage as error:
            return Failure(root, "find", error.reason)

    def _below(self, root: str, is_object: bool, given: dict[str, None], selection: Selection) -> Iterator[Found]:
        """Yield the images below an address, without those that were given themselves."""
        if _is_covered(root, given):
            if not is_object and selection.has_image_ending(_name(root)) and next(self._listed(root), None) is None:
                yield Failure(root, "find", NO_SUCH_OBJECT)
            return
        is_empty, rules = True, NameRules(selection)
        for listed in self._listed(root):
            is_empty = False
            if listed.path in given:
                continue
            kind = rules.kind(listed.path[len(root) + 1 :])
            # Stores keep empty objects in the places of folders.
            if kind is FoundFile or (kind is UnnamedFile and listed.size):
                yield listed if kind is FoundFile else _unnamed(listed)
        if is_empty and not is_object and _split(root)[1]:
            yield Failure(root, "find", NO_SUCH_OBJECT)

    def check(self, root: str) -> None:
        """Raise FileNotFoundError where there is nothing at or below an address, SourceUnavailable without an answer.

        The address of one image is not asked for: that it is gone is a failure of this image.
        """
        self._outages.forget()
        place, key = _split(root)
        self._store(place)
        if key and Selection().has_image_ending(_name(root)):
            return
        try:
            is_there = not key or self._head(root) is not None
        except SourceUnavailable:
            raise
        except UnreadableImage as error:
            raise ValueError(error.reason) from None
        if next(self._listed(root), None) is None and not is_there:
            raise FileNotFoundError(2, NO_SUCH_OBJECT, root)

    def look(self, path: str) -> FoundFile | None:
        """Return an object as its store describes it now; None where it is gone, or the store does not answer."""
        try:
            return self._head(path)
        except UnreadableImage:
            return None

    def gone(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the paths that the stores do not have: of many, those that a complete list lacks.

        Raises SourceUnavailable for a list that is interrupted.
        """
        of_place: dict[str, list[str]] = {}
        for path in paths:
            of_place.setdefault(_split(path)[0], []).append(path)
        for wanted in of_place.values():
            if len(wanted) <= FEW:
                yield from filter(self._is_gone, wanted)
            else:
                yield from self._not_listed(wanted)

    def _is_gone(self, path: str) -> bool:
        try:
            return self._head(path) is None
        except UnreadableImage:
            return False

    def _not_listed(self, paths: Sequence[str]) -> Iterator[str]:
        missing = set(paths)
        first, last = min(paths, key=os.fsencode), max(paths, key=os.fsencode)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(first.split("/"), last.split("/"), strict=False))
        folder = "/".join(part for part, _ in same)
        for listed in self._listed(folder, after=first):
            missing.discard(listed.path)
            if not missing or os.fsencode(listed.path) > os.fsencode(last):
                break
        # Not every store lists in the order of names: those that the list seems to lack are asked for.
        suspects = [path for path in paths if path in missing]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="imgindex-look") as threads:
            for path, found in zip(suspects, threads.map(self._head, suspects), strict=True):
                if found is None:
                    yield path

    def _listed(self, root: str, *, after: str = "") -> Iterator[FoundFile]:
        """Yield all objects below an address, those at or behind the address `after` where that is given."""
        place, prefix = _split(root)
        # The offset itself would be left out; it must not end in a part that obstore refuses.
        offset = _split(after)[1][:-1].rstrip("./") or None if after else None
        with self._asking(place, "list") as store:
            for part in store.list(prefix or None, offset=offset, chunk_size=LISTED):
                for meta in part:
                    if meta["path"] != prefix:
                        yield _found(place, meta)

    def _head(self, path: str) -> FoundFile | None:
        place, key = _split(path)
        try:
            with self._asking(place, "read") as store:
                return _found(place, store.head(key))
        except _NoSuchObject:
            return None

    # Reading.

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> Content:
        """Return the bytes of an object with its ETag, both from one request. Raises UnreadableImage."""
        place, key = _split(path)
        with self._asking(place, "read") as store:
            answer = store.get(key)
            found = _found(place, answer.meta)
            if found.size == 0:
                raise UnreadableImage("the object is empty", stage="read")
            if found.size > max_bytes:
                raise UnreadableImage(
                    f"the object has {megabytes(found.size)}, more than the limit of {megabytes(max_bytes)}",
                    stage="read",
                )
            data = bytes(answer.bytes())
        if len(data) != found.size:
            raise SourceUnavailable(f"{place} ended its answer too early")
        return Content(data, hashlib.sha256(data).digest(), found.size, found.mtime_ns, version=found.version)

    def read_head(self, path: str) -> bytes | None:
        """Return the first bytes of an object; None if it cannot be read. Raises SourceUnavailable."""
        place, key = _split(path)
        try:
            with self._asking(place, "read") as store:
                return bytes(store.get_range(key, start=0, length=HEAD))
        except SourceUnavailable:
            raise
        except UnreadableImage:
            return None

    def hash(self, path: str) -> FileHash:
        """Return the SHA-256 of an object of any size, with numbers that no other file has."""
        place, key = _split(path)
        digest, size = hashlib.sha256(), 0
        with self._asking(place, "read") as store:
            answer = store.get(key)
            found = _found(place, answer.meta)
            for block in answer.stream(min_chunk_size=BLOCK):
                digest.update(block)
                size += len(block)
        if size != found.size:
            raise SourceUnavailable(f"{place} ended its answer too early")
        return far_file_hash(found, digest.digest())

    def is_unchanged(self, path: str, read: FileHash) -> bool:
        """Return whether an object is still the one that was hashed, by its ETag."""
        found = self.look(path)
        return found is not None and far_file_hash(found, read.sha256) == read

    @contextmanager
    def parts(self, path: str) -> Iterator[ReadPart]:
        """Lend a function that returns the bytes of an object at an offset; the object is read at once."""
        data = self.read(path).data
        yield lambda offset, length: data[offset : offset + length]

    def is_folder(self, path: str) -> bool:
        """Return whether there are objects below an address; False without asking for the name of an image."""
        try:
            return not Selection().has_image_ending(_name(path)) and next(self._listed(path), None) is not None
        except UnreadableImage:
            return False

    def is_sequential(self, path: str) -> bool:
        """Return False: any object is read as fast as the next one."""
        return False

    # Stores.

    def _store(self, place: str) -> Any:
        """Return the client of a bucket, by the environment as it is now."""
        scheme = place.partition(":")[0]
        variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES[scheme])}
        is_signed = place not in self.anonymous and any(map(variables.get, CREDENTIALS.get(scheme, ())))
        key = (place, is_signed, hash(frozenset(variables.items())))
        with self._lock:
            if key not in self._stores:
                self._stores[key] = _make_store(scheme, place, variables, self._gateway, is_signed=is_signed)
            return self._stores[key]

    @contextmanager
    def _asking(self, place: str, what: str) -> Iterator[Any]:
        """Provide the client of a bucket; its errors become those of imgindex, without what could be secret in them."""
        self._outages.check(place)
        store = self._store(place)
        from obstore.exceptions import BaseError

        try:
            yield store
        except (BaseError, OSError, ValueError) as error:
            raised = self._explained(error, place, what)
            if isinstance(raised, SourceUnavailable):
                self._outages.note(place, raised)
        else:
            return
        # Not `from error`: the messages of stores contain requests with their signatures.
        raise raised from None

    def _explained(self, error: Exception, place: str, what: str) -> UnreadableImage:
        text, kind = str(error), type(error).__name__
        found = [match[1] for match in (_STATUS(text), _CODE(text)) if match]
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return SourceUnavailable(f"{place} does not exist", hint="check the name, and the endpoint")
        if isinstance(error, FileNotFoundError):
            return _NoSuchObject(NO_SUCH_OBJECT)
        of_object = "the store redirects to another server, which is not asked" if self._gateway.explains(text) else ""
        of_object = BAD_NAME if kind == "InvalidPathError" or isinstance(error, ValueError) else of_object
        if "InvalidObjectState" in found:
            of_object = "the object is in an archive of the store; restore it first"
        if kind in DENIED and place == FILES:
            of_object = "permission denied"
        if "InvalidCertificate" in text:
            hint = "name the file with the certificate of its authority in SSL_CERT_FILE"
            return SourceUnavailable(f"{place} has a certificate that is not trusted", hint=hint)
        if of_object and what == "read":
            return UnreadableImage(of_object, stage="read")
        if of_object:
            return SourceUnavailable(f"{place} cannot be listed: {of_object}", hint=f"change that, and {AGAIN}")
        return self._problem(place, found, is_denied=kind in DENIED or bool({"401", "403"}.intersection(found)))

    def _problem(self, place: str, found: Sequence[str], *, is_denied: bool) -> SourceUnavailable:
        """Return the error for a store as a whole; found: the status of its answer, and its word for the error."""
        scheme, named = place.partition(":")[0], f" ({' '.join(found)})" if found else ""
        if is_denied:
            return self._rejected(scheme, place, named)
        if found and found[0].startswith("3"):
            hint = f"set AWS_REGION or {ENDPOINT['s3']}" if scheme == "s3" else f"set {ENDPOINT[scheme]}"
            return SourceUnavailable(f"{place} is at another endpoint, or in another region{named}", hint=hint)
        answer = f"answers with an error{named}" if found else "does not answer"
        where = f"{ENDPOINT[scheme]} and the network" if scheme in ENDPOINT else "the disk"
        return SourceUnavailable(f"{place} {answer}", hint=f"check {where}, and {AGAIN}")

    def _rejected(self, scheme: str, place: str, named: str) -> SourceUnavailable:
        if place in self.anonymous:
            return SourceUnavailable(
                f"{place} cannot be read without credentials{named}",
                hint=f"set {TO_SET[scheme]}, and use `anonymous=False`",
            )
        if any(map(os.environ.get, CREDENTIALS[scheme])):
            return SourceUnavailable(
                f"{place} rejects the credentials{named}", hint=f"check {TO_SET[scheme]}; `anonymous=True` uses none"
            )
        return SourceUnavailable(f"{place} cannot be read without credentials{named}", hint=f"set {TO_SET[scheme]}")


class _NoSuchObject(UnreadableImage):
    def __init__(self, reason: str) -> None:
        super().__init__(reason, stage="read")


def _make_store(scheme: str, place: str, variables: dict[str, str], gateway: Gateway, *, is_signed: bool) -> Any:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, LocalStore, S3Store
    except ImportError as error:
        raise ExtraMissing(
            f"{place} cannot be read: obstore is not installed", hint="install it: pip install obstore"
        ) from error
    if scheme == "file":
        return LocalStore("/")
    for name, value in variables.items():
        # obstore would panic. The value may contain a password.
        if name.endswith(ENDPOINTS) and value and not _IS_ENDPOINT(value):
            raise SourceUnavailable(
                f"{place} cannot be reached: {name} is not the address of a server", hint="write http://HOST:PORT there"
            )
    bucket = place.partition("://")[2]
    # Without an endpoint the store is the provider's, whose servers may redirect to each other. Where keys come from a
    # server, obstore asks that one too.
    endpoints = [value for name, value in variables.items() if name.endswith(ENDPOINTS) and value]
    client: dict[str, Any] = {
        "connect_timeout": CONNECTING,
        "read_timeout": PATIENCE,
        "timeout": LONGEST,
        # Only where the user wrote an endpoint without TLS.
        "allow_http": any(value.startswith("http://") for value in variables.values()),
    }
    if proxy := gateway.address_for([] if any(map(variables.get, KEYS_OF_SERVERS)) else endpoints):
        client["proxy_url"] = proxy
    retries = {
        "max_retries": RETRIES,
        "retry_timeout": RETRIES_WITHIN,
        "backoff": {"init_backoff": BACKOFF, "max_backoff": MOST_BACKOFF, "base": 2},
    }
    kind = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    try:
        unsigned = {} if is_signed else {"skip_signature": True}
        return kind(bucket, client_options=client, retry_config=retries, **unsigned)
    except (BaseError, OSError, ValueError) as error:
        raise SourceUnavailable(
            f"{place} cannot be reached with these settings: {type(error).__name__}",
            hint=f"check {TO_SET[scheme]}, and what else begins with {VARIABLES[scheme]}",
        ) from None


def _split(address: str) -> tuple[str, str]:
    """Return the bucket with its scheme, and the key in it: ("s3://bucket", "a/b.jpg"); file:// has one bucket."""
    if address.startswith(FILES):
        return FILES, address[len(FILES) :].lstrip("/")
    at = address.find("/", address.index("://") + 3)
    return (address, "") if at < 0 else (address[:at], address[at + 1 :])


def _name(address: str) -> str:
    return _split(address)[1].rpartition("/")[2]


def _is_covered(root: str, given: dict[str, None]) -> bool:
    """Return whether an address lies below another one of those that were given."""
    place = _split(root)[0]
    while len(root) > len(place):
        root = root.rpartition("/")[0]
        if root in given:
            return True
    return False


def _found(place: str, meta: Any) -> FoundFile:
    """Return an object as a store describes it. An answer has its time in seconds, a list may have it more exactly."""
    changed: datetime = meta["last_modified"]
    seconds = int(changed.timestamp())
    version = meta["e_tag"].strip('"') if meta["e_tag"] else changed.replace(microsecond=0).isoformat()
    return FoundFile(f"{place}/{meta['path']}", meta["size"], seconds * 10**9, version=version)


def _unnamed(file: FoundFile) -> UnnamedFile:
    return UnnamedFile(file.path, file.size, file.mtime_ns, version=file.version)
