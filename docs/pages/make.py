"""Write pages of the sample images, serve their index, and take screenshots of both, with Debian's Chromium.

python docs/pages/make.py
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, sync_playwright

from imgindex import ImageIndex

HERE = Path(__file__).resolve().parent
DRAW = HERE.parent.parent / "benchmarks" / "sample_images.py"
CHROMIUM = "/usr/bin/chromium"
# Pages of `imgindex serve` that show no path, and the heights of their pictures.
SERVED = {"images": 700, "clusters": 760, "map": 620}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        subprocess.run([sys.executable, DRAW, "data/test", "--sample", "data/sample.csv"], check=True)
        with ImageIndex.create("photos.imgindex", recipe="vgg16-pool5") as index:
            index.add(["data/test"])
            clusters = index.gallery(index.cluster(range(2, 13)), maps=("pca", "umap"), relative_to=".")
            clusters.write_html("cluster.html")
            clusters.write_sheet("sheet.png")
            index.gallery(index.answers(["data/test/0.jpg"], n=12), relative_to=".").write_html("similar.html")
            change_some_images()
            index.add(["data/test"])
            index.gallery(index.duplicates(), relative_to=".").write_html("duplicates.html")
            index.gallery(index.outliers(n=6), relative_to=".").write_html("outliers.html")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            for page, height in (("cluster", 2000), ("similar", 620), ("duplicates", 820), ("outliers", 760)):
                screenshot(browser, page, height)
            for page, height in SERVED.items():
                served(browser, page, height)
            browser.close()
        with Image.open("sheet.png") as sheet:
            top = sheet.convert("RGB").crop((0, 0, sheet.width, min(sheet.height, 760)))
            save(top.resize((top.width * 2 // 3, top.height * 2 // 3), Image.Resampling.LANCZOS), "sheet")


def change_some_images() -> None:
    """Add a copy, a smaller and a brighter version of some sample images."""
    shutil.copy("data/test/5.jpg", "data/test/copy of 5.jpg")
    with Image.open("data/test/3.jpg") as picture:
        picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).save("data/test/3 small.jpg", quality=70)
    with Image.open("data/test/8.jpg") as picture:
        ImageEnhance.Brightness(picture).enhance(1.2).save("data/test/8 bright.jpg")


def screenshot(browser: Browser, name: str, height: int) -> None:
    """Take a screenshot of a page, or of its upper part; of the clusters with a mark on their map pointed at."""
    page = browser.new_page(viewport={"width": 1200, "height": height})
    page.goto(Path(f"{name}.html").resolve().as_uri())
    if name == "cluster":
        box = page.locator("#map canvas").bounding_box()
        for step in range(0, int(box["width"]), 6):
            page.mouse.move(box["x"] + step, box["y"] + 0.85 * box["height"])
            page.wait_for_timeout(60)
            if page.locator(".map-preview img").count() and page.locator(".map-preview").is_visible():
                break
    page.wait_for_timeout(300)
    bottom = page.locator("footer").bounding_box()
    high = min(height, round(bottom["y"]))
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    save(picture.crop((0, 0, picture.width, high)), name)
    page.close()


def served(browser: Browser, name: str, height: int) -> None:
    """Take a screenshot of a page of the server, which runs as users run it."""
    command = [sys.executable, "-m", "imgindex", "serve", "--no-browser", "--index", "photos.imgindex"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        page = browser.new_page(viewport={"width": 1200, "height": height})
        page.goto(server.stdout.readline().strip())
        page.locator(".cell[data-id]").first.wait_for()
        page.evaluate(f"location.hash = '#/{name}'")
        page.wait_for_timeout(4000)  # for the pictures
        save(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), f"serve-{name}")
        page.close()
        server.terminate()


def save(picture: Image.Image, name: str) -> None:
    # 256 colours are enough for a screenshot, in a third of the bytes.
    picture.quantize(256).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
