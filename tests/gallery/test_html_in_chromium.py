"""Every page in a real browser, without a network: the first screen, clicks, keys, the filter and the map."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from browsers import axe_script, chromium, violations
from decoders_here import DecodersHere
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.gallery.builder import GalleryPage
from imgindex.gallery.html import render
from imgindex.gallery.model import (
    ClusterPage,
    ClusterView,
    DuplicatesPage,
    DuplicateView,
    ImageCard,
    MapView,
    MatchesPage,
    PageGroup,
    QueryView,
)
from imgindex.results import Duplicate

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
        images = [
            view(paths[3], 4, "kept", 1, width=48, height=36, size=2100),
            view(hostile[0], 1, "same", 0, width=32, height=32, size=900),
            view("gone.png", 9, "copy", 0.25, width=40, height=30, size=5, problem="it is gone"),
        ]
        GalleryPage(DuplicatesPage("1 group", [], [PageGroup(images, "largest")])).write_html(base / "duplicates.html")
    return base


def view(path: str, id: int, how: str, distance: float, **given: Any) -> DuplicateView:
    """An image of a group of duplicates; given: what the group states about it."""
    facts = {"same_file": False, "turned": "", "mtime_ns": 0, "sharpness": None, "problem": "", "protected": ""}
    facts |= {"why": "", "sha256": "", "frees": 0, **given}
    return DuplicateView(ImageCard(path, id, distance), Duplicate(path, how, distance=distance, id=id, **facts))


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
        # Chromium warns of tests that read the canvas more than once.
        "console": lambda message: wrong.append(message.text) if message.type != "warning" else None,
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
        expect(page.locator(".legend .name").first).to_have_text("<script>fired=1</script>")


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


# the first screen


def boxes(page: Any, selector: str) -> list[dict[str, float]]:
    return page.eval_on_selector_all(
        selector,
        "all => all.map(one => one.getBoundingClientRect()).map(({x, y, width, height}) => ({x, y, width, height}))",
    )


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_are_on_the_first_screen(visit: Open, site: Path, name: str, width: int) -> None:
    page = visit(site / f"{name}.html", width=width)
    pictures = boxes(page, "button.picture")
    assert pictures[0]["y"] < 240
    assert sum(one["y"] + one["height"] < 900 for one in pictures) >= {"duplicates": 2, "outliers": 4}.get(name, 8)
    if name == "clusters":
        assert boxes(page, "#map")[0]["y"] > pictures[0]["y"]


@pytest.mark.parametrize("name", PAGES)
def test_nothing_covers_a_picture(visit: Open, site: Path, name: str) -> None:
    page = visit(site / f"{name}.html")
    covered = page.eval_on_selector_all(
        "button.picture",
        """all => all.slice(0, 9).filter(one => { const { left, top, right, bottom } = one.getBoundingClientRect();
            return [[left + 9, top + 9], [right - 9, top + 9], [left + 9, bottom - 9], [right - 9, bottom - 9]]
                .some(([x, y]) => y < innerHeight && !one.contains(document.elementFromPoint(x, y))); }).length""",
    )
    assert covered == 0


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_shares_of_pairs_or_an_objective(visit: Open, site: Path, name: str) -> None:
    text = visit(site / f"{name}.html").locator("body").inner_text()
    assert not [word for word in ("of all pairs", "objective", "1 images", "nearer than 9") if word in text]


def test_names_that_differ_at_their_ends_look_different(visit: Open, tmp_path: Path) -> None:
    names = [f"holiday-in-the-mountains-with-the-family-{number:04}.jpg" for number in (1, 2)]
    cards = [ImageCard(name, number) for number, name in enumerate([*names, "日本語の長い名前の写真.jpg", "חתול.jpg"])]
    query = QueryView(ImageCard("query.jpg"), cards)
    (tmp_path / "page.html").write_bytes(render(MatchesPage("m", [], [query]), {}))
    page = visit(tmp_path / "page.html", width=390)
    labels = page.locator(".grid .file")
    tails = [labels.nth(number).locator(".tail") for number in (0, 1)]
    assert [tail.text_content() for tail in tails] == ["-0001.jpg", "-0002.jpg"]
    for label, box in zip(labels.all(), boxes(page, ".grid .file"), strict=True):
        assert label.get_attribute("title")
        assert all(part["x"] + part["width"] <= box["x"] + box["width"] + 1 for part in boxes(page, ".grid .tail")[:1])
        assert box["width"] <= 180
    assert labels.nth(0).get_attribute("title") == names[0]


def test_a_character_without_a_font_is_shown_by_its_number(visit: Open, tmp_path: Path) -> None:
    query = QueryView(ImageCard("query.jpg"), [ImageCard("a\U00010ffey.jpg"), ImageCard("plain é Ж.jpg")])
    text = render(MatchesPage("m", [], [query]), {}).decode().replace("\\\\U00010ffe", "\U00010ffe")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = visit(tmp_path / "page.html")
    labels = page.locator(".grid .file")
    expect(labels.nth(1).locator(".number")).to_have_count(0)
    expect(labels.nth(1)).to_have_text("plain é Ж.jpg")
    assert set(labels.nth(0).locator(".number").all_text_contents()) <= {"10FFE"}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_wrong(visit: Open, site: Path, name: str) -> None:
    axe = axe_script()
    page = visit(site / f"{name}.html")
    if name == "clusters":
        page.get_by_role("button", name="borderline").first.click()
    page.evaluate(axe)
    assert violations(page) == []


# each page


def test_matches_have_their_rank_and_their_distance(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    cards = page.locator("section.query").first.locator(".grid .card")
    assert cards.count() == 20
    said = [card.locator(".detail").inner_text().split(" · ") for card in cards.all()]
    assert [rank for rank, _ in said] == [str(number) for number in range(1, 21)]
    distances = [float(distance) for _, distance in said]
    assert distances == sorted(distances)
    assert "are typically" in page.locator("#legend").inner_text()


def test_an_outlier_says_once_how_far_it_is(visit: Open, site: Path) -> None:
    page = visit(site / "outliers.html")
    for card in page.locator(".odd-card").all()[:10]:
        text = card.inner_text()
        assert text.count("as far from its nearest image as usual") == 1
        assert "about as far" not in text
        assert card.locator("button.picture").count() == 2


def test_duplicates_have_their_sizes_side_by_side_and_a_missing_picture_its_reason(visit: Open, site: Path) -> None:
    page = visit(site / "duplicates.html")
    cards = page.locator(".group .duplicate").all()
    assert "keep " in page.locator(".group .why").inner_text()
    assert "largest" in page.locator(".group .why").inner_text()
    details = [card.locator(".detail").all_inner_texts() for card in cards]
    assert [detail[0] for detail in details] == ["48 × 36 · 2.1 kB", "32 × 32 · 900 B", "40 × 30 · 5 B"]
    assert [card.locator(".better").count() for card in cards] == [1, 0, 0]
    assert "the same bytes" in details[1]
    assert "a copy, verified · distance 0.250" in details[2]
    assert "it is gone" in details[2]
    assert "No such file" in cards[2].locator(".missing").inner_text()
    tops = [box["y"] for box in boxes(page, ".group .duplicate")]
    assert len(set(tops)) == 1


def test_groups_of_two_stand_side_by_side(visit: Open, tmp_path: Path) -> None:
    pair = [view(name, 1, how, 0, width=9, height=9, size=9) for name, how in (("a.png", "kept"), ("b.png", "same"))]
    page_of_groups = DuplicatesPage("6 groups", [], [PageGroup(pair, "first")] * 6)
    (tmp_path / "page.html").write_bytes(render(page_of_groups, {}))
    page = visit(tmp_path / "page.html", width=1280)
    groups = boxes(page, ".group")
    assert groups[0]["y"] == groups[1]["y"]
    assert groups[1]["x"] + groups[1]["width"] > 1200
    assert groups[-1]["y"] + groups[-1]["height"] < 1300


def test_a_click_enlarges_a_picture_and_keys_move_on_and_close_it(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    pictures = page.locator("section.query").first.locator(".grid button.picture")
    pictures.nth(1).click()
    large = page.locator("dialog.large")
    path = large.locator(".path")
    expect(path).to_have_text(pictures.nth(1).get_attribute("title"))
    page.keyboard.press("ArrowRight")
    expect(path).to_have_text(pictures.nth(2).get_attribute("title"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(path).to_have_text(pictures.nth(0).get_attribute("title"))
    expect(large.get_by_role("button", name="Previous")).to_be_disabled()
    large.get_by_role("button", name="Next").click()
    expect(path).to_have_text(pictures.nth(1).get_attribute("title"))
    page.keyboard.press("Escape")
    assert not large.is_visible()
    expect(pictures.nth(1)).to_be_focused()


def test_the_large_view_shows_the_file_itself_and_never_stretches_it(visit: Open, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("small.png", (40, 30)), ("large.png", (900, 600)), ("gone.png", (900, 610))):
        draw(tmp_path / "photos" / name, tuple(rng.integers(0, 255, size=3).tolist()), size)
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index._decoders = DecodersHere(index.recipe)
        index.add(tmp_path / "photos")
        index.gallery(index.answers(tmp_path / "photos/small.png")).write_html(tmp_path / "page.html")
    page = visit(tmp_path / "page.html", width=1200)
    sizes = {}
    for name in ("small.png", "large.png"):
        page.locator(f".query button.picture[title$='{name}']").first.click()
        image = page.locator(".large-picture img")
        expect(image).to_be_visible()
        sizes[name] = image.evaluate("one => [one.naturalWidth, one.clientWidth, one.src.slice(0, 5)]")
        page.keyboard.press("Escape")
    assert sizes["small.png"][1] == 40
    assert sizes["large.png"] == [900, 900, "file:"]
    assert page.locator(".large-picture").count() == 1


def test_a_path_is_copied_from_the_large_view(browser: Any, site: Path) -> None:
    page = browser.new_page()
    page.goto((site / "matches.html").as_uri())
    writer = "{ writeText: async (text) => { window.got = text; } }"
    page.evaluate(f"Object.defineProperty(navigator, 'clipboard', {{ value: {writer} }})")
    picture = page.locator("section.query button.picture").first
    picture.click()
    page.get_by_role("button", name="Copy path").click()
    expect(page.get_by_role("button", name="copied")).to_be_visible()
    assert page.evaluate("window.got") == picture.get_attribute("title")
    page.close()


def test_everything_can_be_reached_by_keys(visit: Open, site: Path) -> None:
    page = visit(site / "outliers.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "picture"
    page.keyboard.press("Enter")
    expect(page.locator("dialog.large")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter"


def test_the_filter_shows_the_images_whose_path_matches(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    before = page.locator(".card").count()
    page.fill("#filter", "GREEN/")
    shown = [one.get_attribute("title") for one in page.locator(".grid .picture").all()]
    assert shown
    assert all("green/" in path for path in shown)
    assert page.locator("#filtered").inner_text() == f"{len(set(shown))} shown"
    page.fill("#filter", "no such thing")
    assert page.locator(".card").count() == 0
    expect(page.locator(".state")).to_have_text("No image on this page matches the filter")
    page.fill("#filter", "")
    assert page.locator(".card").count() == before


def test_links_open_files_of_any_name(visit: Open, site: Path) -> None:
    page = visit(site / "matches.html")
    links = [row[-1] for row in json.loads(page.locator("#data").text_content())["items"]]
    assert len(links) > 10
    for href in links:
        assert (site / os.fsdecode(unquote_to_bytes(href))).is_file()
    page.locator("section.query button.picture").first.click()
    assert page.get_by_role("link", name="Open file").get_attribute("href") in links
    for name in HOSTILE:
        part = name.split(b"/")[-1]
        href = next((one for one in links if unquote_to_bytes(one).endswith(part)), None)
        if href is not None:
            page.goto(f"{site.as_uri()}/{href}")
            assert page.evaluate("document.images[0].naturalWidth") == 32
            assert unquote_to_bytes(urlsplit(page.url).path).endswith(name)
            page.go_back()


# the map


def marks(page: Any, method: str = "pca") -> list[tuple[str, int, float, float]]:
    """Path, label and place in the window of each mark, computed from the page's data alone."""
    data = json.loads(page.locator("#data").text_content())
    page.locator("canvas").scroll_into_view_if_needed()
    box = page.locator("canvas").bounding_box()
    x, y = (np.asarray(data["map"]["methods"][method][axis], float) for axis in "xy")
    scale = min((box["width"] - 48) / max(1, np.ptp(x)), (box["height"] - 48) / max(1, np.ptp(y)))
    left = box["x"] + box["width"] / 2 + scale * (x - (x.min() + x.max()) / 2)
    top = box["y"] + box["height"] / 2 + scale * (y - (y.min() + y.max()) / 2)
    paths = [data["items"][id][1] for id in data["map"]["ids"]]
    return list(zip(paths, data["map"]["group"], left.tolist(), top.tolist(), strict=True))


