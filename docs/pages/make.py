"""Make pages of the sample images, and the pictures of them in this folder, with Debian's Chromium.

python docs/pages/make.py
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, sync_playwright

from imgindex import ImageIndex

HERE = Path(__file__).resolve().parent
DRAW = HERE.parent.parent / "benchmarks" / "sample_images.py"
CHROMIUM = "/usr/bin/chromium"
# From the map to a mark that is kept in view, and on to one that is pointed at.
KEYS = ("ArrowLeft", "ArrowUp", "Enter", "ArrowRight", "ArrowRight")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        subprocess.run([sys.executable, DRAW, "data/test", "--sample", "data/sample.csv"], check=True)
        with ImageIndex.create("photos.imgindex", recipe="vgg16-pool5") as index:
            index.add(["data/test"])
            clusters = index.clusters_page(index.cluster(range(2, 13)), maps=("umap", "pca"))
            index.write_page(clusters, "cluster.html")
            index.write_sheet(clusters, "sheet.png")
            index.write_page(index.matches_page(index.answers(["data/test/0.jpg"], n=12)), "similar.html")
            change_some()
            index.add(["data/test"])
            index.write_page(index.duplicates_page(index.duplicates()), "duplicates.html")
            index.write_page(index.outliers_page(index.outliers(n=6)), "outliers.html")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            shoot(browser, "cluster", 1600, keys=KEYS)
            for page, height in (("similar", 900), ("duplicates", 1100), ("outliers", 1000)):
                shoot(browser, page, height)
            browser.close()
        with Image.open("sheet.png") as sheet:
            top = sheet.convert("RGB").crop((0, 0, sheet.width, min(sheet.height, 760)))
            save(top.resize((top.width * 2 // 3, top.height * 2 // 3), Image.Resampling.LANCZOS), "sheet")


def change_some() -> None:
    """Put a copy, a smaller and a brighter picture beside the sample images."""
    shutil.copy("data/test/5.jpg", "data/test/copy of 5.jpg")
    with Image.open("data/test/3.jpg") as picture:
        picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).save("data/test/3 small.jpg", quality=70)
    with Image.open("data/test/8.jpg") as picture:
        ImageEnhance.Brightness(picture).enhance(1.2).save("data/test/8 bright.jpg")


def shoot(browser: Browser, name: str, height: int, *, keys: Sequence[str] = ()) -> None:
    """Take a picture of a page as a browser shows it, after some keys on its map."""
    page = browser.new_page(viewport={"width": 1200, "height": height})
    page.goto(Path(f"{name}.html").resolve().as_uri())
    if keys:
        page.focus("#canvas")
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    save(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), name)
    page.close()


def save(picture: Image.Image, name: str) -> None:
    # 256 colours are enough for a page, and a third of the bytes.
    picture.quantize(256).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
