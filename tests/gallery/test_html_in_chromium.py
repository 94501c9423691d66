"""Every page in a real browser, without a network: clicks, keys, the filter and the map."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from browsers import chromium
from decoders_here import DecodersHere
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.gallery.builder import GalleryPage
from imgindex.gallery.html import render
from imgindex.gallery.model import ClusterPage, ClusterView, DuplicatesPage, ImageCard, MapView, PageGroup

playwright = pytest.importorskip("playwright.sync_api")
# Waits until an assertion holds. What the browser does in a later task needs it: a `toggle` or `close` event, an image.
expect = playwright.expect

HOSTILE = (
    b'"><img src=x onerror=fired=1>.png',
    b"x<" + b"/script><script>fired=1<" + b"/script>.png",
    b"it's\na name.png",
    b"not utf-8 \xff.png",
    b"a#b?c%d.png",
)
PAGES = ("matches", "outliers", "duplicates", "clusters")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of three kinds, some with hostile names, and all pages of them."""
    base = tmp_path_factory.mktemp("site")
    rng = np.random.default_rng(2)
    for number in range(60):
        colour = rng.integers(0, 60, size=3)
        colour[number % 3] += 170
        draw(
            base / "photos" / ("red", "green", "blue")[number % 3] / f"{number:02}.png",
            tuple(colour.tolist()),
            (48, 36),
        )
    for number, name in enumerate(HOSTILE):
        draw(Path(os.fsdecode(os.fsencode(base / "photos") + b"/" + name)), (20, 210 + number, 40))
    with ImageIndex.create(base / "it.imgindex", encoder=GridMean()) as index:
        index._decoders = DecodersHere(index.recipe)
        index.add([base / "photos"])
        paths = index.paths()
        hostile = [path for path in paths if "fired" in path or "na" in Path(path).name]
        index.gallery(index.answers([paths[0], *hostile], n=20)).write_html(base / "matches.html")
        index.gallery(index.outliers(n=100)).write_html(base / "outliers.html")
        index.cluster(range(2, 6))
        index.clusterings.rename_cluster(0, "<script>fired=1</script>")
        index.clusterings.rename_cluster(2, 'blue "things" & more')
        clusters = index.gallery(index.clusterings.newest, maps=("pca", "tsne"))
        clusters.write_html(base / "clusters.html")
        group = PageGroup(
            ImageCard(paths[3], 4), "largest", [ImageCard(hostile[0], 1, 0.0, 1.0, "same bytes"), ImageCard("gone.png")]
        )
        GalleryPage(DuplicatesPage("1 group", [], [group])).write_html(base / "duplicates.html")
    return base


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def window(browser: Any) -> Any:
    """The one window in which all pages are shown: to open one takes longer than most tests."""
    return browser.new_context(offline=True).new_page()


@pytest.fixture
def visit(window: Any) -> Iterator[Open]:
    """Open a page; in the end nothing may have gone wrong in it, nor been asked for but files beside it."""
    wrong: list[str] = []
    listeners = {
        "console": lambda message: wrong.append(message.text),
        "pageerror": lambda error: wrong.append(str(error)),
        "request": lambda request: wrong.append(request.url) if _is_outside(request.url) else None,
    }

    def visit(path: Path, *, width: int = 1200, scheme: str = "light") -> Any:
        window.mouse.move(0, 0)
        window.set_viewport_size({"width": width, "height": 900})
        window.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        window.goto(path.as_uri())
        return window

    for event, listener in listeners.items():
        window.on(event, listener)
    yield visit
    window.goto("about:blank")
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    assert wrong == []


