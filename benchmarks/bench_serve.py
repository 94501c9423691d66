"""Measures the page of `imgindex serve` in headless Chromium: what a person waits for, by the number of images.

    python benchmarks/bench_serve.py [--rows 100000 1000000] [--dimension 64] [--out FILE.json]

The images are those of bench_growth.py; they have no files, but thumbnails: 64 drawn ones, shared by all.

`ready_s`: from the start of the command to the first answer. `paint_ms`: from the address to the first paint of the
page; `names_ms`: to the first names in the grid; `pictures_ms`: to ten pictures. `frame_ms` and `frame_p95_ms`: the
time between two frames while the grid is scrolled for three seconds, at 1280 px; `narrow_…` at 390 px. `jump_ms`: from
a jump to 70 % of the grid to all pictures in the window; `far_jump_ms`: the same where each answer takes 80 ms longer.
`similar_p95_ms`: an answer for an image of the index, of 100 requests. `map_ms`: to fetch a map that is made;
`pan_p95_ms`: the time between two frames while it is moved. `heap_mb`: the page's memory with the grid; `map_heap_mb`:
with the map.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import measure
import numpy as np
from bench_growth import NoNetwork, fill
from PIL import Image

from imgindex import ImageIndex
from imgindex.storage.thumbnails import StoredThumbnail, ThumbnailStore

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PICTURES, REQUESTS, SCROLLED_MS, LATENCY_MS = 64, 100, 3000, 80
WAIT_MS = 60_000

# Resolves to the milliseconds between frames while `move` is called before each.
FRAMES = """async ([milliseconds, kind]) => {
  const scroller = document.querySelector(".scroller"), canvas = document.querySelector("canvas");
  const at = (x) => ({ pointerId: 1, clientX: x, clientY: 300, button: 0, bubbles: true });
  if (kind === "pan") {
    canvas.setPointerCapture = () => {};
    canvas.dispatchEvent(new PointerEvent("pointerdown", at(300)));
  }
  let number = 0;
  const move = () => {
    number += 1;
    if (kind === "scroll") scroller.scrollTop += 60;
    else canvas.dispatchEvent(new PointerEvent("pointermove", at(300 + 100 * Math.sin(number / 20))));
  };
  return await new Promise((done) => {
    const frames = [], end = performance.now() + milliseconds;
    let last = performance.now();
    requestAnimationFrame(function step(now) {
      frames.push(now - last);
      last = now;
      move();
      if (now < end) requestAnimationFrame(step);
      else {
        if (kind === "pan") canvas.dispatchEvent(new PointerEvent("pointerup", at(300)));
        done(frames.slice(2));
      }
    });
  });
}"""
# Jumps to a share of the grid, and resolves to the milliseconds until every cell in the window has its picture.
JUMP = """async (share) => {
  const scroller = document.querySelector(".scroller");
  const begun = performance.now();
  scroller.scrollTop = share * scroller.scrollHeight;
  const box = scroller.getBoundingClientRect();
  const isShown = (cell) => {
    const place = cell.getBoundingClientRect();
    return place.bottom > box.top && place.top < box.bottom;
  };
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  for (;;) {
    const cells = [...document.querySelectorAll(".cell")].filter(isShown);
    if (cells.length && cells.every((cell) => cell.querySelector("img")?.complete)) return performance.now() - begun;
    await new Promise(requestAnimationFrame);
  }
}"""


def fill_thumbnails(index: Path) -> None:
    """Give every image one of some drawn thumbnails."""
    drawn = []
    for number in range(PICTURES):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((192, 144), Image.Resampling.BICUBIC).save(file, "WEBP")
        drawn.append(file.getvalue())
    with contextlib.closing(sqlite3.connect(index / "catalogue.db")) as catalogue:
        of_image = [sha256 for (sha256,) in catalogue.execute("select sha256 from images order by id")]
    store = ThumbnailStore(str(index))
    store.put(StoredThumbnail(sha256, drawn[at % PICTURES], 192, 144) for at, sha256 in enumerate(of_image))
    store.close()


@contextlib.contextmanager
def serving(index: Path) -> Iterator[tuple[str, float]]:
    """Run the server of an index; lend its address and the seconds that it took to answer."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "imgindex", "serve", "--no-browser", "--index", str(index)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        httpx.get(address.partition("#")[0], timeout=60)
        yield address, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


