"""Addresses of images in object stores and on the web: the one form that each has.

An address is a name like a path: text in which slashes separate folders. No path of this machine is one, because two
slashes in a path are one.
"""

from __future__ import annotations

import os
import re

from imgindex.errors import UsageError

OBJECTS = ("s3://", "gs://", "az://", "file://")
WEB = ("https://", "http://")
BUCKETS = ("s3", "gs", "az")
_ALL = (*OBJECTS, *WEB)
_LONGEST = max(map(len, _ALL))
_PORTS = {"http": 80, "https": 443}
_BUCKET = re.compile(r"[\w.$-]{1,255}", re.ASCII).fullmatch
# Parts of a query that give access to whoever has them, in lower case.
_SECRETS = frozenset({
    "awsaccesskeyid", "googleaccessid", "key-pair-id", "sig", "signature", "x-amz-credential", "x-amz-security-token",
    "x-amz-signature", "x-goog-credential", "x-goog-signature",
})  # fmt: skip
# Characters of an address that are sent as they are. Spaces and letters with accents are not.
_SENT = "%/:=&?~#+!$,;'@()*[]|"


def is_address(path: str) -> bool:
    """Return whether a path that a caller gives, or that is stored, is an address.

    >>> is_address("s3://bucket/cat.jpg"), is_address("/home/cat.jpg"), is_address("s3:/bucket")
    (True, False, False)
    """
    return path[:1] != "/" and path[:_LONGEST].lower().startswith(_ALL)


def is_web(address: str) -> bool:
    """Return whether a path is the address of something on the web."""
    return address.startswith(WEB)


def bucket_of(address: str) -> str:
    """Return the bucket of an address in its normal form, "" where there is none.

    >>> bucket_of("s3://bucket/a.jpg"), bucket_of("https://example.org/a.jpg")
    ('s3://bucket', '')
    """
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if scheme in BUCKETS else ""


def normal_address(address: str) -> str:
    """Return the form of an address by which the index knows it. Raises UsageError for one that cannot be used.

    >>> normal_address("S3://bucket/photos/"), normal_address("HTTPS://Example.org:443/a b.jpg#top")
    ('s3://bucket/photos', 'https://example.org/a%20b.jpg')
    """
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    if "\0" in address:
        raise UsageError(f"the address {address!r} has a NUL")
    if scheme in _PORTS:
        from urllib.parse import parse_qsl, urlsplit

        normal = web_address(address)
        if _SECRETS & {name.lower() for name, _ in parse_qsl(urlsplit(normal).query, keep_blank_values=True)}:
            raise with_secret("a signature", "name the object by s3://, gs:// or az:// with keys from the environment")
        return normal
    if scheme == "file":
        return _normal_file(rest)
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise with_secret("keys", "set the environment variables of the store instead, such as AWS_ACCESS_KEY_ID")
    if not _BUCKET(bucket):
        raise UsageError(f"{address} names no bucket", hint=f"write {scheme}://BUCKET/PREFIX")
    return f"{scheme}://{bucket}/{key}".rstrip("/")


def web_address(address: str) -> str:
    """Return an address of http or https as it is sent: host, path and query. Raises UsageError."""
    # Imported late: every command imports this file, and few need that.
    from urllib.parse import quote, urlsplit

    try:
        parts = urlsplit(address)
        scheme = parts.scheme.lower()
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError as error:
        raise UsageError(f"{address} is not an address: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise with_secret("a user name or a password", "leave them out; only public images can be read")
    if not host:
        raise UsageError(f"{address} names no host", hint=f"write {scheme}://HOST/NAME.jpg")
    place = f"[{host}]" if ":" in host else host
    if port not in (None, _PORTS[scheme]):
        place = f"{place}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{place}{quote(parts.path or '/', safe=_SENT)}{quote(query, safe=_SENT)}"


def web_place(address: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address that `web_address` returned."""
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _normal_file(rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"file://{rest} is not on this machine", hint="write file:///PATH, with three slashes")
    path = os.path.normpath("/" + path.lstrip("/"))
    if path == "/":
        raise UsageError("file:/// names no folder", hint="write file:///PATH")
    return f"file://{path}"


def with_secret(what: str, hint: str) -> UsageError:
    """Return the error for an address that contains a secret."""
    return UsageError(f"an address contains {what}, which the index would store", hint=hint)
