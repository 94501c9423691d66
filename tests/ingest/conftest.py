"""What the tests of `add` share: the files that it opens."""

from __future__ import annotations

from pathlib import Path

import pytest

import imgindex.ingest.pipeline
from imgindex.sources.base import Content
from imgindex.sources.registry import read_content


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    seen: list[str] = []

    def read(path: str) -> Content:
        seen.append(Path(path).name)
        return read_content(path)

    monkeypatch.setattr(imgindex.ingest.pipeline, "read_content", read)
    return seen