def _is_outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "about:"))


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_fits_the_window_and_every_picture_on_it_is_drawn(
    visit: Open, site: Path, name: str, width: int
) -> None:
    page = visit(site / f"{name}.html", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.eval_on_selector_all(
        "button.picture img", "all => all.map(one => [one.naturalWidth, one.clientWidth])"
    )
    assert len(sizes) >= 2
    assert all(natural > 0 and shown > 0 for natural, shown in sizes)


@pytest.mark.parametrize("name", PAGES)
def test_names_that_are_markup_are_shown_as_text(visit: Open, site: Path, name: str) -> None:
    page = visit(site / f"{name}.html")
    page.wait_for_timeout(50)
    assert page.evaluate("typeof fired") == "undefined"
    text = page.evaluate("document.body.textContent + document.title")
    assert "fired=1" in text
    if name == "clusters":
        assert "<script>fired=1</script>" in page.locator("#cluster-0 h2").inner_text()


def test_the_page_runs_only_its_own_script(browser: Any, site: Path) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((site / "matches.html").as_uri())
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'fired = 1'}))")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=fired=1>')")
    page.wait_for_timeout(100)
    assert page.evaluate("typeof fired") == "undefined"
    assert any("Content Security Policy" in text for text in refused)
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_follows_the_dark_or_light_setting_of_the_browser(visit: Open, site: Path, name: str) -> None:
    paper, ink = {}, {}
    for scheme in ("light", "dark"):
        page = visit(site / f"{name}.html", scheme=scheme)
        paper[scheme] = brightness(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        ink[scheme] = brightness(page.evaluate("getComputedStyle(document.body).color"))
    assert paper["light"] > 0.9
    assert ink["light"] < 0.2
    assert paper["dark"] < 0.2
    assert ink["dark"] > 0.8


def brightness(colour: str) -> float:
    """Of a colour as browsers write it, rgb(255, 255, 255), 0…1."""
    return sum(numbers(colour)[:3]) / 765


def numbers(colour: str) -> list[int]:
    return [int(part) for part in colour[colour.index("(") + 1 : -1].split(",")]


def test_matches_have_their_rank_their_distance_and_its_share_of_pairs(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    cards = page.locator("section.query").first.locator(".grid .card")
    assert cards.count() == 20
    assert [card.locator(".badge").inner_text() for card in cards.all()] == [str(n) for n in range(1, 21)]
    said = [card.locator(".detail").first.inner_text() for card in cards.all()]
    assert all("% of all pairs" in text for text in said)
    distances = [float(text.split(" · ")[0]) for text in said]
    assert distances == sorted(distances)


def test_a_click_enlarges_a_picture_and_keys_move_on_and_close_it(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    pictures = page.locator("section.query").first.locator("button.picture")
    pictures.nth(1).click()
    large = page.locator("#large")
    assert large.is_visible()
    first = page.locator("#large-name").inner_text()
    assert first == pictures.nth(1).get_attribute("data-path")
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-name").inner_text() == pictures.nth(2).get_attribute("data-path")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#large-name").inner_text() == pictures.nth(0).get_attribute("data-path")
    assert page.locator("#previous").is_disabled()
    page.click("#next")
    assert page.locator("#large-name").inner_text() == first
    page.keyboard.press("Escape")
    assert not large.is_visible()
    expect(pictures.nth(1)).to_be_focused()


def test_everything_can_be_reached_by_keys(visit: Open, site: Path) -> None:
    page = visit(site / "outliers.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "picture"
    page.keyboard.press("Enter")
    assert page.locator("#large").is_visible()
    page.click("#close")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter"


def test_the_filter_shows_the_images_whose_path_matches(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    page.fill("#filter", "GREEN/")
    shown = [card.get_attribute("data-path") for card in page.locator(".card:visible").all()]
    assert shown
    assert all("green/" in path for path in shown)
    assert page.locator("#filtered").inner_text() == f"{len(set(shown))} shown"
    page.fill("#filter", "no such thing")
    assert page.locator(".card:visible").count() == 0
    assert page.locator("#nothing").is_visible()
    page.fill("#filter", "")
    assert page.locator(".card:visible").count() == page.locator(".card").count()


def test_links_open_files_of_any_name(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    links = dict(
        page.eval_on_selector_all("button.picture", "all => all.map(one => [one.dataset.path, one.dataset.href])")
    )
    assert len(links) > 10
    for href in links.values():
        assert (site / os.fsdecode(unquote_to_bytes(href))).is_file()
    for name in HOSTILE:
        part = name.split(b"/")[-1]
        href = next((one for one in links.values() if unquote_to_bytes(one).endswith(part)), None)
        if href is not None:
            page.goto(f"{site.as_uri()}/{href}")
            assert page.evaluate("document.images[0].naturalWidth") == 32
            assert unquote_to_bytes(urlsplit(page.url).path).endswith(name)
            page.go_back()


def test_the_image_to_keep_is_first_and_a_missing_picture_has_its_reason(visit: Open, site: Path) -> None:
    page = visit(site / "duplicates.html")
    cards = page.locator(".group .card").all()
    assert [card.locator(".badge").inner_text() for card in cards] == ["keep", "duplicate", "duplicate"]
    assert "largest" in cards[0].inner_text()
    assert "No such file" in cards[2].inner_text()
    assert cards[2].locator("button").count() == 0


# the map


def marks(page: Any, method: str = "pca") -> list[tuple[str, int, float, float]]:
    """Path, label and place on the screen of each mark, computed from the page's data alone."""
    data = json.loads(page.locator("#map-data").text_content())
    box = page.locator("#canvas").bounding_box()
    unit = min(box["width"], box["height"]) / 2 - 22
    return [
        (path, label, box["x"] + box["width"] / 2 + x * unit, box["y"] + box["height"] / 2 - y * unit)
        for path, label, (x, y) in zip(data["paths"], data["labels"], data["xy"][method], strict=True)
    ]


def alone(found: list[tuple[str, int, float, float]]) -> tuple[str, int, float, float]:
    """A mark that no other one is near."""
    return max(found, key=lambda one: min(np.hypot(one[2] - o[2], one[3] - o[3]) for o in found if o is not one))


def test_pointing_at_a_mark_shows_its_picture_and_a_click_pins_it(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    path, label, x, y = alone(marks(page))
    hover = page.locator("#hover")
    assert not hover.is_visible()
    page.mouse.move(x + 2, y + 2)
    assert hover.is_visible()
    assert page.locator(".hover-name").inner_text().strip() == path
    expect(page.locator("#hover img")).not_to_have_js_property("naturalWidth", 0)
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(0, 0)
    assert not hover.is_visible()
    assert path in page.locator("#pinned").inner_text()
    expect(page.locator("#pinned img")).not_to_have_js_property("naturalWidth", 0)
    page.click("#pinned a >> nth=0")
    assert page.url.endswith(f"#cluster-{label}")
    assert page.locator(f"#cluster-{label} h2").is_visible()


def test_the_legend_hides_a_cluster_and_shows_it_again(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    _, label, x, y = alone(marks(page))
    key = page.locator(f".key[data-label='{label}']")
    for shown in (False, True):
        key.click()
        assert key.get_attribute("aria-pressed") == str(shown).lower()
        page.mouse.move(0, 0)
        page.mouse.move(x, y)
        assert page.locator("#hover").is_visible() == shown
    page.click("#no-clusters")
    assert page.locator(".key[aria-pressed=true]").count() == 0
    page.click("#all-clusters")
    assert page.locator(".key[aria-pressed=false]").count() == 0


def test_the_marks_have_the_colours_of_the_legend(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.wait_for_timeout(100)
    _, label, x, y = alone(marks(page))
    box = page.locator("#canvas").bounding_box()
    drawn = page.evaluate(
        "([x, y]) => [...document.getElementById('canvas').getContext('2d').getImageData(x, y, 1, 1).data]",
        [round(x - box["x"]), round(y - box["y"])],
    )
    fill = page.locator(f".key[data-label='{label}'] svg").evaluate("one => getComputedStyle(one).fill")
    assert drawn[3] > 150
    np.testing.assert_allclose(drawn[:3], numbers(fill), atol=6)


def test_choosing_another_map_moves_the_marks(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.click(".method[data-method=tsne]")
    assert page.locator(".method[data-method=tsne]").get_attribute("aria-pressed") == "true"
    assert page.locator(".method[data-method=pca]").get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(200)
    path, _, x, y = alone(marks(page, "tsne"))
    page.mouse.move(x, y)
    assert page.locator(".hover-name").inner_text().strip() == path


def test_arrow_keys_move_from_mark_to_mark_and_enter_pins_one(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.focus("#canvas")
    seen = set()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        seen.add(page.locator(".hover-name").inner_text())
    assert len(seen) >= 2
    page.keyboard.press("Enter")
    assert page.locator(".hover-name").inner_text() in page.locator("#pinned").inner_text()


def test_zooming_and_dragging_move_the_map_and_all_resets_it(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    path, _, x, y = alone(marks(page))
    page.click("#zoom-in")
    page.click("#zoom-in")
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 320, box["y"] + 260, steps=4)
    page.mouse.up()
    assert "Point at a mark" in page.locator("#pinned").inner_text()  # dragging does not pin
    page.mouse.move(x, y)
    assert not page.locator("#hover").is_visible() or page.locator(".hover-name").inner_text() != path
    page.click("#zoom-all")
    page.mouse.move(x, y)
    assert page.locator(".hover-name").inner_text().strip() == path


def test_the_filter_dims_the_other_marks_and_counts_the_rest(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.fill("#filter", "red/")
    assert "20 on the map" in page.locator("#filtered").inner_text()
    others = [mark for mark in marks(page) if "red/" not in mark[0]]
    _, _, x, y = alone(others)
    page.mouse.move(x, y)
    hover = page.locator(".hover-name")
    assert not hover.is_visible() or "red/" in hover.inner_text()


def test_the_chosen_k_is_marked_on_the_curve(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    assert page.locator(".curve circle").count() == 4
    assert page.locator(".curve circle.chosen title").text_content().startswith("k = ")


def test_twenty_thousand_marks_are_drawn_and_can_be_pointed_at(visit: Open, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(30, size=20_000)
    xy = rng.standard_normal((30, 2))[labels] * 3 + rng.standard_normal((20_000, 2)) * 0.2
    paths = [f"photos/some/folder/image-{number:06}.jpg" for number in range(20_000)]
    views = [
        ClusterView(n, None, int((labels == n).sum()), 0.5, ImageCard(paths[n], n + 1), [], [], []) for n in range(30)
    ]
    plane = MapView(list(range(1, 20_001)), paths, paths, labels.tolist(), {"pca": xy.tolist()}, 100_000)
    data = render(ClusterPage("many", [], views, plane), {})
    assert len(data) < 5_000_000
    (tmp_path / "many.html").write_bytes(data)
    page = visit(tmp_path / "many.html")
    path, _, x, y = max(marks(page), key=lambda mark: mark[2])
    page.mouse.move(x, y)
    assert page.locator(".hover-name").inner_text().strip() == path
    assert not page.locator("#hover img").is_visible()
    assert page.locator(".key").count() == 30
    assert "20,000 of 100,000 images" in page.locator("#map").inner_text()


def test_a_list_shows_all_images_of_a_cluster_a_part_at_a_time(visit: Open, tmp_path: Path) -> None:
    for number in range(300):
        draw(tmp_path / f"photos/{number:03}.png", (number % 256, number // 2, 90))
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index._decoders = DecodersHere(index.recipe)
        index.add(tmp_path / "photos")
        index.gallery(index.cluster(1), images=None).write_html(tmp_path / "all.html")
        index.gallery(index.cluster(2), images=40).write_html(tmp_path / "some.html")
    page = visit(tmp_path / "all.html", width=390)
    cards = page.locator("details.all .card")
    assert (cards.count(), page.locator("summary").text_content()) == (0, "Show all 300 images")
    page.locator("summary").click()
    expect(page.locator(".more")).to_have_text("Show more: 180 left")
    assert cards.count() == 120
    page.locator(".more").click()
    page.locator(".more").click()
    assert (cards.count(), page.locator(".more").is_visible()) == (300, False)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    names = page.eval_on_selector_all("details.all .card", "all => all.map(one => one.dataset.path)")
    assert len(set(names)) == 300
    page.locator("details.all .picture").last.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('details.all img')].filter(one => one.naturalWidth).length > 100"
    )
    page.locator("details.all .picture").nth(1).click()
    assert page.locator("#large-name").text_content() == names[1]
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-name").text_content() == names[2]
    page.keyboard.press("Escape")
    page.fill("#filter", "299.png")
    assert (cards.count(), page.locator("#filtered").text_content()) == (1, "1 shown, 1 on the map")
    page.fill("#filter", "no such image")
    assert (cards.count(), page.locator("#nothing").is_visible()) == (0, True)
    page.fill("#filter", "")
    assert cards.count() == 120

    page = visit(tmp_path / "some.html")
    summaries = page.locator("summary").all_text_contents()
    assert [summary[: len("Show 20 of 1")] for summary in summaries] == ["Show 20 of 1"] * 2
    assert page.locator("details .hint").first.text_content().startswith("These are the nearest to the centroid.")


def test_a_list_is_filtered_by_the_text_that_the_browser_kept(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.fill("#filter", "blue/02")
    assert page.locator("#filtered").text_content() == "1 shown, 1 on the map"
    list = page.locator("details.all:visible")
    assert list.count() == 1
    list.locator("summary").click()
    expect(list.locator(".card")).to_have_count(1)
