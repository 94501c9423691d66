"""The command lines that pages of the server show, for the index that it serves, and what they do."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from page_files import page_data
from page_visits import TOKEN_IN_ADDRESS, Visit
from serving import at_a_port

from imgindex import ImageIndex
from imgindex.server.app import build_app

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


@pytest.mark.parametrize(
    ("name", "command"),
    [("images", "imgindex add FOLDER"), ("map", "imgindex add FOLDER"), ("clusters", "imgindex cluster -k auto")],
)
def test_an_empty_index_of_another_name_is_named_by_the_command(
    browser: Any, tmp_path: Path, name: str, command: str
) -> None:
    path = tmp_path / "my photos.imgindex"
    ImageIndex.create(path).close()
    app, close = build_app(str(path), token=TOKEN_IN_ADDRESS)
    with at_a_port(app) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/#token={TOKEN_IN_ADDRESS}")
        page.locator(".command code").wait_for()
        page.evaluate("path => { location.hash = path; }", f"#/{name}")
        expect(page.locator(".command code")).to_contain_text(command)
        line = page.locator(".command code").inner_text()
        page.close()
    close()
    assert line == f"{command} --index '{path}'"
