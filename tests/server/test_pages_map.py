"""The page of the map in a real browser: marks are encircled, shown, tagged and exported, and maps made by jobs."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from page_visits import TOKEN_IN_ADDRESS, Visit, visits
from pictures import draw
from serving import at_a_port

from imgindex import ImageIndex
from imgindex.server.app import build_app

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api").expect

IMAGES = 13


def at(page: Any, right: float, down: float) -> tuple[float, float]:
    """A point of the map, from 0 to 1 to the right and down, in the window."""
    box = page.locator("canvas").bounding_box()
    return box["x"] + right * box["width"], box["y"] + down * box["height"]


def drag(page: Any, *points: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*at(page, *point), steps=6)
    page.mouse.up()


def encircle(page: Any, right: float = 0.99) -> None:
    """Draw a lasso around the left part of the map, or all of it."""
    drag(page, (0.01, 0.01), (right, 0.01), (right, 0.99), (0.01, 0.99))


def opened(page: Any) -> Any:
    expect(page.locator("canvas")).to_have_attribute("aria-label", re.compile("13 images on a map by PCA"))
    expect(page.locator(".legend button").first).to_be_visible()
    return page


def drawn(page: Any) -> None:
    """Wait until the map is drawn as it is now: it is drawn in the next frame."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def marks(page: Any) -> int:
    """How many pixels of the map have the colour of some cluster."""
    return page.locator("canvas").evaluate(
        """one => { const data = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
            let found = 0;
            for (let at = 3; at < data.length; at += 4) found += data[at] > 0;
            return found; }"""
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_lasso_selects_images_that_are_shown_and_exported(
    visit: Visit, server: ForkServer, home: Path, tmp_path: Path, width: int
) -> None:
    page = opened(visit("map", width=width))
    assert marks(page) > 100
    page.get_by_role("button", name="Lasso").click()
    encircle(page)
    expect(page.locator(".selection strong")).to_have_text(f"{IMAGES} selected")
    encircle(page, right=0.5)
    expect(page.locator(".selection strong")).not_to_have_text(f"{IMAGES} selected")
    selected = int(page.locator(".selection strong").inner_text().split()[0])
    assert 0 < selected < IMAGES
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    with page.expect_download() as download:
        page.get_by_role("button", name="Save list").click()
    download.value.save_as(tmp_path / "images.csv")
    rows = list(csv.DictReader((tmp_path / "images.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == selected
    # The command line that is shown lists the same images.
    line = shlex.split(page.locator(".done code").inner_text())
    assert line[:2] == ["imgindex", "list"]
    assert server.run(*line[1:], folder=home).code == 0
    listed = list(csv.DictReader((home / "images.csv").read_text(encoding="utf-8").splitlines()))
    assert sorted(row["id"] for row in listed) == sorted(row["id"] for row in rows)
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".result")).to_contain_text(f"{selected} images that were selected")
    expect(page.locator(".cell img")).to_have_count(selected)


def test_a_selection_is_tagged_and_the_tags_become_colours(visit: Visit, home: Path) -> None:
    page = opened(visit("map"))
    page.keyboard.down("Shift")
    encircle(page, right=0.5)
    page.keyboard.up("Shift")
    expect(page.locator(".selection")).to_be_visible()
    page.keyboard.press("t")
    page.keyboard.type("left")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("tagged")
    page.get_by_label("Colours of").select_option("tag")
    expect(page.locator(".legend button")).to_have_count(1)
    with ImageIndex.open(home / ".imgindex") as index:
        expect(page.locator(".legend button")).to_contain_text(str(index.tags()["left"]))
    page.get_by_label("Colours of").select_option("folder")
    expect(page.locator(".legend .name")).to_have_text(["photos/b", "photos/a"])
    page.locator("canvas").focus()
    page.keyboard.press("Escape")
    expect(page.locator(".selection")).to_be_hidden()
    page.locator(".legend button").first.click()
    expect(page.locator(".selection strong")).to_have_text("7 selected")
    page.locator(".legend button").last.click()
    expect(page.locator(".selection strong")).to_have_text("13 selected")


def test_a_mark_is_named_and_enlarged_and_the_map_is_moved_by_keys(visit: Visit) -> None:
    page = opened(visit("map"))
    # The mark that is farthest to the left stands at the margin.
    first = page.locator("canvas").evaluate(
        """one => { const { data, width } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
            for (let x = 0; x < width; x++) for (let y = 0; y < one.height; y++)
                if (data[4 * (y * width + x) + 3] > 0) return [x / width, y / one.height];
            return null; }"""
    )
    page.mouse.move(*at(page, first[0] + 0.003, first[1]))
    expect(page.locator(".map-preview")).to_be_visible()
    expect(page.locator(".map-preview .name")).to_contain_text(".png · cluster")
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("dialog.large img")).to_be_visible()
    page.keyboard.press("Escape")
    before = marks(page)
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    drawn(page)
    assert marks(page) < before
    page.keyboard.press("0")
    drawn(page)
    assert marks(page) == before


def test_a_map_by_pacmap_is_made_by_a_job_and_is_there_the_next_time(visit: Visit, home: Path) -> None:
    pytest.importorskip("pacmap")
    page = opened(visit("map"))
    page.get_by_label("Map by", exact=True).select_option("pacmap")
    expect(page.locator("canvas")).to_have_attribute("aria-label", re.compile("by PaCMAP"), timeout=120_000)
    expect(page.locator(".map-note")).to_have_text("")
    page.keyboard.down("Shift")
    encircle(page)
    page.keyboard.up("Shift")
    expect(page.locator(".selection strong")).to_have_text(f"{IMAGES} selected")
    again = visit("map")
    expect(again.locator("canvas")).to_have_attribute("aria-label", re.compile("by PaCMAP"))
    with ImageIndex.open(home / ".imgindex") as index:
        assert [path.name for path in (home / ".imgindex" / "search").glob("map-pacmap*")] != []
        assert len(index.map("pacmap").ids) == IMAGES


def test_new_images_are_placed_and_the_page_says_how_old_the_layout_is(visit: Visit, home: Path) -> None:
    page = opened(visit("map"))
    expect(page.locator(".map-age")).to_contain_text("laid out ")
    expect(page.get_by_role("button", name="Lay out anew")).to_be_hidden()
    draw(home / "photos" / "a" / "new.png", 40, (90, 60))
    with ImageIndex.open(home / ".imgindex") as index:
        index.add(home / "photos" / "a")
        index.remove(home / "photos" / "a" / "3.png")
    page.reload()
    expect(page.locator("canvas")).to_have_attribute("aria-label", re.compile(f"^{IMAGES} images"))
    expect(page.locator(".map-age")).to_contain_text("1 image placed since, 1 image gone or changed since")
    page.get_by_role("button", name="Lay out anew").click()
    expect(page.locator(".map-age")).not_to_contain_text("since", timeout=30_000)
    expect(page.get_by_role("button", name="Lay out anew")).to_be_hidden()


def test_without_its_library_a_map_stays_as_it_was(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    page = opened(visit("map"))
    page.get_by_label("Map by", exact=True).select_option("umap")
    expect(page.locator("#banner")).to_contain_text("pip install umap-learn")
    expect(page.get_by_label("Map by", exact=True)).to_have_value("pca")


def test_a_read_only_server_offers_the_maps_that_there_are(browser: Any, home: Path) -> None:
    app, close = build_app(str(home / ".imgindex"), token=TOKEN_IN_ADDRESS, read_only=True)
    with at_a_port(app) as port, visits(browser, port) as visit:
        page = opened(visit("map"))
        assert page.get_by_label("Map by", exact=True).locator("option").all_inner_texts() == ["map: PCA"]
    close()
