"""The page in a real browser: the grid, keys, tags, similar images, clusters, duplicates, and hostile names."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from forking import ForkServer
from page_visits import TOKEN_IN_ADDRESS, Visit, visits
from pictures import draw
from serving import at_a_port

from imgindex import ImageIndex
from imgindex.server.app import build_app

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

HOSTILE = (
    b'"><img src=x onerror=fired=1>.png',
    b"x<" + b"/script><script>fired=1<" + b"/script>.png",
    b"not utf-8 \xff.png",
    b"a\xe2\x80\xaegnp.exe.png",
)


@pytest.fixture(scope="module")
def hostile(album: Path, server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The album with hostile names, tags and names of clusters, and two pairs of copies."""
    home = tmp_path_factory.mktemp("hostile") / "album"
    shutil.copytree(album, home)
    for number, name in enumerate(HOSTILE):
        draw(Path(os.fsdecode(os.fsencode(home / "photos") + b"/" + name)), 50 + number, (70, 40))
    shutil.copy(home / "photos" / "a" / "3.png", home / "photos" / "b" / "three again.png")
    assert server.run("add", "photos", folder=home).code == 3
    with ImageIndex.open(home / ".imgindex") as index:
        index.cluster(3)
        index.clusterings.rename_cluster(0, "<script>fired=1</script>")
        index.tag("<img src=x onerror=fired=1>", home / "photos" / "a" / "2.png")
    return home


