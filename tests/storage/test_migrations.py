"""Indexes that earlier versions made must open for ever, answer, take more images, and be sound afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GridMean, replace_encoder
from pictures import draw

from imgindex import ImageIndex
from imgindex.storage.schema import NEWEST

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["0.png", "copy of 0.png", "1.png", "2.png", "caf\udce9.png"]


@pytest.fixture(params=sorted(path.name for path in GOLDEN.glob("v*")))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden index beside its pictures: see golden/make.py."""
    shutil.copytree(GOLDEN / request.param, tmp_path / "golden")
    return tmp_path / "golden"


def version(golden: Path) -> int:
    """The format of an index, by its catalogue's header."""
    return int.from_bytes((golden / "golden.imgindex/catalogue.db").read_bytes()[60:64], "big")


def test_there_is_a_golden_index_of_every_version() -> None:
    assert sorted(path.name for path in GOLDEN.glob("v*")) == [f"v{number}" for number in range(1, NEWEST + 1)]


def test_an_old_index_is_read_as_it_is(golden: Path) -> None:
    before = (golden / "golden.imgindex/catalogue.db").read_bytes()
    with ImageIndex.open(golden / "golden.imgindex") as index:
        assert [Path(path).name for path in index.paths()] == NAMES
        np.testing.assert_array_equal(index.vectors()[2], np.float32(np.array([37, 101, 211] * 4) / 255))
        (copy, *_) = index.similar(golden / "pictures/0.png", n=2)
        assert (Path(copy.path).name, copy.distance) == ("copy of 0.png", 0)
        assert [Path(failure.path).name for failure in index.failures()] == ["broken.jpg"]
        assert index.status()["missing"] == 1
        assert index.verify(full=True).ok
        assert [one.names for one in list(index.clusterings)] == [(None, "the other ones")] * (version(golden) >= 3)
        tagged = [image for image in index.images() if image.tags]
        assert len(index.similar(golden / "pictures/0.png", where="tags match 'a tag'", include_self=True)) == len(
            tagged
        )
        assert len(tagged) == 2 * (version(golden) >= 3)
        assert [image.metadata for image in index.images() if image.metadata] == [{"Age": 7}] * (version(golden) >= 3)
    assert (golden / "golden.imgindex/catalogue.db").read_bytes() == before


def test_an_old_index_keeps_new_clusterings_with_the_names_that_it_knows(golden: Path) -> None:
    with ImageIndex.open(golden / "golden.imgindex") as index:
        kept = len(list(index.clusterings))
        found = index.cluster(k=2)
        assert found.id == kept + 1
        assert [cluster.name for cluster in found.clusters] == [None, "the other ones" if kept else None]
        np.testing.assert_array_equal(index.clusterings[found.id].labels, found.labels)


def test_an_old_index_takes_more_images_and_can_be_compacted_and_repaired(golden: Path) -> None:
    draw(golden / "pictures/new.png", 5)
    encoder = GridMean()
    with ImageIndex.open(golden / "golden.imgindex") as index:
        replace_encoder(index, encoder)
        report = index.add([golden / "pictures"])
        # A checkout of the pictures has new times, so they are opened; but nothing known is embedded again.
        assert (report.added, report.unchanged, report.removed, report.failed) == (1, 4, 1, 1)
        assert encoder.embedded == 1
        index.compact()
        assert [Path(path).name for path in index.paths()] == [*NAMES[:4], "new.png"]
        assert index.verify(full=True).ok
    assert ImageIndex.repair(golden / "golden.imgindex").mended == ()
