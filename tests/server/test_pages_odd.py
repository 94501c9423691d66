"""The page of odd images in a real browser: each beside its nearest, decided by keys, and fine ones do not return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_visits import Visit

from imgindex import ImageIndex

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api").expect

IMAGES = 13


def tagged(home: Path, tag: str) -> list[int]:
    with ImageIndex.open(home / ".imgindex") as index:
        return index.ids(where=f"tags match '{tag}'").tolist()


def cards(page: Any) -> list[int]:
    return [int(card.get_attribute("data-id")) for card in page.locator(".odd-card").all()]


def test_each_image_is_shown_beside_its_nearest_one_the_least_alike_first(visit: Visit, home: Path) -> None:
    page = visit("odd")
    expect(page.locator(".odd-card img")).to_have_count(2 * IMAGES)
    with ImageIndex.open(home / ".imgindex") as index:
        found = index.outliers(n=IMAGES)
    assert cards(page) == [one.id for one in found]
    first = page.locator(".odd-card").first
    expect(first.locator("figcaption .file")).to_have_text(Path(found[0].path).name)
    expect(first).to_contain_text(f"{found[0].times:.1f}× as far from its nearest image as usual")
    expect(first.locator(".pair-of .detail")).to_have_text(f"nearest: {Path(found[0].nearest).name}")
    # Nothing else is asked for to know which image is the nearest one, and its picture leads to what is similar to it.
    asked = [entry["name"] for entry in page.evaluate("performance.getEntriesByType('resource')")]
    assert any("/thumbnails" in name for name in asked)
    assert not any("/similar" in name for name in asked)
    first.get_by_title("Images similar to it").click()
    expect(page.locator(".result")).to_contain_text(f"Similar to {Path(found[0].nearest).name}")


@pytest.mark.parametrize("width", [1280, 390])
def test_images_are_decided_by_keys_and_fine_ones_stay_away(visit: Visit, home: Path, width: int) -> None:
    page = visit("odd", width=width)
    expect(page.locator(".odd-card")).to_have_count(IMAGES)
    before = cards(page)
    page.keyboard.press("f")
    expect(page.locator(".odd-card")).to_have_count(IMAGES - 1)
    expect(page.locator(".decision")).to_contain_text("is fine")
    assert tagged(home, "fine") == before[:1]
    # The next one has the focus.
    page.keyboard.press("o")
    expect(page.locator(".place")).to_have_text(f"{IMAGES - 2} undecided, 1 odd")
    assert tagged(home, "odd") == before[1:2]
    page.keyboard.press("f")
    expect(page.locator(".odd-card")).to_have_count(IMAGES - 2)
    assert cards(page) == [before[1], *before[3:]]
    page.keyboard.press("u")
    expect(page.locator(".odd-card")).to_have_count(IMAGES - 1)
    assert tagged(home, "fine") == before[:1]
    page.reload()
    expect(page.locator(".odd-card")).to_have_count(IMAGES - 1)
    expect(page.locator(".odd-card.is-odd")).to_have_count(1)
    page.get_by_label("fine ones too").check()
    expect(page.locator(".odd-card")).to_have_count(IMAGES)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_image_is_enlarged_and_decided_there(visit: Visit, home: Path) -> None:
    page = visit("odd")
    expect(page.locator(".odd-card")).to_have_count(IMAGES)
    before = cards(page)
    page.keyboard.press("Enter")
    expect(page.locator("dialog.large img")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("dialog.large .below .detail")).to_contain_text("times as far")
    page.keyboard.press("o")
    expect(page.locator(".odd-card.is-odd")).to_have_count(1)
    assert tagged(home, "odd") == before[1:2]


def test_when_all_are_fine_the_page_says_how_to_list_the_odd_ones(visit: Visit, home: Path) -> None:
    with ImageIndex.open(home / ".imgindex") as index:
        index.tag("fine", home / "photos")
    page = visit("odd")
    expect(page.locator(".state")).to_contain_text("All of these are fine")
    expect(page.locator(".state code")).to_contain_text("imgindex list --where \"tags match 'odd'\" --format paths")
