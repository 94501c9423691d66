"""Single files on the web, by http and https, read by the standard library.

Only the hosts are asked that the user named. A redirect to another host is refused, and so is a name that leads to a
private address: a list of addresses from elsewhere must not reach into the user's own network. An address in numbers,
or localhost, is what the user named.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from urllib.parse import urljoin, urlsplit

from imgindex._version import VERSION
from imgindex.errors import SourceUnavailable, UnreadableImage, UsageError
from imgindex.sources.addresses import web_address, web_place
from imgindex.sources.base import BLOCK, MAX_BYTES, Content, FileHash, Found, ReadPart, far_file_hash, megabytes
from imgindex.sources.outages import Outages
from imgindex.sources.selection import Selection
from imgindex.sources.signature import HEAD
from imgindex.types import Failure, FoundFile

# Addresses that are looked up at once, and the requests that are under way at a time.
CHUNK, THREADS = 256, 16
# Seconds for a connection and for each part of an answer; seconds between tries, while the first took less than
# RETRIES_WITHIN; so a server that does not answer ends the run within half a minute.
CONNECTING, PATIENCE, RETRIES_WITHIN, PAUSES = 5.0, 10.0, 8.0, (0.2, 1.0)
HEADERS_WITHIN, PART_WITHIN = 15.0, 20.0
# Connections that are kept for further requests.
MOST_IDLE = 64
# IP addresses of a host that are tried.
MOST_NUMBERS = 2
# An answer that arrives slower than this, in bytes in a second, after GRACE seconds, is given up.
SLOWEST, GRACE = 2000, 60.0
REDIRECTS = 5
REDIRECT = (301, 302, 303, 307, 308)
GONE, REFUSED, NOT_IMPLEMENTED, TOO_MANY = (404, 410), (401, 403), 501, 429
# How servers answer HEAD that only know GET.
NO_HEAD = (400, 403, 405, NOT_IMPLEMENTED)
# IPv6 addresses by which IPv4 is reached (RFC 6052).
NAT64 = ipaddress.ip_network("64:ff9b::/96")
HEADERS = {"User-Agent": f"imgindex/{VERSION}", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
AGAIN = "check the address and the network, and run the same command again; finished batches are kept"
LOCALHOST = ("localhost", "localhost.")

Place = tuple[str, str, int]
_Failed = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer to a request: its status, headers and, until the connection is used again, its body."""

    status: int
    headers: http.client.HTTPMessage
    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection

    @property
    def length(self) -> int:
        """The size of the body, -1 where the server does not say it."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdecimal() else -1

    def extend_deadline(self) -> None:
        """Let the next part of the body take its time."""
        _set_deadline(self.connection, PART_WITHIN)

    def file(self, path: str, size: int) -> FoundFile:
        tag, changed = self.headers.get("ETag", "").strip(), self.headers.get("Last-Modified", "").strip()
        return FoundFile(path, size, _nanoseconds(changed), version=tag or changed or None)


class WebSource:
    """Single files on the web."""

    where, is_far = "on the web", True

    def __init__(self) -> None:
        self._idle: list[tuple[Place, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._outages = Outages()
        self._context: ssl.SSLContext | None = None

    # Finding.

    def find(self, roots: Iterable[str], selection: Selection) -> Iterator[Found]:
        """Yield the file at each address, as its server describes it, or a Failure; whatever its ending is."""
        self._outages.forget()
        waiting = iter(dict.fromkeys(roots))
        with ThreadPoolExecutor(THREADS, thread_name_prefix="imgindex-look") as threads:
            while chunk := list(islice(waiting, CHUNK)):
                yield from threads.map(self._look, chunk)

    def _look(self, path: str) -> Found:
        try:
            with self._asked("HEAD", path) as answer:
                return answer.file(path, answer.length)
        except SourceUnavailable:
            raise
        except UnreadableImage as error:
            return Failure(path, "find", error.reason)

    def check(self, root: str) -> None:
        """Accept any address: each is one image, and that it is gone is a failure of this image."""

    def look(self, path: str) -> FoundFile | None:
        """Return a file as its server describes it now; None where it is gone, or the server does not answer."""
        try:
            found = self._look(path)
        except SourceUnavailable:
            return None
        return found if isinstance(found, FoundFile) else None

    def gone(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the addresses of which their servers say that they have nothing there."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="imgindex-look") as threads:
            waiting = iter(paths)
            while chunk := list(islice(waiting, CHUNK)):
                yield from (
                    path for path, is_gone in zip(chunk, threads.map(self._is_gone, chunk), strict=True) if is_gone
                )

    def _is_gone(self, path: str) -> bool:
        try:
            with self._asked("HEAD", path):
                return False
        except _Gone:
            return True
        except UnreadableImage:
            return False

    # Reading.

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> Content:
        """Return the bytes of a file with its ETag, both from one request. Raises UnreadableImage.

        The type that the server gives is not used.
        """
        parts = list(self._parts(path, max_bytes))
        file, data = parts[-1][0], b"".join(part for _, part in parts)
        if not data:
            raise UnreadableImage("the answer is empty", stage="read")
        return Content(data, hashlib.sha256(data).digest(), len(data), file.mtime_ns, version=file.version)

    def read_head(self, path: str) -> bytes | None:
        """Return the first bytes of a file; None if it cannot be read. Raises SourceUnavailable."""
        try:
            with self._asked("GET", path, {"Range": f"bytes=0-{HEAD - 1}"}) as answer:
                return answer.response.read(HEAD)
        except SourceUnavailable:
            raise
        except (UnreadableImage, *_Failed):
            return None

    def hash(self, path: str) -> FileHash:
        """Return the SHA-256 of a file of any size, with numbers that no other file has."""
        digest, size, read = hashlib.sha256(), 0, FoundFile(path, 0, 0)
        for file, part in self._parts(path, None):
            digest.update(part)
            size, read = size + len(part), file
        return far_file_hash(replace(read, size=size), digest.digest())

    def is_unchanged(self, path: str, read: FileHash) -> bool:
        """Return whether a file is still the one that was hashed, by what its server says of it."""
        found = self.look(path)
        return found is not None and far_file_hash(found, read.sha256) == read

    @contextmanager
    def parts(self, path: str) -> Iterator[ReadPart]:
        """Lend a function that returns the bytes of a file at an offset; the file is read at once."""
        data = self.read(path).data
        yield lambda offset, length: data[offset : offset + length]

    def is_folder(self, path: str) -> bool:
        """Return False: a server has no folders."""
        return False

    def is_sequential(self, path: str) -> bool:
        """Return False: any file is read as fast as the next one."""
        return False

    def _parts(self, path: str, most: int | None) -> Iterator[tuple[FoundFile, bytes]]:
        """Yield the file and the parts of its content, the last one empty."""
        place = web_place(path)
        with self._asked("GET", path) as answer:
            file, size, started = answer.file(path, answer.length), 0, time.monotonic()
            if most is not None and answer.length > most:
                raise _too_large(answer.length, most)
            while True:
                answer.extend_deadline()
                try:
                    part = answer.response.read1(BLOCK)
                except _Failed as error:
                    raise _unavailable(place, f"stopped in the middle of an answer: {_reason(error)}") from None
                size += len(part)
                if most is not None and size > most:
                    raise _too_large(size, most)
                took = time.monotonic() - started
                if took > GRACE and size < took * SLOWEST:
                    raise _unavailable(place, "answers too slowly")
                yield file, part
                if not part:
                    break
            if answer.length >= 0 and size != answer.length:
                raise _unavailable(place, "ended an answer too early")

    # Requests.

    @contextmanager
    def _asked(self, method: str, path: str, headers: dict[str, str] | None = None) -> Iterator[_Answer]:
        """Provide the answer of status 200 or 206 to a request, behind redirects within the host.

        Raises UnreadableImage for another status, SourceUnavailable where the server does not answer.
        """
        url = path
        for _ in range(REDIRECTS + 1):
            with self._connected(method, url, headers or {}) as answer:
                if answer.status not in REDIRECT:
                    if method == "HEAD" and answer.status in NO_HEAD:
                        break
                    _check(answer.status)
                    yield answer
                    return
                url = _redirected(url, answer.headers.get("Location", ""))
        else:
            raise UnreadableImage(f"the server redirects more than {REDIRECTS} times", stage="read")
        # A server that does not answer HEAD: the body of its answer is left unread.
        with self._asked("GET", path, headers) as answer:
            yield answer

    @contextmanager
    def _connected(self, method: str, url: str, headers: dict[str, str]) -> Iterator[_Answer]:
        """Provide the answer to one request, tried again where the server fails; keep the connection if it can be."""
        place = web_place(url)
        self._outages.check(_shown(place))
        started, pauses = time.monotonic(), iter(PAUSES)
        while True:
            connection = self._take(place)
            was_idle = connection is not None
            try:
                connection = connection or self._connect(place)
                response = _request(connection, method, url, headers)
                problem = f"answers with an error ({response.status})" if _is_unavailable(response.status) else ""
            except _Failed as error:
                if connection is not None:
                    connection.close()
                if was_idle and not isinstance(error, TimeoutError):
                    # The server closed it meanwhile, and so the others.
                    self.close(place)
                    continue
                problem = f"does not answer: {_reason(error)}"
            else:
                if not problem:
                    break
                response.close()
                connection.close()
            pause = next(pauses, None)
            if pause is None or time.monotonic() - started > RETRIES_WITHIN:
                raised = _unavailable(place, problem)
                self._outages.note(_shown(place), raised)
                raise raised
            time.sleep(pause)
        try:
            yield _Answer(response.status, response.headers, response, connection)
        finally:
            # What is left of a body would be taken for the beginning of the next answer.
            is_complete = (response.isclosed() or response.length == 0) and not response.will_close
            response.close()
            if is_complete:
                self._keep(place, connection)
            else:
                connection.close()

    def _take(self, place: Place) -> http.client.HTTPConnection | None:
        """Return an idle connection to a server, the newest one; None where there is none."""
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at][0] == place:
                    return self._idle.pop(at)[1]
        return None

    def _keep(self, place: Place, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append((place, connection))
            oldest = self._idle.pop(0)[1] if len(self._idle) > MOST_IDLE else None
        if oldest is not None:
            oldest.close()

    def close(self, place: Place | None = None) -> None:
        """Close the idle connections, or those to one server."""
        with self._lock:
            idle = [one for one in self._idle if place in (None, one[0])]
            self._idle = [one for one in self._idle if one not in idle]
        for _, connection in idle:
            connection.close()

    def _connect(self, place: Place) -> http.client.HTTPConnection:
        scheme, host, port = place
        connected = _connected_to(_numbers(host, port), port)
        if scheme == "https":
            connected = self._tls().wrap_socket(connected, server_hostname=host)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = connected
        return connection

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = ssl.create_default_context()
                self._context.sslsocket_class = _TlsSocket
            return self._context


class _WithDeadline(socket.socket):
    """A socket that stops waiting at a deadline, however often the server sends a byte."""

    deadline = math.inf

    def recv_into(self, *args: Any, **options: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(min(PATIENCE, left))
        return super().recv_into(*args, **options)


class _TlsSocket(_WithDeadline, ssl.SSLSocket):
    pass


class _Gone(UnreadableImage):
    def __init__(self, reason: str) -> None:
        super().__init__(reason, stage="read")


def _numbers(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host. Raises UnreadableImage for a name that leads into a private network."""
    try:
        ipaddress.ip_address(host)
        return [host]
    except ValueError:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if host not in LOCALHOST and not all(map(_is_public, found)):
        raise UnreadableImage(
            f"{host} leads to a private address; name that by its numbers to read from it", stage="read"
        )
    return list(dict.fromkeys(found))[:MOST_NUMBERS]


