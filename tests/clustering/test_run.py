"""`cluster`: which vectors it reads, where the nearest centroids are found, and what its options do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GridMean
from pictures import draw

import imgindex.clustering.run
import imgindex.encoders.devices
from imgindex import Engine, ImageIndex
from imgindex.clustering.kmeans import kmeans
from imgindex.errors import DeviceUnavailable, ImgindexError, TooFewDistinctVectors, UsageError


def draw_many(folder: Path, numbers: range) -> None:
    for number in numbers:
        colour = np.random.default_rng(number).integers(0, 256, 3)
        draw(folder / f"{number}.png", (int(colour[0]), int(colour[1]), int(colour[2])))


@pytest.mark.parametrize("store", ["fp32", "fp16"])
def test_the_vectors_as_they_are_now_are_clustered_in_the_order_of_ids(tmp_path: Path, store: str) -> None:
    pictures = tmp_path / "pictures"
    draw_many(pictures, range(60))
    with ImageIndex.create(tmp_path / "store", encoder=GridMean(), store=store) as index:
        index.add([pictures])
        draw_many(pictures, range(60, 80))
        (pictures / "7.png").unlink()
        draw(pictures / "9.png", (1, 2, 3))
        index.add([pictures])
        found, expected = index.cluster(6), kmeans(index.vectors(), 6)
        assert len(found.paths) == 79
        np.testing.assert_array_equal(found.ids, index.ids())
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.objective == expected.objective
        index.compact()
        np.testing.assert_array_equal(index.cluster(6).labels, found.labels)


@pytest.mark.slow
def test_large_work_goes_to_the_gpu_and_small_work_does_not(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgindex.clustering import nearest_torch

    draw_many(tmp_path / "pictures", range(40))
    index.add([tmp_path / "pictures"])
    expected = index.cluster(5)
    asked = []

    def by_torch(device: str, *, instead: object) -> object:
        asked.append(device)
        return on_processor("cpu")

    on_processor = nearest_torch.NearestByTorch
    monkeypatch.setattr(nearest_torch, "NearestByTorch", by_torch)
    monkeypatch.setattr(imgindex.encoders.devices, "choose_device", lambda name: "cuda")
    index.cluster(5)
    assert asked == []
    monkeypatch.setattr(imgindex.clustering.nearest, "WORTH_A_GPU", 0)
    np.testing.assert_array_equal(index.cluster(5).labels, expected.labels)
    assert asked == ["cuda"]


@pytest.mark.slow
def test_a_device_that_is_not_there_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    draw_many(tmp_path / "pictures", range(5))
    index.add([tmp_path / "pictures"])
    index.engine = Engine(device="cuda")
    with pytest.raises(DeviceUnavailable, match="cuda"):
        index.cluster(2)


def test_faiss_clusters_and_small_work_loads_no_torch(index: ImageIndex, tmp_path: Path) -> None:
    draw_many(tmp_path / "pictures", range(10))
    index.add([tmp_path / "pictures"])
    code = (
        "import sys; from imgindex import ImageIndex\n"
        f"with ImageIndex.open({str(index.path)!r}) as index: print(len(index.cluster(3).sizes))\n"
        "print({'torch', 'faiss'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["3", "{'faiss'}"]


def test_anchors_name_the_clusters_that_grew_from_them(index: ImageIndex, kinds: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new.png", (0, 190, 0))
    found = index.cluster(anchors={"leaves": [tmp_path / "new.png"], "roses": [kinds / "red/red3.png"]})
    assert [(cluster.name, cluster.size) for cluster in found.clusters] == [("roses", 10), ("leaves", 8)]
    assert all("red" in path for path, label in zip(found.paths, found.labels, strict=True) if label == 0)
    again = index.cluster(3, anchors={"leaves": [kinds / "green/green1.png"]})
    (leaves,) = [cluster for cluster in again.clusters if cluster.name == "leaves"]
    assert leaves.id == found.clusters[1].id
    with pytest.raises(UsageError, match="k=1 is less than the number of anchors, 2"):
        index.cluster(1, anchors={"a": [kinds / "red/red3.png"], "b": [kinds / "red/red4.png"]})
    with pytest.raises(UsageError, match="has no images"):
        index.cluster(2, anchors={"a": []})


def test_even_and_small_clusters_are_even_and_small(index: ImageIndex, kinds: Path) -> None:
    assert index.cluster(2, balanced=True).sizes == (9, 9)
    assert max(index.cluster(4, max_size=5).sizes) <= 5
    with pytest.raises(UsageError, match="both balanced and max_size"):
        index.cluster(2, balanced=True, max_size=9)


def test_an_unknown_option_is_a_mistake_in_the_call(index: ImageIndex, kinds: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'restart'"):
        index.cluster(2, restart=3)  # type: ignore[call-arg]


def test_numbers_beyond_64_bits_are_only_large_numbers(index: ImageIndex, kinds: Path) -> None:
    assert index.cluster(2, max_size=10**30, seed=10**30, iterations=10**30).k == 2
    with pytest.raises(ImgindexError, match="k must be less than the number of images"):
        index.cluster(range(2, 10**30))
    with pytest.raises(ImgindexError, match="more than the number of vectors"):
        index.cluster(10**30)


def test_requirements_are_checked_before_the_work(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    stages: list[str] = []
    with pytest.raises(UsageError, match="k=3 and a limit of 2 leave room for 6 of 12 images"):
        index.cluster(3, max_size=2, on_progress=lambda progress: stages.append(progress.stage))
    with pytest.raises(UsageError, match="k=3 and a limit of 2"):
        index.cluster(range(2, 4), max_size=2, on_progress=lambda progress: stages.append(progress.stage))
    with pytest.raises(TooFewDistinctVectors, match="k must be less than the number of images, 12, not 12"):
        index.cluster(range(2, 20), on_progress=lambda progress: stages.append(progress.stage))
    assert set(stages) == {"read vectors", "choosing k"}


def test_progress_counts_images_from_the_start(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    seen: list[tuple[str, int, int]] = []
    index.cluster(3, on_progress=lambda progress: seen.append((progress.stage, progress.done, progress.total)))
    assert seen[:3] == [("read vectors", 0, 0), ("read vectors", 12, 12), ("k-means", 0, 12)]
    assert seen[-1] == ("k-means", 12, 12)