@pytest.fixture
def site(hostile: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A copy of the hostile album, and the port of its server."""
    home = tmp_path / "album"
    shutil.copytree(hostile, home)
    app, close = build_app(str(home / ".imgindex"), token=TOKEN_IN_ADDRESS)
    with at_a_port(app) as port:
        yield home, port
    close()


@pytest.fixture
def visit(browser: Any, site: tuple[Path, int]) -> Iterator[Visit]:
    with visits(browser, site[1]) as visit:
        yield visit


def test_the_token_leaves_the_address_and_stays_in_the_tab(visit: Visit) -> None:
    page = visit()
    assert TOKEN_IN_ADDRESS not in page.url
    page.reload()
    page.locator(".cell img").first.wait_for()
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_text("no valid token").wait_for()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["images", "clusters", "duplicates", "odd", "images?like=2"])
def test_a_page_fits_the_window_and_its_pictures_are_drawn(visit: Visit, path: str, width: int) -> None:
    page = visit(path, width=width)
    page.locator("#content img").first.wait_for()
    expect(page.locator("#content .waiting")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.eval_on_selector_all("#content img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) >= 2
    assert all(width > 0 for width in widths)


@pytest.mark.parametrize(
    "path", ["images", "clusters", "duplicates", "odd", "images?like=2", "images?clustering=2&label=0"]
)
def test_names_that_are_markup_are_shown_as_text(visit: Visit, path: str) -> None:
    page = visit(path)
    page.locator("#content img").first.wait_for()
    page.wait_for_timeout(100)
    assert page.evaluate("typeof fired") == "undefined"
    if path == "images":
        assert "<img src=x onerror=fired=1>" in page.locator("#content").inner_text()
        assert "\u202e" not in page.locator("#content").inner_text()
    if path == "clusters":
        assert page.locator(".cluster-name").first.input_value() == "<script>fired=1</script>"
        page.get_by_role("button", name="Map").click()
        expect(page.locator(".legend .name").first).to_have_text("<script>fired=1</script>")


def test_a_script_that_gets_into_the_page_does_not_run(browser: Any, site: tuple[Path, int]) -> None:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{site[1]}/#token={TOKEN_IN_ADDRESS}")
    page.locator(".cell img").first.wait_for()
    tries = (
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'fired = 1'}))",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=fired=1>')",
        "document.body.setAttribute('onclick', 'fired = 1'); document.body.click()",
        "import('data:text/javascript,window.fired=1')",
    )
    for attempt in tries:
        page.evaluate(f"(async () => {{ try {{ {attempt.replace('import(', 'await import(')} }} catch {{}} }})()")
    page.wait_for_timeout(100)
    assert page.evaluate("typeof fired") == "undefined"
    page.close()


@pytest.mark.parametrize("path", ["images", "clusters", "duplicates", "odd", "map"])
def test_a_page_follows_the_dark_or_light_setting(visit: Visit, path: str) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page = visit(path, scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(map(int, colour[4:-1].split(",")[:3])) / 765
    assert brightness["light"] > 0.9
    assert brightness["dark"] < 0.2


def test_a_condition_is_in_the_address_and_says_what_is_wrong_with_it(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("name = '3.png' or name = '4.png'")
    page.keyboard.press("Enter")
    expect(page.locator(".result")).to_contain_text("2 images")
    expect(page.locator(".cell")).to_have_count(2)
    page.reload()
    expect(page.locator(".cell")).to_have_count(2)
    page.fill("input[name=where]", "nothing like this")
    page.keyboard.press("Enter")
    expect(page.locator(".result .reason")).to_contain_text("cannot evaluate the condition")
    page.fill("input[name=where]", "width > 1 and name = 'none'")
    page.keyboard.press("Enter")
    expect(page.locator(".state")).to_contain_text("No image fulfils the condition")
    expect(page.locator(".state li").last).to_contain_text("0 images")
    page.go_back()
    page.go_back()
    expect(page.locator(".cell")).to_have_count(2)


def focused(page: Any) -> int:
    return int(page.evaluate("document.activeElement.dataset.index ?? -1"))


def test_keys_move_select_enlarge_and_find_similar_images(visit: Visit) -> None:
    page = visit()
    columns = int(page.locator("[role=grid]").get_attribute("aria-colcount"))
    for key, index in (("ArrowRight", 1), ("l", 2), ("ArrowDown", 2 + columns), ("k", 2), ("h", 1), ("End", 17)):
        page.keyboard.press(key)
        assert focused(page) == index
    page.keyboard.press("Home")
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator(".selection strong")).to_have_text("3 selected")
    assert page.locator(".cell[aria-selected=true]").count() == 3
    page.keyboard.press("Escape")
    expect(page.locator(".selection")).to_be_hidden()
    page.keyboard.press("Enter")
    name = page.locator("dialog.large h2")
    expect(page.locator("dialog.large img")).to_be_visible()
    before = name.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(name).not_to_have_text(before)
    shown = name.inner_text()
    page.keyboard.press("f")
    expect(page.locator(".result")).to_contain_text(f"Similar to {shown}")
    assert "like=" in page.url
    page.go_back()
    expect(page.locator(".result")).to_contain_text("18 images")


def test_single_keys_can_be_switched_off(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("?")
    page.get_by_label("no single keys").check()
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    expect(page.locator(".selection")).to_be_hidden()
    page.click("#help")
    page.get_by_label("no single keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.locator(".cell").first.focus()
    page.keyboard.press("x")
    expect(page.locator(".selection")).to_be_visible()


def test_a_selection_is_tagged_and_the_tag_is_taken_off_again(visit: Visit, site: tuple[Path, int]) -> None:
    page = visit()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("t")
    page.keyboard.type("holiday")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("2 images tagged")
    expect(page.locator(".cell .detail").first).to_contain_text("holiday")
    with ImageIndex.open(site[0] / ".imgindex") as index:
        assert index.tags()["holiday"] == 2
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".done")).to_contain_text("undone")
    with ImageIndex.open(site[0] / ".imgindex") as index:
        assert "holiday" not in index.tags()


@pytest.mark.parametrize(
    ("keys", "selected"),
    [
        (["x"], 1),
        (["x", "Shift+ArrowRight", "Shift+ArrowRight"], 3),
        (["x", "ArrowRight", "x", "ArrowLeft", "x"], 1),
        (["Shift+End"], 18),
    ],
)
def test_keys_select_images_that_are_not_loaded_yet(visit: Visit, keys: list[str], selected: int) -> None:
    page = visit()
    page.route("**/rows?*", lambda route: None)  # held until the route is removed
    page.fill("input[name=where]", "width > 0")
    page.keyboard.press("Enter")
    expect(page.locator(".result")).to_contain_text("18 images that fulfil")
    page.locator(".cell").first.focus()
    for key in keys:
        page.keyboard.press(key)
    expect(page.locator(".selection strong")).to_have_text(f"{selected} selected")
    page.unroute("**/rows?*")
    expect(page.locator(".cell[aria-selected=true]")).to_have_count(selected)


def test_a_selection_is_saved_as_a_list_and_its_paths_are_copied(
    visit: Visit, site: tuple[Path, int], server: ForkServer, tmp_path: Path
) -> None:
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("input[name=where]", "folder like '%/a'")
    page.keyboard.press("Enter")
    expect(page.locator(".result")).to_contain_text("6 images")
    page.locator(".cell").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save list").click()
    download.value.save_as(tmp_path / "images.csv")
    saved = (tmp_path / "images.csv").read_text(encoding="utf-8")
    paths = [row["path"] for row in csv.DictReader(saved.splitlines())]
    assert [Path(path).name for path in paths] == ["0.png", "1.png", "2.png"]
    # The command line that is shown lists the same images.
    line = shlex.split(page.locator(".done code").inner_text())
    assert server.run(*line[1:], folder=site[0]).code == 0
    listed = csv.DictReader((site[0] / "images.csv").read_text(encoding="utf-8").splitlines())
    assert [str(site[0] / row["path"]) for row in listed] == paths
    page.get_by_role("button", name="Copy paths").click()
    expect(page.locator(".done")).to_contain_text("3 paths copied")
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == paths


def test_a_change_of_another_program_is_seen(visit: Visit, site: tuple[Path, int]) -> None:
    page = visit()
    with ImageIndex.open(site[0] / ".imgindex") as index:
        index.tag("elsewhere", site[0] / "photos")
    expect(page.locator(".cell .detail").first).to_contain_text("elsewhere")


@pytest.mark.parametrize("way", ["file", "drop", "paste"])
def test_a_picture_that_is_dropped_pasted_or_chosen_finds_similar_images(
    visit: Visit, site: tuple[Path, int], way: str
) -> None:
    page = visit()
    path = site[0] / "photos" / "a" / "4.png"
    if way == "file":
        page.locator("input[type=file]").set_input_files(str(path))
    else:
        page.evaluate(
            """([bytes, way]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "4.png", {type: "image/png"}));
                const event = way === "paste" ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
                    : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
                document.querySelector("#content").dispatchEvent(event);
            }""",
            [list(path.read_bytes()), way],
        )
    expect(page.locator(".result")).to_contain_text("Similar to 4.png")
    expect(page.locator(".cell").first).to_contain_text("4.png")
    expect(page.locator(".cell .detail").first).to_contain_text("1 · 0.000")


def test_a_million_images_are_scrolled_to_the_end(visit: Visit, site: tuple[Path, int]) -> None:
    page = visit("clusters")
    page.locator(".cluster-card").first.wait_for()

    def rows(route: Any) -> None:
        query = dict(part.split("=") for part in urlsplit(route.request.url).query.split("&"))
        offset, limit = int(query["offset"]), int(query["limit"])
        ids = list(range(offset + 1, min(1_000_000, offset + limit) + 1))
        images = [
            {"id": id, "path": f"/x/{id}.png", "size": 1, "width": 1, "height": 1, "format": "PNG", "tags": []}
            for id in ids
        ]
        route.fulfill(json={"offset": offset, "total": 1_000_000, "ids": ids, "images": images})

    page.route("**/api/v1/views", lambda route: route.fulfill(status=201, json={"view": "v", "total": 1_000_000}))
    page.route("**/api/v1/views/v/rows*", rows)
    page.evaluate("location.hash = '#/images'")
    expect(page.locator(".result")).to_contain_text("1,000,000 images")
    page.keyboard.press("End")
    expect(page.locator(".cell").last).to_contain_text("1000000.png")
    assert focused(page) == 999_999
    assert page.locator(".cell").count() < 150
    page.locator(".scroller").evaluate("one => { one.scrollTop = one.scrollHeight * 0.7; }")
    page.wait_for_timeout(300)
    seen = int(page.locator(".cell").first.get_attribute("data-index"))
    assert 650_000 < seen < 750_000
    page.keyboard.press("Home")
    expect(page.locator(".cell").first).to_contain_text("1.png")


def test_clusters_are_named_browsed_and_made(visit: Visit, site: tuple[Path, int]) -> None:
    page = visit("clusters")
    expect(page.locator(".cluster-card")).to_have_count(3)
    page.locator(".cluster-name").nth(1).fill("Blue things")
    page.keyboard.press("Enter")
    expect(page.locator(".cluster-name.saved")).to_have_count(1)
    with ImageIndex.open(site[0] / ".imgindex") as index:
        assert index.clusterings.newest.clusters[1].name == "Blue things"
        size = index.clusterings.newest.clusters[1].size
    page.locator(".cluster-card").nth(1).get_by_role("link", name="borderline").click()
    expect(page.locator(".result")).to_contain_text("in “Blue things”")
    expect(page.locator(".cell")).to_have_count(size)
    page.get_by_role("link", name="all clusters").click()
    page.fill("input.k", "2")
    page.get_by_role("button", name="Cluster", exact=True).click()
    expect(page.locator(".cluster-card")).to_have_count(2)
    assert "c=3" in page.url


def marks(home: Path) -> dict[str, tuple[str, ...]]:
    with ImageIndex.open(home / ".imgindex") as index:
        return {
            os.path.relpath(image.path, home): image.tags
            for image in index.images()
            if {"keep", "spare"} & set(image.tags)
        }


def test_duplicates_are_decided_by_keys_and_a_decision_is_undone(visit: Visit, site: tuple[Path, int]) -> None:
    page = visit("duplicates")
    expect(page.locator(".place")).to_have_text("Group 1 of 2")
    first = page.locator(".duplicate .file").first.text_content()
    page.keyboard.press("2")
    expect(page.locator(".place")).to_have_text("Group 1 of 1")
    found = marks(site[0])
    assert sorted(found.values()) == [("keep",), ("spare",)]
    assert next(tags for path, tags in found.items() if path.endswith(first)) == ("spare",)
    expect(page.locator(".decision code")).to_contain_text("imgindex tag spare")
    page.keyboard.press("u")
    expect(page.locator(".place")).to_have_text("Group 1 of 2")
    assert marks(site[0]) == {}
    page.keyboard.press("a")
    expect(page.locator(".place")).to_have_text("Group 1 of 1")
    page.keyboard.press("b")
    expect(page.locator(".state")).to_contain_text("All groups are decided")
    assert sorted(marks(site[0]).values()) == [("keep",), ("keep",), ("keep",), ("spare",)]
    page.reload()
    expect(page.locator(".state")).to_contain_text("All groups are decided")
    page.get_by_label("decided ones too").check()
    expect(page.locator(".place")).to_have_text("Group 1 of 2")


def test_twenty_groups_are_decided_by_twenty_keys_and_the_page_holds_few_of_many(
    visit: Visit, site: tuple[Path, int]
) -> None:
    """Groups are fetched in parts of twenty; keys that are pressed while one is fetched wait for it."""
    more = 200
    for number in range(more):
        path = draw(site[0] / "photos" / "many" / f"{number}.png", 1000 + number, (40 + number, 30))
        shutil.copy(path, path.with_name(f"{number} again.png"))
    with ImageIndex.open(site[0] / ".imgindex") as index:
        index.add(site[0] / "photos" / "many")
    page = visit("duplicates")
    expect(page.locator(".place")).to_have_text(f"Group 1 of {more + 2}")
    for number in range(20):
        page.keyboard.press("a12"[number % 3])
    expect(page.locator(".place")).to_have_text(f"Group 1 of {more - 18}", timeout=60_000)
    tags = Counter(marks(site[0]).values())
    assert tags == {("keep",): 20, ("spare",): 20}
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/duplicates?" in request.url else None)
    for _ in range(more - 20):
        page.keyboard.press("s")
    expect(page.locator(".place")).to_have_text(f"Group {more - 19} of {more - 18}", timeout=60_000)
    assert 7 <= len(asked) <= 11
    # Back at the first group, whose part was forgotten meanwhile.
    page.keyboard.press("u")
    expect(page.locator(".place")).to_have_text(f"Group 1 of {more - 17}")
    expect(page.locator(".duplicate img")).to_have_count(2)
    assert len(marks(site[0])) == 38


def test_all_groups_of_the_same_bytes_are_accepted_at_once(visit: Visit, site: tuple[Path, int]) -> None:
    page = visit("duplicates")
    page.get_by_role("button", name="Accept 2 groups of the same bytes").click()
    expect(page.locator(".state")).to_contain_text("All groups are decided")
    assert sorted(marks(site[0]).values()) == [("keep",), ("keep",), ("spare",), ("spare",)]
    assert all(Path(site[0], path).is_file() for path in marks(site[0]))


def test_two_pictures_blink_in_one_place(visit: Visit) -> None:
    page = visit("duplicates")
    expect(page.locator(".duplicate img")).to_have_count(2)
    page.keyboard.press(" ")
    expect(page.locator(".blink img")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator(".blink")).to_have_count(0)


def test_a_missing_picture_has_its_reason(visit: Visit, site: tuple[Path, int]) -> None:
    for path in (site[0] / "photos").rglob("*.png"):
        if path.name == "7.png":
            path.unlink()
    page = visit()
    page.fill("input[name=where]", "name = '7.png'")
    page.keyboard.press("Enter")
    expect(page.locator(".picture.missing")).to_contain_text("No such file")


def test_a_read_only_server_has_no_buttons_that_change_something(browser: Any, site: tuple[Path, int]) -> None:
    app, close = build_app(str(site[0] / ".imgindex"), token=TOKEN_IN_ADDRESS, read_only=True)
    with at_a_port(app) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/#token={TOKEN_IN_ADDRESS}")
        page.locator(".cell img").first.wait_for()
        page.keyboard.press("x")
        expect(page.get_by_role("button", name="Add tag")).to_be_hidden()
        expect(page.get_by_role("button", name="Copy paths")).to_be_visible()
        page.evaluate("location.hash = '#/duplicates'")
        expect(page.get_by_role("button", name="Keep as proposed")).to_be_disabled()
        page.close()
    close()


def test_a_server_that_ends_is_noticed(browser: Any, site: tuple[Path, int]) -> None:
    app, close = build_app(str(site[0] / ".imgindex"), token=TOKEN_IN_ADDRESS)
    page = browser.new_page()
    with at_a_port(app) as port:
        page.goto(f"http://127.0.0.1:{port}/#token={TOKEN_IN_ADDRESS}")
        page.locator(".cell img").first.wait_for()
        page.fill("input[name=where]", "width > 12")
    close()
    expect(page.locator("#banner")).to_contain_text("The server does not answer")
    assert page.locator("input[name=where]").input_value() == "width > 12"
    page.close()


def test_an_empty_index_says_how_to_fill_it(browser: Any, templates: dict[int, Path], tmp_path: Path) -> None:
    shutil.copytree(templates[0], tmp_path / "empty")
    app, close = build_app(str(tmp_path / "empty" / ".imgindex"), token=TOKEN_IN_ADDRESS)
    with at_a_port(app) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/#token={TOKEN_IN_ADDRESS}")
        expect(page.locator(".state")).to_contain_text("imgindex add FOLDER")
        page.evaluate("location.hash = '#/clusters'")
        expect(page.locator(".state")).to_contain_text("No clustering yet")
        page.evaluate("location.hash = '#/duplicates'")
        expect(page.locator(".state")).to_contain_text("No duplicates among 0 images")
        page.evaluate("location.hash = '#/map'")
        expect(page.locator(".state")).to_contain_text("The index is empty")
        page.evaluate("location.hash = '#/odd'")
        expect(page.locator(".state")).to_contain_text("Nothing to compare")
        page.evaluate("location.hash = '#/duplicates'")
        assert json.loads(page.evaluate("JSON.stringify(document.title)")) == "Duplicates – imgindex"
        page.close()
    close()
