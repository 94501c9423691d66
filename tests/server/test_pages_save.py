"""The pages of the server name the command that writes them as a file, and it does."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from forking import ForkServer
from page_files import page_data
from page_visits import Visit

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.parametrize("name", ["clusters", "duplicates", "odd"])
def test_a_page_is_saved_by_the_command_that_it_shows(visit: Visit, server: ForkServer, home: Path, name: str) -> None:
    page = visit(name)
    page.locator(".save summary").click()
    expect(page.locator(".save .command")).to_be_visible()
    line = shlex.split(page.locator(".save code").inner_text())
    assert line[0] == "imgindex"
    assert server.run(*line[1:], folder=home).code == 0
    kinds = {"clusters": "clusters", "duplicates": "duplicates", "odd": "outliers"}
    assert page_data(home / line[line.index("--html") + 1])["kind"] == kinds[name]
    page.reload()
    expect(page.locator(".save")).to_have_count(1)
