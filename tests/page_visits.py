"""Opens the page of a server in a browser; in the end nothing may have gone wrong in it, nor been asked of others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from serving import TOKEN

TOKEN_IN_ADDRESS = TOKEN.replace(" ", "-")
Visit = Callable[..., Any]


@contextlib.contextmanager
def visits(browser: Any, port: int) -> Iterator[Visit]:
    """Lend a function that opens a page, with the token."""
    wrong: list[str] = []
    contexts = []

    def visit(path: str = "", *, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 860}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        # A condition that is wrong is answered with 400.
        page.on("console", lambda message: wrong.append(message.text) if is_wrong(message) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if is_outside(request.url, port) else None)
        page.goto(f"http://127.0.0.1:{port}/#token={TOKEN_IN_ADDRESS}")
        page.locator(".cell img").first.wait_for()
        if path:
            page.evaluate("path => { location.hash = path; }", f"#/{path}")
        return page

    yield visit
    for context in contexts:
        assert all(page.evaluate("typeof fired") == "undefined" for page in context.pages)
        context.close()
    assert wrong == [], wrong


def is_wrong(message: Any) -> bool:
    return message.type == "error" and "status of 400" not in message.text


def is_outside(url: str, port: int) -> bool:
    return not url.startswith(("blob:", "data:")) and urlsplit(url).netloc != f"127.0.0.1:{port}"
