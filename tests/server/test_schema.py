"""The OpenAPI document: what the server does is what it says, and the command line's JSON has the same shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from forking import ForkServer
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import AUTHORIZED

from imgindex.server.app import Api
from imgindex.server.schema import ENDPOINTS, openapi

DOCUMENT = json.loads(json.dumps(openapi()))
# Streams of events do not end.
TRIED = [one.handler for one in ENDPOINTS if one.handler != "events"]


def test_every_endpoint_has_a_method_that_answers_it_and_the_other_way_round() -> None:
    handlers = {name for name in vars(Api) if not name.startswith("_") and name != "close"}
    assert {endpoint.handler for endpoint in ENDPOINTS} == handlers


def test_the_document_is_openapi_3_1(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT
    schemathesis.openapi.from_dict(DOCUMENT).validate()


@pytest.mark.parametrize("handler", TRIED)
def test_whatever_is_asked_the_answer_is_one_that_the_document_has(client: httpx.Client, handler: str) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    base = str(client.base_url).removesuffix("/api/v1/")

    (operation,) = [one.ok() for one in schema.include(operation_id=handler).get_all_operations()]

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None, derandomize=True, database=None)
    def attempt(case: Any) -> None:
        response = case.call(base_url=base, headers=AUTHORIZED, timeout=60)
        case.validate_response(
            response,
            checks=[
                status_code_conformance,
                content_type_conformance,
                response_headers_conformance,
                response_schema_conformance,
                schemathesis.checks.not_a_server_error,
            ],
            headers=AUTHORIZED,
        )

    given(operation.as_strategy())(attempt)()


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["status"], "/status"),
        (["failures"], "/failures"),
        (["tag", "--list"], "/tags"),
        (["list"], "/images"),
        (["clusterings"], "/clusterings"),
        (["clusterings", "show", "1", "--out", "labels.csv"], "/clusterings/{clustering}"),
        (["cluster", "-k", "2..4", "--out", "labels.csv"], "/clusterings/{clustering}"),
        (["cluster", "diff", "1", "1"], "/clusterings/{clustering}/diff/{other}"),
        (["duplicates", "--similar"], "/duplicates"),
        (["outliers"], "/outliers"),
    ],
)
def test_the_json_of_the_command_line_has_the_same_shape(
    server: ForkServer, home: Path, command: list[str], path: str
) -> None:
    server.run("tag", "cat", "photos/a", folder=home)
    printed = server.run(*command, "--json", folder=home)
    assert printed.code == 0, printed.stderr
    answer = DOCUMENT["paths"][f"/api/v1{path}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.validator_for({**answer, "components": DOCUMENT["components"]})
    data = json.loads(printed.stdout)
    assert [str(error) for error in validator.iter_errors(data)] == []
    # A shape that lacks a field is not the same.
    first = data if isinstance(data, dict) else data[0]
    del first["path" if "path" in first else min(first)]
    assert not validator.is_valid(data)
