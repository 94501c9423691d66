"""A blurred picture is not sharp, however large it is."""

from __future__ import annotations

from pathlib import Path

from grid_mean import GridMean
from PIL import Image, ImageFilter

from imgindex import ImageIndex


def test_the_sharpest_is_not_the_largest_when_that_is_blurred(tmp_path: Path, photos: Path) -> None:
    import tarfile

    with tarfile.open(photos / "photos-dev.tar") as tar:
        (name,) = [name for name in tar.getnames() if name.endswith("gc-fish10.webp")]
        (tmp_path / "p").mkdir()
        (tmp_path / "p/original.webp").write_bytes(tar.extractfile(name).read())
    with Image.open(tmp_path / "p/original.webp") as picture:
        picture.load()
    size = (2 * picture.width, 2 * picture.height)
    picture.filter(ImageFilter.GaussianBlur(1.5)).resize(size).save(tmp_path / "p/blurred.png")
    picture.save(tmp_path / "p/poor.jpg", quality=15)
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index.add([tmp_path / "p"])
        (group,) = index.duplicates(keep="sharpest").groups
        (largest,) = index.duplicates().groups
    assert Path(group.kept.path).name == "original.webp"
    assert group.why.startswith("sharpest: 0.")
    assert Path(largest.kept.path).name == "blurred.png"
    measured = {Path(one.path).name: one.sharpness for one in group.images}
    assert sorted(measured, key=lambda name: -measured[name])[0:2] == ["original.webp", "poor.jpg"]
