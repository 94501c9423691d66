"""Wraps the whole application: who may ask, how large and how slow a request may be, and what browsers may do with it.

The page's address carries a random token in its fragment, which browsers send to no server; its script sends it as
`Authorization: Bearer`. It sets no cookies, so another site that makes a browser send a request sends no token. The
other checks cover what a token does not: names that an attacker's DNS turns into 127.0.0.1, and the page itself.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import asdict
from typing import Any

from imgindex.server.problems import MEDIA_TYPE, RequestRefused, refusal_of

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/api/"
# The most bytes of a body, and of one that is an image; how many bodies of images are in memory at once.
MOST_BYTES, MOST_IMAGE_BYTES, IMAGES_AT_ONCE = 2 << 20, 64 << 20, 2
IMAGE_PATH = "/api/v1/similar"
# Seconds until a body has to be here, one of an image too, and until a client has to take a part of the response.
BODY_SECONDS, IMAGE_SECONDS, TAKE_SECONDS = 10.0, 120.0, 60.0

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Guard:
    """An ASGI application that passes on to another one only requests that are allowed, with their whole body.

    token: what requests below /api/ have to send. allowed_hosts: names, besides those of this machine itself, that
    requests may be sent to.
    """

    def __init__(self, app: App, *, token: str, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._images = asyncio.Semaphore(IMAGES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _guarded(send, is_api=scope["path"].startswith(API))
        try:
            self._check(scope)
            is_image = scope["method"] == "POST" and scope["path"] == IMAGE_PATH
            if is_image:
                async with self._images:
                    await self._pass_on(scope, receive, send, most=MOST_IMAGE_BYTES, seconds=IMAGE_SECONDS)
            else:
                await self._pass_on(scope, receive, send, most=MOST_BYTES, seconds=BODY_SECONDS)
        except RequestRefused as refused:
            await _refuse(send, refused)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, *, most: int, seconds: float) -> None:
        body = await _read_body(scope, receive, most=most, seconds=seconds)
        await self._app(scope, _replaying(body, receive), send)

    def _check(self, scope: Scope) -> None:
        """Raise RequestRefused unless host, origin and token are right."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        host = self._checked_host(headers.get(b"host", []))
        for origin in headers.get(b"origin", []):
            if origin.decode("latin-1").lower() not in (f"http://{host}", f"https://{host}"):
                raise RequestRefused(403, "ForeignOrigin", "another site sent this request")
        site = b",".join(headers.get(b"sec-fetch-site", [b"none"]))
        if site not in (b"same-origin", b"none") and not _opens_the_page(scope, headers):
            raise RequestRefused(403, "ForeignOrigin", "another site sent this request")
        if scope["path"].startswith(API) and not self._has_token(headers.get(b"authorization", [])):
            raise RequestRefused(
                401,
                "Unauthorized",
                "the request lacks the token of this run",
                hint="send `Authorization: Bearer TOKEN`; the token is in the address that `imgindex serve` prints",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _checked_host(self, values: list[bytes]) -> str:
        if len(values) == 1:
            host = values[0].decode("latin-1").lower()
            name = _without_port(host)
            if name in self._allowed_hosts or _is_this_machine(name):
                return host
        named = b", ".join(values).decode("latin-1")[:200]
        raise RequestRefused(
            421,
            "ForeignHost",
            f"this server does not answer for the host {named!r}",
            hint="ask for 127.0.0.1 or localhost, or allow this name where `imgindex serve` is started",
        )

    def _has_token(self, values: list[bytes]) -> bool:
        scheme, _, given = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_this_machine(name: str) -> bool:
    """Whether a name is that of this machine's own address, which no DNS can give to another one."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _opens_the_page(scope: Scope, headers: dict[bytes, list[bytes]]) -> bool:
    """Whether a browser opens the page itself, which has no data, in a window of its own: by a link, or a bookmark."""
    fetched = headers.get(b"sec-fetch-mode", []), headers.get(b"sec-fetch-dest", [])
    is_page = scope["method"] == "GET" and scope["path"] == "/"
    return is_page and fetched == ([b"navigate"], [b"document"])


async def _read_body(scope: Scope, receive: Receive, *, most: int, seconds: float) -> bytes:
    """Return the whole body. Raises RequestRefused when it is too large, before it is read if it says so; or slow."""
    lengths = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
    if any(not value.isdigit() or int(value) > most for value in lengths):
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            left = deadline - asyncio.get_running_loop().time()
            message = await asyncio.wait_for(receive(), max(left, 0.001))
        except asyncio.TimeoutError:
            detail = f"the body was not here after {seconds:g} seconds"
            raise RequestRefused(408, "TooSlow", detail, headers={"Connection": "close"}) from None
        if message["type"] != "http.request":
            raise RequestRefused(400, "Disconnected", "the client left")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(most: int) -> RequestRefused:
    return RequestRefused(413, "TooLarge", f"a body here has at most {most >> 20} MiB", headers={"Connection": "close"})


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body first; then it waits until the client leaves."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _guarded(send: Send, *, is_api: bool) -> Send:
    """Return a `send` that adds the headers of every response, and does not wait for ever for a client that is slow."""
    cached = [(b"cache-control", b"no-store" if is_api else b"no-cache")]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS, *cached]
        await asyncio.wait_for(send(message), TAKE_SECONDS)

    return guarded


async def _refuse(send: Send, refused: RequestRefused) -> None:
    refusal = refusal_of(refused)
    body = json.dumps(asdict(refusal.problem)).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