@contextlib.contextmanager
def opened(browser: Any, width: int) -> Iterator[Any]:
    # The page's own policy forbids the scripts of this benchmark.
    context = browser.new_context(viewport={"width": width, "height": 860}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    yield page
    context.close()


def heap_mb(page: Any) -> float:
    """Return the memory of a page's objects, after garbage is collected."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    devtools.send("Performance.enable")
    found = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return float(found["JSHeapUsedSize"]) / 1e6


def in_browser(browser: Any, address: str) -> measure.Row:
    """Return what the pages of a server take in a browser."""
    row: measure.Row = {}
    with opened(browser, 1280) as page:
        started = time.perf_counter()
        page.goto(address)
        page.locator(".cell[data-id]").first.wait_for()
        row["names_ms"] = (time.perf_counter() - started) * 1000
        row["paint_ms"] = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        page.locator(".cell img").nth(9).wait_for()
        row["pictures_ms"] = (time.perf_counter() - started) * 1000
        row["jump_ms"] = page.evaluate(JUMP, 0.7)
        frames = page.evaluate(FRAMES, [SCROLLED_MS, "scroll"])
        row["frame_ms"], row["frame_p95_ms"] = statistics.mean(frames), p95(frames)
        row["heap_mb"] = heap_mb(page)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")
        slow = {"offline": False, "latency": LATENCY_MS, "downloadThroughput": -1, "uploadThroughput": -1}
        devtools.send("Network.emulateNetworkConditions", slow)
        row["far_jump_ms"] = page.evaluate(JUMP, 0.3)
        devtools.send("Network.emulateNetworkConditions", slow | {"latency": 0})
        page.evaluate("location.hash = '#/map'")
        page.locator("canvas[aria-label*=images]").wait_for()
        frames = page.evaluate(FRAMES, [SCROLLED_MS, "pan"])
        row["pan_ms"], row["pan_p95_ms"] = statistics.mean(frames), p95(frames)
        row["map_heap_mb"] = heap_mb(page)
    with opened(browser, 390) as page:
        page.goto(address)
        page.locator(".cell img").nth(3).wait_for()
        frames = page.evaluate(FRAMES, [SCROLLED_MS, "scroll"])
        row["narrow_frame_ms"], row["narrow_frame_p95_ms"] = statistics.mean(frames), p95(frames)
    return row


def of_api(address: str, rows: int) -> measure.Row:
    """Return what requests of the server take, after the first of each kind."""
    base, _, token = address.partition("/#token=")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{base}/api/v1", headers=headers, timeout=600) as client:
        started = time.perf_counter()
        client.get("/map", params={"method": "pca"}).raise_for_status()
        first = time.perf_counter() - started
        fetch = measure.median_seconds(lambda: client.get("/map", params={"method": "pca"}).raise_for_status(), 5)
        took = []
        for id in np.random.default_rng(0).integers(1, rows + 1, REQUESTS + 1).tolist():
            seconds, answer = measure.timed(lambda id=id: client.get(f"/images/{id}/similar", params={"n": 20}))
            answer.raise_for_status()
            took.append(seconds * 1000)
    return {
        "similar_p95_ms": p95(took[1:]),
        "first_similar_ms": took[0],
        "map_ms": fetch * 1000,
        "first_map_s": first,
    }


def measured(rows: int, dimension: int, where: str | None) -> measure.Row:
    """Return the figures of an index of so many images."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory(dir=where) as name:
        index = Path(name) / "index"
        ImageIndex.create(index, encoder=NoNetwork(dimension), store="fp16").close()
        fill(index, rows)
        fill_thumbnails(index)
        with serving(index):
            pass  # what the system keeps of the index's files is there now
        with serving(index) as (address, ready), sync_playwright() as driver:
            row = {"rows": rows, "ready_s": ready, **of_api(address, rows)}
            browser = driver.chromium.launch(executable_path=found, args=OPTIONS)
            row |= in_browser(browser, address)
            browser.close()
    return row


def main() -> None:
    """Read the command line, measure each size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--folder", metavar="DIR", help="Where to write; the system's temporary folder by default.")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    rows = [measured(number, options.dimension, options.folder) for number in options.rows]
    measure.report("serve", rows, options.out, dimension=options.dimension)


if __name__ == "__main__":
    main()
