"""Starts the Chromium of this machine; a test that needs one is skipped where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AXE = Path(__file__).parent.parent / "build/axe/node_modules/axe-core/axe.min.js"
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update"]


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Lend a browser that was started with these options."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=[*QUIET, *options])
        yield running
        running.close()


def axe_script() -> str:
    """The script of axe-core; a test that needs it is skipped where it is not installed."""
    path = Path(os.environ.get("IMGINDEX_TEST_AXE", AXE))
    if not path.is_file():
        pytest.skip(f"axe-core is not at {path}: npm install --prefix build/axe axe-core")
    return path.read_text(encoding="utf-8")


def violations(page: Any) -> list[tuple[Any, ...]]:
    """What axe-core, whose script has run in the page, finds wrong in light and dark, on a wide and a narrow screen."""
    found = []
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 860})
            page.emulate_media(color_scheme=scheme)
            wrong = page.evaluate("axe.run({resultTypes: ['violations']}).then(found => found.violations)")
            found += [
                (width, scheme, one["id"], node["target"], node["failureSummary"])
                for one in wrong
                for node in one["nodes"]
            ]
    return found
