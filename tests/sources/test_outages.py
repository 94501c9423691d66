from __future__ import annotations

import pytest

from imgindex.errors import SourceUnavailable
from imgindex.sources import outages as module
from imgindex.sources.outages import Outages


def test_a_place_that_did_not_answer_has_the_same_error_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    outages, now = Outages(), [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    outages.note("s3://one", SourceUnavailable("it does not answer", hint="wait"))
    outages.check("s3://other")
    now[0] += module.REMEMBERED - 0.1
    with pytest.raises(SourceUnavailable, match=r"^it does not answer$") as raised:
        outages.check("s3://one")
    assert raised.value.hint == "wait"
    now[0] += 0.2
    outages.check("s3://one")


def test_a_new_command_asks_again() -> None:
    outages = Outages()
    outages.note("s3://one", SourceUnavailable("it does not answer"))
    outages.forget()
    outages.check("s3://one")
