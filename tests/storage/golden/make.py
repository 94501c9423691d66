"""Makes the golden index of today's format: python tests/storage/golden/make.py FOLDER

An index that was released is never made again; it must open for ever. Run this when the format changes, before release.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex


def make(folder: Path) -> None:
    """Three pictures and a copy, one missing, one updated, a failure, a name not in UTF-8; a clustering and tags."""
    pictures = folder / "pictures"
    for number in range(3):
        draw(pictures / f"{number}.png", number)
    draw(pictures / "gone.png", 7)
    draw(pictures / "copy of 0.png", 0)
    draw(pictures / "caf\udce9.png", 9)
    (pictures / "broken.jpg").write_text("this is no picture")
    with ImageIndex.create(folder / "golden.imgindex", encoder=GridMean()) as index:
        index.add([pictures])
        (pictures / "gone.png").unlink()
        draw(pictures / "2.png", 22)
        index.add([pictures])
        index.cluster(k=2)
        index.clusterings.rename_cluster(1, "the other ones")
        index.tag("a tag", where="id < 3")
        (folder / "table.csv").write_text("ImageID,Age\n1,7\n")
        index.import_csv(folder / "table.csv")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
