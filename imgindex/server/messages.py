"""Requests and replies: a request's query, body and tags, checked; and the JSON, links and problems of replies."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from imgindex.errors import UsageError
from imgindex.server import problems, schema
from imgindex.server.problems import RequestRefused, refusal_of


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose parts were checked."""

    path: dict[str, Any]
    query: Any
    body: Any
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """The JSON of an answer, with its status and further headers."""

    data: Any
    status: int = 200
    headers: dict[str, str] | None = None


def read_query(request: HttpRequest, kind: type[schema.Request]) -> Any:
    """Return the query of a request as its type. Raises UsageError."""
    lists = {field.name for field in msgspec.structs.fields(kind) if "list" in str(field.type)}
    values: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise UsageError(f"the query has {name!r} twice")
        values[name] = value.split(",") if name in lists else value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"the query is wrong: {error}") from error


async def read_body(request: HttpRequest, endpoint: schema.Endpoint) -> Any:
    """Return the body of a request as the type that its endpoint has. Raises UsageError, RequestRefused."""
    if endpoint.body is None:
        return None
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = await request.body()
    if isinstance(endpoint.body, str):
        if media_type.startswith("multipart/") or media_type == "application/x-www-form-urlencoded":
            raise RequestRefused(415, "WrongType", "the body of this request is the image itself, not a form")
        if not data:
            raise UsageError("the body is empty", hint="send the bytes of an image")
        return data
    if media_type != schema.JSON:
        raise RequestRefused(415, "WrongType", f"the body of this request is {schema.JSON}")
    try:
        return msgspec.json.decode(data, type=endpoint.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is wrong: {error}") from error


def entity_tags(request: HttpRequest, header: str) -> set[str]:
    """Return the tags that a header has, or `*`."""
    return {tag.strip().removeprefix("W/") for tag in request.headers.get(header, "").split(",") if tag.strip()}


def check_match(call: Call, tag: str) -> None:
    """Raise RequestRefused unless If-Match has the entity tag of the newest commit, or any."""
    given = entity_tags(call.request, "if-match")
    if not given:
        hint = "send the ETag of the answer that you have seen, or *"
        raise RequestRefused(428, "NoCondition", "a change needs the header If-Match", hint=hint)
    if "*" not in given and tag not in given:
        hint = "ask again, look at what has changed, and send the new ETag"
        raise RequestRefused(412, "IndexChanged", "the index has changed since", hint=hint, headers={"ETag": tag})


def part_reply(call: Call, found: list[Any], tag: str) -> Reply:
    """Return the part of a list that was asked for, with a link to the next one."""
    last = call.query.after + call.query.limit
    headers = {"ETag": tag}
    if last < len(found):
        headers["Link"] = next_link(call, {"after": last, "limit": call.query.limit})
    return Reply(found[call.query.after : last], headers=headers)


def next_link(call: Call, query: dict[str, Any]) -> str:
    """Return the header that leads to the next part of a list."""
    values = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    return f'<{call.request.url.path}?{urlencode(values)}>; rel="next"'


def to_json(data: Any) -> bytes:
    """Return JSON; null for numbers that it does not have."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"))
    # A byte of a name that is not UTF-8 is half of a character, which becomes an escape sequence of JSON.
    return text.encode("utf-8", "backslashreplace")


def _finite(data: Any) -> Any:
    """Return data with null for numbers that JSON does not have."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    return [_finite(one) for one in data] if isinstance(data, list | tuple) else data


def refused(error: BaseException) -> Response:
    """Return the problem document of an error."""
    found = refusal_of(error)
    return Response(to_json(asdict(found.problem)), found.problem.status, dict(found.headers), problems.MEDIA_TYPE)
