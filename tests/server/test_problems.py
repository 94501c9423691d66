"""Each error has the status that its table says, and what is unexpected is not sent."""

from __future__ import annotations

import errno
import logging
import sqlite3

import pytest

from imgindex import errors
from imgindex.server.problems import TITLES, RequestRefused, refusal_of


def every_error() -> list[type[errors.ImgindexError]]:
    found = [errors.ImgindexError]
    for kind in found:
        found += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == "imgindex.errors"]


STATUSES = {
    "UsageError": 400,
    "FileNotOurs": 400,
    "FolderNotOurs": 400,
    "UnreadableImage": 400,
    "ClusteringNotFound": 404,
    "IndexNotFound": 404,
    "PathNotFound": 404,
    "IndexLocked": 423,
    "IndexDamaged": 500,
}


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_status_and_its_name_and_hint(kind: type[errors.ImgindexError]) -> None:
    error = kind("it is so")
    problem = refusal_of(error).problem
    assert problem.status == STATUSES.get(kind.__name__, 409)
    assert (problem.type, problem.detail, problem.hint) == (f"urn:imgindex:{kind.__name__}", "it is so", error.hint)
    assert problem.title == TITLES[problem.status]


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/secret/path"), 507, "DiskFull"),
        (OSError(errno.EACCES, "Permission denied", "/secret/path"), 500, "SystemError"),
        (MemoryError(), 503, "OutOfMemory"),
        (sqlite3.OperationalError("disk I/O error"), 500, "CatalogueError"),
        (RequestRefused(412, "IndexChanged", "it has changed", headers={"ETag": '"1"'}), 412, "IndexChanged"),
    ],
)
def test_errors_of_the_system_have_a_status_and_no_paths(error: BaseException, status: int, name: str) -> None:
    problem = refusal_of(error).problem
    assert (problem.status, problem.type) == (status, f"urn:imgindex:{name}")
    assert "secret" not in problem.detail


def test_what_is_unexpected_is_logged_and_its_words_are_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "imgindex"):
        problem = refusal_of(RuntimeError("secret words")).problem
    assert (problem.status, problem.type) == (500, "urn:imgindex:Unexpected")
    assert "secret" not in problem.detail
    assert [record.levelname for record in caplog.records] == ["ERROR", "DEBUG"]
    assert "secret words" in caplog.text