def alone(found: list[tuple[str, int, float, float]]) -> tuple[str, int, float, float]:
    """A mark that no other one is near."""
    return max(found, key=lambda one: min(np.hypot(one[2] - o[2], one[3] - o[3]) for o in found if o is not one))


def colour_at(page: Any, x: float, y: float) -> list[int]:
    """The colour of the map at a point of the window, after the next frame."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    box = page.locator("canvas").bounding_box()
    return page.evaluate(
        "([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data]",
        [round(x - box["x"]), round(y - box["y"])],
    )


def test_pointing_at_a_mark_shows_its_picture_and_a_click_enlarges_it(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    path, _, x, y = alone(marks(page))
    preview = page.locator(".map-preview")
    assert not preview.is_visible()
    page.mouse.move(x + 2, y + 2)
    expect(preview).to_be_visible()
    expect(preview.locator(".name")).to_contain_text(path.rpartition("/")[2])
    expect(preview.locator("img")).not_to_have_js_property("naturalWidth", 0)
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("dialog.large .path")).to_have_text(path)
    page.keyboard.press("Escape")


def test_the_legend_selects_a_cluster_whose_paths_are_copied(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    found = marks(page)
    _, label, x, y = alone(found)
    key = page.locator(".legend button").nth(label)
    before = colour_at(page, x, y)
    other = next(number for number in range(len({one[1] for one in found})) if number != label)
    page.locator(".legend button").nth(other).click()
    page.mouse.move(0, 0)
    assert sum(abs(a - b) for a, b in zip(colour_at(page, x, y), before, strict=True)) > 60
    page.locator(".legend button").nth(other).click()
    key.click()
    members = sum(one[1] == label for one in found)
    expect(page.locator(".map-note")).to_have_text(f"{members} image{'s' * (members != 1)} selected")
    expect(page.get_by_role("button", name="Copy paths")).to_be_visible()
    page.mouse.move(0, 0)
    np.testing.assert_allclose(colour_at(page, x, y)[:3], before[:3], atol=6)


def test_the_marks_have_the_colours_of_the_legend(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    _, label, x, y = alone(marks(page))
    page.mouse.move(0, 0)
    drawn = colour_at(page, x, y)
    fill = page.locator(".legend .dot").nth(label).evaluate("one => getComputedStyle(one).backgroundColor")
    assert drawn[3] > 150
    np.testing.assert_allclose(drawn[:3], numbers(fill), atol=6)


def test_choosing_another_map_moves_the_marks(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.get_by_label("Map by", exact=True).select_option("tsne")
    path, _, x, y = alone(marks(page, "tsne"))
    page.mouse.move(x, y)
    expect(page.locator(".map-preview .name")).to_contain_text(path.rpartition("/")[2])


def test_keys_and_buttons_move_the_map_and_the_wheel_alone_scrolls_the_page(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    path, _, x, y = alone(marks(page))
    page.get_by_role("button", name="Zoom in").click()
    page.locator("canvas").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.mouse.move(x, y)
    page.wait_for_timeout(100)
    preview = page.locator(".map-preview")
    assert not preview.is_visible() or path.rpartition("/")[2] not in preview.inner_text()
    page.get_by_role("button", name="Fit").click()
    page.mouse.move(x + 1, y)
    expect(preview.locator(".name")).to_contain_text(path.rpartition("/")[2])
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, -200)
    page.wait_for_function("before => scrollY < before", arg=before)


def test_the_filter_dims_the_other_marks_and_counts_the_rest(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.fill("#filter", "red/")
    assert "20 on the map" in page.locator("#filtered").inner_text()
    expect(page.locator(".map-note")).to_have_text("20 images selected")


def test_the_chosen_k_is_marked_on_the_curve(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    assert page.locator(".curve circle").count() == 4
    assert page.locator(".curve circle.chosen title").text_content().startswith("k = ")


def test_twenty_thousand_marks_are_drawn_and_can_be_pointed_at(visit: Open, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(30, size=20_000)
    xy = rng.standard_normal((30, 2))[labels] * 3 + rng.standard_normal((20_000, 2)) * 0.2
    paths = [f"photos/some/folder/image-{number:06}.jpg" for number in range(20_000)]
    views = [ClusterView(n, None, int((labels == n).sum()), ImageCard(paths[n], n + 1), [], [], []) for n in range(30)]
    plane = MapView(list(range(1, 20_001)), paths, paths, labels.tolist(), {"pca": xy.tolist()}, 100_000)
    data = render(ClusterPage("many", [], views, plane), {})
    assert len(data) < 5_000_000
    (tmp_path / "many.html").write_bytes(data)
    page = visit(tmp_path / "many.html")
    path, _, x, y = max(marks(page), key=lambda mark: mark[2])
    page.mouse.move(x, y)
    expect(page.locator(".map-preview .name")).to_contain_text(path.rpartition("/")[2])
    assert page.locator(".legend button").count() == 30
    assert "20,000 of 100,000 images" in page.locator("#map").inner_text()


# the lists of clusters


def test_a_list_shows_all_images_of_a_cluster_a_part_at_a_time(visit: Open, tmp_path: Path) -> None:
    for number in range(300):
        draw(tmp_path / f"photos/{number:03}.png", (number % 256, number // 2, 90))
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index._decoders = DecodersHere(index.recipe)
        index.add(tmp_path / "photos")
        index.gallery(index.cluster(1), images=None).write_html(tmp_path / "all.html")
        index.gallery(index.cluster(2), images=40).write_html(tmp_path / "some.html")
    page = visit(tmp_path / "all.html", width=390)
    cards = page.locator(".members .card")
    assert cards.count() == 0
    page.get_by_role("button", name="all 300").click()
    more = page.locator(".members > button")
    expect(more).to_have_text("Show more: 180 left")
    assert cards.count() == 120
    more.click()
    more.click()
    assert (cards.count(), more.is_visible()) == (300, False)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    pictures = page.locator(".members .picture")
    names = [picture.get_attribute("title") for picture in pictures.all()]
    assert len(set(names)) == 300
    assert page.eval_on_selector_all(".members img", "all => all.length") == 300
    pictures.nth(1).click()
    expect(page.locator("dialog .path")).to_have_text(names[1])
    page.keyboard.press("ArrowRight")
    expect(page.locator("dialog .path")).to_have_text(names[2])
    page.keyboard.press("Escape")
    page.fill("#filter", "299.png")
    assert (cards.count(), page.locator("#filtered").text_content()) == (1, "1 shown, 1 on the map")
    page.fill("#filter", "no such image")
    assert (cards.count(), page.locator(".state").is_visible()) == (0, True)
    page.fill("#filter", "")
    assert cards.count() == 120

    page = visit(tmp_path / "some.html")
    links = page.get_by_role("button", name="20 of 1")
    assert links.count() == 2
    links.first.click()
    expect(page.locator(".members .hint")).to_contain_text("imgindex clusterings show")


def test_the_borderline_images_of_a_cluster_name_the_other_one(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.locator("#cluster-1").get_by_role("button", name="borderline").click()
    assert all(" nearer than " in text for text in page.locator("#cluster-1 .members .detail").all_inner_texts())
    page.locator("#cluster-1").get_by_role("button", name="borderline").click()
    expect(page.locator(".members")).to_have_count(0)


def test_a_list_is_filtered_by_the_text_that_the_browser_kept(visit: Open, site: Path) -> None:
    page = visit(site / "clusters.html")
    page.fill("#filter", "blue/02")
    assert page.locator("#filtered").text_content() == "1 shown, 1 on the map"
    assert page.locator(".cluster-card").count() == 1
    page.get_by_role("button", name="1 found").click()
    expect(page.locator(".members .card")).to_have_count(1)
