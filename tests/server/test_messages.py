"""Replies as JSON, whatever numbers and names they have, and requests whose parts are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.requests import Request

from imgindex.errors import UsageError
from imgindex.server import schema
from imgindex.server.messages import Call, check_match, part_reply, read_query, to_json
from imgindex.server.problems import RequestRefused


def request(query: str = "", **headers: str) -> Request:
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/x", "query_string": query.encode(), "headers": encoded})


def test_numbers_that_json_lacks_are_null_and_half_characters_are_escaped() -> None:
    assert json.loads(to_json({"a": [float("nan"), float("-inf"), 1.5]})) == {"a": [None, None, 1.5]}
    assert to_json(["caf\udce9", "é"]) == b'["caf\\udce9","\xc3\xa9"]'


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "limit=x", "other=1", "limit=1&limit=2"])
def test_a_query_that_is_wrong_is_refused(query: str) -> None:
    with pytest.raises(UsageError, match="the query"):
        read_query(request(query), schema.Part)


def test_a_list_is_answered_in_parts_with_a_link_to_the_next_one() -> None:
    def part(after: int) -> Any:
        return part_reply(Call({}, schema.Part(after, 2), None, request()), [1, 2, 3, 4], '"t"')

    assert (part(0).data, part(0).headers["Link"]) == ([1, 2], '</x?after=2&limit=2>; rel="next"')
    assert (part(2).data, part(2).headers) == ([3, 4], {"ETag": '"t"'})


@pytest.mark.parametrize(
    ("given", "status"), [(None, 428), ('"old"', 412), ('"old", W/"new"', None), ('"new"', None), ("*", None)]
)
def test_a_change_needs_the_newest_tag(given: str | None, status: int | None) -> None:
    call = Call({}, None, None, request(**({} if given is None else {"if_match": given})))
    if status is None:
        check_match(call, '"new"')
        return
    with pytest.raises(RequestRefused) as refused:
        check_match(call, '"new"')
    assert refused.value.problem.status == status
