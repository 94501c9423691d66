"""Make the pages of the sample images, and the pictures of them in this folder, with Debian's Chromium.

python docs/pages/make.py
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from imgindex import ImageIndex

HERE = Path(__file__).parent
DRAW = HERE.parent.parent / "benchmarks" / "sample_images.py"
CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        subprocess.run([sys.executable, DRAW, "data/test", "--sample", "data/sample.csv"], check=True)
        with ImageIndex.create("photos.imgindex", recipe="vgg16-pool5") as index:
            index.add(["data/test"])
            clusters = index.clusters_page(index.cluster(range(2, 13)), maps=("umap", "pca"))
            index.write_page(clusters, "cluster.html")
            index.write_page(index.matches_page(index.answers(["data/test/0.jpg"], n=10)), "similar.html")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            for page, height in (("cluster", 1640), ("similar", 640)):
                opened = browser.new_page(viewport={"width": 1200, "height": height}, device_scale_factor=1)
                opened.goto(Path(name, f"{page}.html").as_uri())
                if page == "cluster":
                    point_at_a_mark(opened)
                opened.wait_for_timeout(300)
                shot = Image.open(io.BytesIO(opened.screenshot())).convert("RGB")
                shot.quantize(256).save(HERE / f"{page}.png", optimize=True)
            browser.close()


def point_at_a_mark(page: Any) -> None:
    page.focus("#canvas")
    for key in ("ArrowLeft", "ArrowUp", "Enter", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)


if __name__ == "__main__":
    main()
