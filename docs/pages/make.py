"""Make the page of the sample images' clusters, and the picture of it in this folder, with Debian's Chromium.

python docs/pages/make.py
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

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
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1200, "height": 1600})
            page.goto(Path(name, "cluster.html").as_uri())
            page.focus("#canvas")
            for key in KEYS:
                page.keyboard.press(key)
            page.wait_for_timeout(300)
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            shot.save(HERE / "cluster.png", optimize=True)
            browser.close()


if __name__ == "__main__":
    main()
