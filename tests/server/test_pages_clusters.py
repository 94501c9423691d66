"""The page of clusters in a real browser: clusters are named, merged and split, images moved, and all that undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_visits import TOKEN_IN_ADDRESS, Visit, visits
from serving import at_a_port

from imgindex import ImageIndex
from imgindex.server.app import build_app

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def before(home: Path) -> list[tuple[str | None, int]]:
    """The names and sizes of the three clusters; the first two have names."""
    with ImageIndex.open(home / ".imgindex") as index:
        index.clusterings.rename_cluster(0, "Mixed")
        index.clusterings.rename_cluster(1, "Blue")
        return [(cluster.name, cluster.size) for cluster in index.clusterings.newest.clusters]


def stored(home: Path) -> list[tuple[str | None, int]]:
    with ImageIndex.open(home / ".imgindex") as index:
        return [(cluster.name, cluster.size) for cluster in index.clusterings.newest.clusters]


def shown(page: Any) -> list[str]:
    return [one.input_value() for one in page.locator(".cluster-name").all()]


@pytest.mark.parametrize("width", [1280, 390])
def test_clusters_are_merged_and_the_merge_is_undone_by_keys(
    visit: Visit, home: Path, before: list[tuple[str | None, int]], width: int
) -> None:
    page = visit("clusters", width=width)
    expect(page.locator(".cluster-card")).to_have_count(3)
    expect(page.locator(".cluster-card .waiting")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("End")
    page.keyboard.press("x")
    expect(page.locator(".selection strong")).to_have_text("2 selected")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("m")
    expect(page.locator(".cluster-card")).to_have_count(2)
    expect(page.locator(".note")).to_have_text("Merged “Blue” and cluster 2")
    expect(page.locator(".cluster-card:focus-within .cluster-name")).to_have_value("Blue")
    expect(page.locator(".selection")).to_be_hidden()
    assert sorted(stored(home)) == sorted([before[0], ("Blue", before[1][1] + before[2][1])])
    assert "c=2" in page.url
    page.keyboard.press("u")
    expect(page.locator(".cluster-card")).to_have_count(3)
    expect(page.locator(".note")).to_have_text("Undone: merged")
    assert stored(home) == before
    page.keyboard.press("u")
    expect(page.get_by_role("button", name="Undo")).to_be_hidden()


def test_a_cluster_is_named_by_a_key_and_keeps_the_name_in_an_edit(
    visit: Visit, home: Path, before: list[tuple[str | None, int]]
) -> None:
    page = visit("clusters")
    expect(page.locator(".cluster-card")).to_have_count(3)
    page.keyboard.press("End")
    page.keyboard.press("n")
    page.keyboard.type("Third")
    page.keyboard.press("Enter")
    expect(page.locator(".cluster-name.saved")).to_have_count(1)
    page.locator(".pick").nth(0).click()
    page.locator(".selection input").fill("3")
    page.get_by_role("button", name="Split").click()
    expect(page.locator(".cluster-card")).to_have_count(5)
    expect(page.locator(".note")).to_have_text("Split “Mixed” into 3 parts")
    expect(page.locator(".cluster-card:focus-within .cluster-name")).to_have_value("Mixed")
    expect(page.get_by_text("a new cluster")).to_have_count(2)
    assert sorted(filter(None, shown(page))) == ["Blue", "Mixed", "Third"]
    page.get_by_role("button", name="Undo split").click()
    expect(page.locator(".cluster-card")).to_have_count(3)
    assert [name for name, _ in stored(home)] == ["Mixed", "Blue", "Third"]


def test_borderline_images_are_moved_to_another_cluster_and_back(
    visit: Visit, home: Path, before: list[tuple[str | None, int]]
) -> None:
    page = visit("clusters")
    page.locator(".cluster-card").nth(0).get_by_role("link", name="borderline").click()
    expect(page.locator(".result")).to_contain_text("in “Mixed”")
    expect(page.locator(".cell img")).to_have_count(before[0][1])
    page.locator(".cell").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("m")
    expect(page.get_by_label("Move to the cluster")).to_be_focused()
    page.get_by_label("Move to the cluster").select_option(label=f"to “Blue”, {before[1][1]} images")
    page.get_by_role("button", name="Move", exact=True).click()
    expect(page.locator(".note")).to_contain_text("1 image moved to “Blue”")
    expect(page.locator(".cell img")).to_have_count(before[0][1] - 1)
    assert dict(stored(home))["Blue"] == before[1][1] + 1
    page.keyboard.press("u")
    expect(page.locator(".note")).to_contain_text("Undone")
    expect(page.locator(".cell img")).to_have_count(before[0][1])
    assert stored(home) == before


def test_an_edit_that_is_impossible_is_explained_and_changes_nothing(
    visit: Visit, home: Path, before: list[tuple[str | None, int]]
) -> None:
    page = visit("clusters")
    page.locator(".pick").nth(2).click()
    page.locator(".selection input").fill("99")
    page.get_by_role("button", name="Split").click()
    expect(page.locator("#banner")).to_contain_text("cannot be split into 99")
    assert stored(home) == before


def test_a_read_only_server_edits_nothing(browser: Any, home: Path) -> None:
    app, close = build_app(str(home / ".imgindex"), token=TOKEN_IN_ADDRESS, read_only=True)
    with at_a_port(app) as port, visits(browser, port) as visit:
        page = visit("clusters")
        expect(page.locator(".cluster-card")).to_have_count(3)
        expect(page.locator(".pick")).to_have_count(3)
        expect(page.locator(".pick").first).to_be_hidden()
        page.keyboard.press("x")
        expect(page.locator(".selection")).to_be_hidden()
    close()