def _is_public(number: str) -> bool:
    ip = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # Addresses that contain one of IPv4, to which they lead.
        ip = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else ip)
    return ip.is_global and not ip.is_multicast


def _connected_to(numbers: Sequence[str], port: int) -> socket.socket:
    error: OSError = OSError("the name has no address")
    for number in numbers:
        try:
            connected = socket.create_connection((number, port), timeout=CONNECTING)
        except OSError as refused:
            error = refused
            continue
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = _WithDeadline(fileno=connected.detach())
        made.settimeout(PATIENCE)
        return made
    raise error


def _request(
    connection: http.client.HTTPConnection, method: str, url: str, headers: dict[str, str]
) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    _set_deadline(connection, HEADERS_WITHIN)
    connection.request(method, target, headers=HEADERS | {"Host": parts.netloc} | headers)
    response = connection.getresponse()
    if method == "HEAD":
        response.read()
    return response


def _set_deadline(connection: http.client.HTTPConnection, seconds: float) -> None:
    if isinstance(connection.sock, _WithDeadline):
        connection.sock.deadline = time.monotonic() + seconds


def _redirected(url: str, location: str) -> str:
    """Return where a redirect leads. Raises UnreadableImage unless that is the same server, or its port for TLS."""
    try:
        to = web_address(urljoin(url, location))
        (scheme, host, port), place = web_place(to), web_place(url)
    except (UsageError, ValueError):
        raise UnreadableImage("the server redirects to something else than an address", stage="read") from None
    if (scheme, host, port) != place and (scheme, host, port, place) != ("https", host, 443, ("http", host, 80)):
        where = host if host != place[1] else f"{scheme}://{host}:{port}"
        raise UnreadableImage(f"the server redirects to {where}; name that address to read from it", stage="read")
    return to


def _is_unavailable(status: int) -> bool:
    """Return whether the server has a problem that is not one of this file, so that it ends the run."""
    return (status >= 500 and status != NOT_IMPLEMENTED) or status == TOO_MANY


def _check(status: int) -> None:
    if status in GONE:
        raise _Gone(f"the server has no such file ({status})")
    if status not in (200, 206):
        reason = "refuses the file" if status in REFUSED else "gives no file"
        raise UnreadableImage(f"the server {reason} ({status})", stage="read")


def _too_large(size: int, most: int) -> UnreadableImage:
    return UnreadableImage(
        f"the file has at least {megabytes(size)}, more than the limit of {megabytes(most)}", stage="read"
    )


def _unavailable(place: Place, what: str) -> SourceUnavailable:
    return SourceUnavailable(f"{_shown(place)} {what}", hint=AGAIN)


def _shown(place: Place) -> str:
    scheme, host, port = place
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _nanoseconds(date: str) -> int:
    """Return the time of a header in ns, 0 where it has none."""
    try:
        return int(parsedate_to_datetime(date).timestamp()) * 10**9
    except (TypeError, ValueError, OverflowError, OSError):
        return 0
