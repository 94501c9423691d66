"""Errors as problem documents (RFC 9457): one table says which status each error of imgindex has."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from imgindex.errors import (
    OUT_OF_MEMORY,
    ClusteringNotFound,
    ImgindexError,
    IndexDamaged,
    IndexLocked,
    IndexNotFound,
    PathNotFound,
    SourceUnavailable,
    UnreadableImage,
    UsageError,
    is_out_of_memory,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# The status of an error is that of the first class in its line of ancestors that is listed; of any other it is 409.
STATUSES: dict[type[ImgindexError], int] = {
    UsageError: 400,
    UnreadableImage: 400,
    SourceUnavailable: 409,
    ClusteringNotFound: 404,
    IndexNotFound: 404,
    PathNotFound: 404,
    IndexLocked: 423,
    IndexDamaged: 500,
    ImgindexError: 409,
}
TITLES = {
    400: "The request is wrong",
    401: "The token is missing or wrong",
    403: "The request is refused",
    404: "It does not exist",
    405: "The method does not exist here",
    408: "The request was too slow",
    409: "It cannot be done now",
    412: "The index has changed meanwhile",
    413: "The request is too large",
    415: "The body has another type",
    421: "The request is for another host",
    423: "Another process is writing to the index",
    428: "The request lacks If-Match",
    500: "The index cannot be used",
    503: "The server lacks memory",
    507: "The disk is full",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document; `type` is a name that programs can compare, `hint` a way out for people."""

    type: str
    title: str
    status: int
    detail: str
    hint: str = ""


class RequestRefused(Exception):
    """A request that cannot be answered, for a reason that only HTTP has."""

    def __init__(
        self, status: int, name: str, detail: str, *, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(f"urn:imgindex:{name}", TITLES[status], status, detail, hint)
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A problem with the headers that its response has."""

    problem: Problem
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal_of(error: BaseException) -> Refusal:
    """Return the response to an error; what is unexpected is logged, and its details are not sent."""
    match error:
        case RequestRefused():
            refusal = Refusal(error.problem, error.headers)
        case _ if is_out_of_memory(error):
            refusal = _refusal(503, "OutOfMemory", OUT_OF_MEMORY)
        case ImgindexError():
            status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
            refusal = _refusal(status, type(error).__name__, str(error), error.hint)
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            refusal = _refusal(507, "DiskFull", error.strerror or "the disk is full")
        case OSError():
            refusal = _refusal(500, "SystemError", error.strerror or type(error).__name__)
        case sqlite3.Error():
            hint = "check that the disk is sound and not full, then run `imgindex verify`"
            refusal = _refusal(500, "CatalogueError", f"the catalogue cannot be used: {error}", hint)
        case _:
            log.error("a request met an unexpected %s", type(error).__name__)
            log.debug("it came from here", exc_info=error)
            hint = "run `imgindex --debug serve` to see where it comes from"
            refusal = _refusal(500, "Unexpected", f"unexpected {type(error).__name__}", hint)
    return refusal


def _refusal(status: int, name: str, detail: str, hint: str = "") -> Refusal:
    return Refusal(Problem(f"urn:imgindex:{name}", TITLES[status], status, detail, hint))
