"""Measures the page of duplicates of `imgindex serve` in headless Chromium, with many groups that were graded before.

    python benchmarks/bench_review.py [--groups 10000] [--copies 3] [--out FILE.json]

The groups are small files, alike but for their last bytes. Their vectors are drawn, and their hashes and comparisons
stand in the index as `duplicates` would have left them: to compare so many pairs takes a quarter of an hour.

`graded_s`: the job that makes the groups of what the index knows; it reads every file. `open_ms`: from the address of
the page to both pictures of the first group; `open_again_ms`: the same after decisions and in a new tab. `key_ms`: from
a key to the next group, the median and the slowest of 50 decisions. `fast_keys_ms`: the mean of 50 keys that come as
fast as they can. `heap_mb`: the page's memory after 200 keys.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import tempfile
import time
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import measure
import numpy as np
from bench_growth import NoNetwork, fill
from bench_serve import BROWSERS, OPTIONS, heap_mb, opened, serving
from PIL import Image

from imgindex import ImageIndex
from imgindex.curation.same_picture import METHOD
from imgindex.decoding import perceptual_hash
from imgindex.storage import comparisons
from imgindex.storage.store import Store

DIMENSION, DECISIONS = 64, 50


def write_groups(folder: Path, groups: int, copies: int) -> list[list[tuple[Path, bytes]]]:
    """Write the files of each group; return their paths and the SHA-256 of their bytes."""
    drawn = []
    for number in range(50):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG", quality=60)
        drawn.append(file.getvalue())
    made = []
    for number in range(groups):
        group = []
        for copy in range(copies):
            path = folder / f"{number // 500:03}" / f"{number:05} {copy}.jpg"
            path.parent.mkdir(exist_ok=True)
            data = drawn[number % len(drawn)] + f"{number} {copy}".encode()
            path.write_bytes(data)
            group.append((path, sha256(data).digest()))
        made.append(group)
    return made


def fill_groups(index: Path, groups: list[list[tuple[Path, bytes]]]) -> None:
    """Let the images of an index be these files, with hashes, and with comparisons that found them to be copies."""
    dice = np.random.default_rng(0)
    store = Store(str(index))
    with store.writing() as writer, writer.catalogue.atomic():
        connection, id = writer.catalogue.connection, 0
        for group in groups:
            code = dice.integers(0, 1 << 63, 1, dtype=np.uint64).astype("<u8")
            hashes = bytes([perceptual_hash.VERSION]) + code.tobytes()
            for path, digest in group:
                id += 1
                stat = path.stat()
                values = (writer.catalogue.paths.stored(str(path)), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                connection.execute(
                    """update images set path = ?, size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, sha256 = ?,
                                         width = 320, height = 240, hashes = ?, blank = 0 where id = ?""",
                    (*values, stat.st_ino, digest, hashes, id),
                )
            pairs = combinations(sorted(digest for _, digest in group), 2)
            known = [((first, second, ""), True, 1.0) for first, second in pairs]
            comparisons.record_compared(writer.catalogue, METHOD, known)
    store.close()


def wait_for_group(page: Any, number: int, of: int) -> None:
    """Wait until a page shows a group and its pictures."""
    page.get_by_text(f"Group {number:,} of {of:,}", exact=True).wait_for()
    page.locator(".duplicate img").nth(1).wait_for()


def in_browser(browser: Any, address: str, groups: int) -> measure.Row:
    """Return what the page takes in a browser."""
    row: measure.Row = {}
    with opened(browser, 1280) as page:
        page.goto(address)
        page.locator(".cell[data-id]").first.wait_for()
        started = time.perf_counter()
        page.evaluate("location.hash = '#/duplicates'")
        wait_for_group(page, 1, groups)
        row["open_ms"] = (time.perf_counter() - started) * 1000
        took = []
        for number in range(1, DECISIONS + 1):
            started = time.perf_counter()
            page.keyboard.press("a")
            page.get_by_text(f"Group 1 of {groups - number:,}", exact=True).wait_for()
            took.append((time.perf_counter() - started) * 1000)
        row["key_ms"], row["slowest_key_ms"] = statistics.median(took), max(took)
        started = time.perf_counter()
        for _ in range(DECISIONS):
            page.keyboard.press("a")
        page.get_by_text(f"Group 1 of {groups - 2 * DECISIONS:,}", exact=True).wait_for()
        row["fast_keys_ms"] = (time.perf_counter() - started) * 1000 / DECISIONS
        for _ in range(2 * DECISIONS):
            page.keyboard.press("s")
        wait_for_group(page, 2 * DECISIONS + 1, groups - 2 * DECISIONS)
        row["heap_mb"] = heap_mb(page)
    with opened(browser, 1280) as page:
        page.goto(address)
        page.locator(".cell[data-id]").first.wait_for()
        started = time.perf_counter()
        page.evaluate("location.hash = '#/duplicates'")
        wait_for_group(page, 1, groups - 2 * DECISIONS)
        row["open_again_ms"] = (time.perf_counter() - started) * 1000
    return row


def measured(groups: int, copies: int, where: str | None) -> measure.Row:
    """Return the figures of so many groups."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory(dir=where) as name:
        index, folder = Path(name) / ".imgindex", Path(name) / "photos"
        folder.mkdir()
        ImageIndex.create(index, encoder=NoNetwork(DIMENSION), store="fp16").close()
        fill(index, groups * copies)
        fill_groups(index, write_groups(folder, groups, copies))
        with serving(index) as (address, _), sync_playwright() as driver:
            base, _, token = address.partition("/#token=")
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=f"{base}/api/v1", headers=headers, timeout=3600) as client:
                graded, answer = measure.timed(lambda: client.get("/duplicates", params={"limit": 1}))
                outline = client.get("/duplicates/outline").raise_for_status().json()
            assert answer.json()["images"] == groups * copies, answer.text
            assert outline["groups"] == groups, outline["groups"]
            row: measure.Row = {"groups": groups, "images": groups * copies, "graded_s": graded}
            browser = driver.chromium.launch(executable_path=found, args=OPTIONS)
            row |= in_browser(browser, address, groups)
            browser.close()
    return row


def main() -> None:
    """Read the command line, measure each number of groups, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[10_000])
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--folder", metavar="DIR", help="Where to write; the system's temporary folder by default.")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    rows = [measured(groups, options.copies, options.folder) for groups in options.groups]
    measure.report("review", rows, options.out, copies=options.copies)


if __name__ == "__main__":
    main()
