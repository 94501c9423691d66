"""The pages have no fault that axe-core finds, in light and dark, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import axe_script, violations
from page_visits import Visit

from imgindex import ImageIndex

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def home(home: Path) -> Path:
    """The album with names, tags, a decision and an edit, so that all that the pages show is there."""
    with ImageIndex.open(home / ".imgindex") as index:
        index.clusterings.rename_cluster(0, "First")
        index.clusterings.split(0, 2)
        index.tag("odd", home / "photos" / "a" / "1.png")
        index.tag("cat", home / "photos" / "a")
    return home


def images(page: Any) -> None:
    expect(page.locator(".cell img")).to_have_count(13)
    page.keyboard.press("x")
    expect(page.locator(".selection")).to_be_visible()


def clusters(page: Any) -> None:
    expect(page.locator(".cluster-card")).to_have_count(4)
    expect(page.locator(".cluster-card .waiting")).to_have_count(0)
    page.keyboard.press("x")
    expect(page.locator(".selection")).to_be_visible()


def duplicates(page: Any) -> None:
    expect(page.locator(".duplicate img")).to_have_count(2)


def odd(page: Any) -> None:
    expect(page.locator(".odd-card img")).to_have_count(26)


def map_(page: Any) -> None:
    expect(page.locator(".legend button")).to_have_count(4)
    page.locator(".legend button").first.click()
    expect(page.locator(".selection")).to_be_visible()


def large(page: Any) -> None:
    expect(page.locator(".cell img")).to_have_count(13)
    page.keyboard.press("Enter")
    expect(page.locator("dialog.large img")).to_be_visible()


PAGES: dict[str, Callable[[Any], None]] = {
    "images": images,
    "clusters": clusters,
    "duplicates": duplicates,
    "odd": odd,
    "map": map_,
    "images?sort=path": large,
}


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_wrong(visit: Visit, path: str) -> None:
    axe = axe_script()
    page = visit(path)
    PAGES[path](page)
    page.evaluate(axe)
    assert violations(page) == []
