"""What a real browser lets other sites do to the server: each attack succeeds without the guard, and fails with it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from browsers import chromium
from serving import TOKEN, at_a_port

from imgindex import ImageIndex
from imgindex.server.app import build_app

pytestmark = pytest.mark.slow

EVIL = "evil.test"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser to which the attacker's name is this machine, as after DNS rebinding."""
    with chromium(f"--host-resolver-rules=MAP {EVIL} 127.0.0.1") as running:
        yield running


class Recorder:
    """An application around another one, which records the status of each path: a browser hides some from its page."""

    statuses: ClassVar[dict[str, int]] = {}

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def recording(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses[f"{scope['method']} {scope['path']}"] = message["status"]
            await send(message)

        await self._app(scope, receive, recording)


@pytest.fixture
def ports(home: Path) -> Iterator[tuple[int, int]]:
    """The ports of the guarded application, whose answers are recorded, and of the same one without its guard."""
    guarded, close = build_app(str(home / ".imgindex"), token=TOKEN)
    Recorder.statuses.clear()
    with at_a_port(Recorder(guarded)) as port, at_a_port(guarded._app) as bare:  # type: ignore[attr-defined]
        yield port, bare
    close()


class Attacker(http.server.BaseHTTPRequestHandler):
    """Serves one page, and records the requests."""

    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *message: Any) -> None:
        """Print nothing."""


@pytest.fixture
def attack(browser: Any) -> Iterator[Any]:
    """Open a page of another site, with this HTML in it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    context = browser.new_context()

    def opened(html: str, host: str = "127.0.0.1") -> Any:
        Attacker.page = f"<!doctype html><body>{html}".encode()
        page = context.new_page()
        page.goto(f"http://{host}:{server.server_address[1]}/")
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    context.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_name_that_dns_turns_into_this_machine_is_not_answered_for(browser: Any, ports: tuple[int, int]) -> None:
    guarded, bare = ports
    read = "token => fetch('/api/v1/status', {headers: {Authorization: `Bearer ${token}`}}).then(one => one.status)"
    page = browser.new_page()
    assert page.goto(f"http://{EVIL}:{bare}/").status == 200
    assert page.evaluate(read, TOKEN) == 200
    assert page.goto(f"http://{EVIL}:{guarded}/").status == 421
    assert page.evaluate(read, TOKEN) == 421
    page.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", EVIL])
def test_a_page_of_another_site_cannot_draw_a_picture(attack: Any, ports: tuple[int, int], host: str) -> None:
    guarded, bare = ports
    drawn = []
    for port in (bare, guarded):
        page = attack(f"<img src='http://127.0.0.1:{port}/api/v1/images/1/picture'>", host)
        drawn.append(page.evaluate("document.images[0].naturalWidth") > 0)
    # Without the guard another port of the same host may draw it; another host may not in any case.
    assert drawn[1] is False
    control = attack(f"<img src='http://127.0.0.1:{bare}/api/v1/images/1/picture'>", "127.0.0.1")
    assert control.evaluate("document.images[0].naturalWidth") > 0


def test_a_page_of_another_site_changes_nothing(attack: Any, ports: tuple[int, int], home: Path) -> None:
    guarded, bare = ports
    script = """<script>
    const job = JSON.stringify({kind: 'add'});
    const send = (url, options) => fetch(url, {mode: 'no-cors', credentials: 'include', ...options}).catch(() => {});
    const done = Promise.all([
        send('BASE/api/v1/jobs', {method: 'POST', body: job}),
        send('BASE/api/v1/jobs/1', {method: 'DELETE'}),
        send('BASE/api/v1/views', {method: 'POST', body: '{}', headers: {'Content-Type': 'text/plain'}}),
        send('BASE/api/v1/images/tags', {method: 'PUT', body: JSON.stringify({ids: [1], add: ['owned']}),
             headers: {'If-Match': '*'}}),
    ]);
    </script>
    <form id="form" action="BASE/api/v1/similar" method="post" enctype="text/plain"><input name="x" value="y"></form>"""
    page = attack(script.replace("BASE", f"http://127.0.0.1:{guarded}"))
    page.evaluate("done")
    with page.expect_response("**/api/v1/similar"):
        page.evaluate("document.getElementById('form').submit()")
    assert Recorder.statuses["POST /api/v1/jobs"] == 403
    assert Recorder.statuses["POST /api/v1/similar"] == 403
    assert set(Recorder.statuses.values()) <= {401, 403}
    with ImageIndex.open(home / ".imgindex") as index:
        assert index.tags() == {}
    # The same form reaches the endpoint where there is no guard.
    page = attack(script.replace("BASE", f"http://127.0.0.1:{bare}"))
    with page.expect_response("**/api/v1/similar") as reached:
        page.evaluate("document.getElementById('form').submit()")
    assert reached.value.status == 400


def test_a_page_of_another_site_cannot_frame_the_page_or_run_its_scripts(attack: Any, ports: tuple[int, int]) -> None:
    guarded, bare = ports
    html = "<iframe src='http://127.0.0.1:{0}/'></iframe><script src='http://127.0.0.1:{0}/assets/dom.js'></script>"
    page = attack(html.format(bare))
    assert "imgindex" in page.frames[1].content()
    page = attack(html.format(guarded))
    assert "imgindex" not in page.frames[1].content()
    assert Recorder.statuses == {"GET /": 403, "GET /assets/dom.js": 403}


def test_a_link_of_another_site_opens_the_page_without_data(attack: Any, ports: tuple[int, int]) -> None:
    page = attack(f"<a href='http://127.0.0.1:{ports[0]}/'>open</a>")
    with page.expect_navigation():
        page.click("a")
    assert page.url == f"http://127.0.0.1:{ports[0]}/"
    page.get_by_text("no valid token").wait_for()
    assert page.evaluate("document.referrer") == "" or "127.0.0.1" in page.evaluate("document.referrer")
