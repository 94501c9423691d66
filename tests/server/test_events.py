"""Events: every reader gets jobs and commits; a reader that is slow loses the oldest."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from imgindex import ImageIndex
from imgindex.server import events as module
from imgindex.server.events import Events


async def newest() -> str:
    return '"1"'


def parsed(event: bytes) -> tuple[str, Any]:
    name, data = event.decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_every_reader_gets_the_newest_commit_and_then_what_threads_publish() -> None:
    async def run() -> None:
        events = Events(newest)
        readers = [events.stream() for _ in range(2)]
        assert [parsed(await anext(one)) for one in readers] == [("commit", {"etag": '"1"'})] * 2
        thread = threading.Thread(target=events.publish, args=("job", {"id": 1, "detail": "a\nb"}))
        thread.start()
        assert [parsed(await anext(one)) for one in readers] == [("job", {"id": 1, "detail": "a\nb"})] * 2
        thread.join()
        for one in readers:
            await one.aclose()  # type: ignore[attr-defined]
        events.close()

    asyncio.run(run())


def test_a_reader_that_is_slow_loses_the_oldest_and_one_that_waits_is_kept_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    monkeypatch.setattr(module, "ALIVE", 0.05)

    async def run() -> None:
        events = Events(newest)
        reader = events.stream()
        await anext(reader)
        for number in range(10):
            events.publish("job", {"id": number})
        await asyncio.sleep(0.05)
        assert [parsed(await anext(reader))[1]["id"] for _ in range(3)] == [7, 8, 9]
        assert await anext(reader) == b": alive\n\n"
        await reader.aclose()  # type: ignore[attr-defined]
        events.close()

    asyncio.run(run())


def test_what_is_published_while_nobody_reads_is_dropped() -> None:
    Events(newest).publish("job", {})


def test_a_commit_of_another_process_is_an_event(client: httpx.Client, home: Path) -> None:
    with client.stream("GET", "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines).removeprefix("data: "))
        with ImageIndex.open(home / ".imgindex") as index:
            index.tag("cat", home / "photos")
        second = json.loads(next(lines).removeprefix("data: "))
    assert first != second
    assert client.get("/tags").headers["etag"] == second["etag"]


def test_a_job_is_an_event(client: httpx.Client) -> None:
    with client.stream("GET", "/events") as stream:
        lines = (line for line in stream.iter_lines() if line)
        next(lines), next(lines)
        client.post("/jobs", json={"kind": "map"}, headers={"If-Match": "*"})
        seen = [next(lines), next(lines)]
    assert seen[0] == "event: job"
    assert json.loads(seen[1].removeprefix("data: "))["kind"] == "map"
