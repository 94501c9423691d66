"""The pages have no fault that axe-core finds, in light and dark, on wide and narrow screens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_visits import Visit

from imgindex import ImageIndex

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api").expect

ROOT = Path(__file__).parents[2]
SCRIPT = Path(os.environ.get("IMGINDEX_TEST_AXE", ROOT / "build/axe/node_modules/axe-core/axe.min.js"))


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    if not SCRIPT.is_file():
        pytest.skip(f"axe-core is not at {SCRIPT}: npm install --prefix build/axe axe-core")
    return SCRIPT.read_text(encoding="utf-8")


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
def test_axe_finds_nothing_wrong(visit: Visit, axe: str, path: str) -> None:
    found = []
    page = visit(path)
    PAGES[path](page)
    page.evaluate(axe)
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 860})
            page.emulate_media(color_scheme=scheme)
            violations = page.evaluate("axe.run({resultTypes: ['violations']}).then(found => found.violations)")
            found += [
                (width, scheme, one["id"], node["target"], node["failureSummary"])
                for one in violations
                for node in one["nodes"]
            ]
    assert found == []
