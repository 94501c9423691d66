"""Draw docs/demo/clusters.png, the picture in the README, from the labels of `make demo`: a row for each cluster.

python docs/demo/picture.py data/test submission.csv docs/demo/clusters.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE, GAP, COLUMNS, MARGIN = 112, 6, 8, 92
INK, PAPER = (40, 40, 40), (255, 255, 255)


def main(images: Path, labels: Path, out: Path) -> None:
    """Draw the first images of each cluster, the largest cluster first."""
    frame = pd.read_csv(labels, dtype={"ImageID": str})
    clusters = [group["ImageID"].tolist() for _, group in frame.groupby("label")]
    step = SIDE + GAP
    sheet = Image.new("RGB", (MARGIN + COLUMNS * step + GAP, len(clusters) * step + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, ids in enumerate(clusters):
        top = GAP + row * step
        pen.text((GAP, top + SIDE // 2 - 20), f"label {row}\n{len(ids)} images", INK, font)
        for column, id in enumerate(ids[:COLUMNS]):
            with Image.open(images / f"{id}.jpg") as picture:
                sheet.paste(ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE)), (MARGIN + column * step, top))
    sheet.quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
