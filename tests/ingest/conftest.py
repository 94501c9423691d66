"""What the tests of `add` share: the files that it opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from add_checks import observe_opened


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    seen: list[str] = []
    observe_opened(monkeypatch, lambda path: seen.append(Path(path).name))
    return seen
