"""Files of FAISS: what was saved is loaded, and nothing else, be it damaged or another index altogether."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from imgindex.search import faiss_build
from imgindex.search.faiss_build import Built, build
from imgindex.search.faiss_codes import new_codes
from imgindex.search.faiss_ivf import IvfSearch, joined, load, parts_of, save, stored_ids
from imgindex.storage import derived
from imgindex.types import VectorBlock
from imgindex.vectors import pca

DIMENSION = 16


@pytest.fixture(scope="module")
def blocks() -> list[VectorBlock]:
    vectors = np.random.default_rng(0).standard_normal((2000, DIMENSION)).astype(np.float32)
    return [VectorBlock(np.arange(1, 4001, 2), vectors)]


@pytest.fixture(scope="module", params=["whole", "reduced", "graph"])
def built(request: pytest.FixtureRequest, blocks: list[VectorBlock]) -> Built:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "reduced":
            patch.setattr(pca, "REDUCTIONS", ((7, 0.0),))
        if request.param == "graph":
            patch.setattr(faiss_build, "MANY_LISTS", 1)
        found = build(blocks, dimension=DIMENSION, target=0.99)
    assert isinstance(found.index, faiss.IndexPreTransform) == (request.param == "reduced")
    return found


def saved(index: object) -> bytes:
    file = io.BytesIO()
    save(index, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def data(built: Built) -> bytes:
    return saved(built.index)


def loaded(data: bytes, built: Built) -> object | None:
    return load(io.BytesIO(data), len(data), built.metadata)


def test_what_is_saved_is_loaded(tmp_path: Path, built: Built, blocks: list[VectorBlock]) -> None:
    path = str(tmp_path / "index")
    sha256, size = derived.write(path, lambda file: save(built.index, file))
    with derived.opened(path, sha256, size) as file:
        assert file is not None
        index = load(file, size, built.metadata)
    queries = np.random.default_rng(1).standard_normal((20, DIMENSION)).astype(np.float32)
    one, two = (IvfSearch(each, built.metadata, blocks, [2000]).search(queries, 10) for each in (built.index, index))
    np.testing.assert_array_equal(one.ids, two.ids)
    np.testing.assert_array_equal(one.distances, two.distances)


def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index"
    before = derived.write(str(path), lambda file: save(built.index, file))
    real, room = os.pwrite, [30_000]

    def write(descriptor: int, data: memoryview, offset: int) -> int:
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        with pytest.raises(OSError, match="No space left"):
            derived.write(str(path), lambda file: save(built.index, file))
    assert list(tmp_path.iterdir()) == [path]
    with derived.opened(str(path), *before) as file:
        assert file is not None


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes cut short, with something behind them, or with up to three of them changed."""
    kind = chance.choice(["cut", "longer", "changed", "changed"])
    if kind == "cut":
        return data[: chance.randrange(len(data))]
    if kind == "longer":
        return data + chance.randbytes(chance.randint(1, 5000))
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        # Half of them where the sizes and types stand.
        place = chance.choice([chance.randrange(len(data)), chance.randrange(200)])
        changed[place] ^= chance.randint(1, 255)
    return bytes(changed) if changed != data else data + b"\0"


def test_none_of_300_damaged_files_reaches_faiss(tmp_path: Path, built: Built, data: bytes) -> None:
    path, chance = tmp_path / "index", random.Random(0)
    written = derived.write(str(path), lambda file: save(built.index, file))
    for number in range(300):
        path.write_bytes(damaged(data, chance))
        with derived.opened(str(path), *written) as file:
            assert file is None, number
    path.write_bytes(data)
    with derived.opened(str(path), *written) as file:
        assert file is not None


def test_files_cut_short_or_too_long_are_refused_even_unchecked(built: Built, data: bytes) -> None:
    assert loaded(data, built) is not None
    for size in {*range(0, len(data), 331), *range(300), len(data) - 1}:
        assert loaded(data[:size], built) is None, size
    assert loaded(data + b"\0", built) is None


def test_an_index_of_other_rows_is_not_loaded(built: Built, data: bytes) -> None:
    for change in ({"rows": 1999}, {"nlist": built.metadata.nlist + 1}, {"dimension": DIMENSION * 2}):
        assert load(io.BytesIO(data), len(data), replace(built.metadata, **change)) is None


@pytest.mark.parametrize(
    "factory",
    [
        "Flat",
        "IVF{},Flat",
        "IVF{},SQfp16",
        "IVF{},SQ4",
        "IVF{}_HNSW8,SQ8",
        "IVF{},SQ8",
        "IVF{},RaBitQ",
        "IVF{},PQ4x4fs",
    ],
)
def test_another_type_of_index_is_not_loaded(built: Built, blocks: list[VectorBlock], factory: str) -> None:
    other = faiss.index_factory(DIMENSION, factory.format(built.metadata.nlist))
    other.train(blocks[0].vectors)
    other.add(blocks[0].vectors)
    assert other.ntotal == built.metadata.rows
    assert loaded(saved(other), built) is None


def test_another_reduction_is_not_loaded(built: Built, blocks: list[VectorBlock]) -> None:
    factory = next(part for part in built.metadata.factory.split(",") if part.startswith("IVF")) + ",RaBitQfs"
    for before in ("OPQ4_16", "PCA5,PCA4", "ITQ8", "PCA7"):
        other = faiss.index_factory(DIMENSION, f"{before},{factory}")
        other.train(blocks[0].vectors)
        other.add(blocks[0].vectors)
        assert loaded(saved(other), built) is None, before


def test_other_codes_are_not_loaded(built: Built, blocks: list[VectorBlock]) -> None:
    """Of other ids, and in another type of index."""
    parts = parts_of(built.index)
    if parts.reduction is None:
        pytest.skip("whole rows have no codes")
    points = parts.reduction.apply(blocks[0].vectors)
    same, other_ids = new_codes(points), new_codes(points)
    same.add_with_ids(points, blocks[0].ids)
    other_ids.add_with_ids(points, blocks[0].ids + 1)
    flat = faiss.IndexFlatL2(points.shape[1])
    flat.add(points)
    kept = [loaded(saved(joined(replace(parts, codes=codes))), built) for codes in (same, other_ids, flat)]
    assert [found is not None for found in kept] == [True, False, False]


def test_an_index_by_inner_product_is_not_loaded(built: Built, blocks: list[VectorBlock]) -> None:
    lists = f"IVF{built.metadata.nlist},RaBitQfs"
    other = faiss.index_factory(DIMENSION, lists, faiss.METRIC_INNER_PRODUCT)
    other.train(blocks[0].vectors)
    other.add(blocks[0].vectors)
    assert loaded(saved(other), built) is None


def test_an_unreadable_disk_raises_nothing(built: Built, data: bytes) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    assert load(Failing(data), len(data), built.metadata) is None


def test_the_limit_of_what_faiss_reads_is_what_it_was_before(built: Built, data: bytes) -> None:
    before = faiss.get_deserialization_vector_byte_limit()
    limits = []

    class Asking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            limits.append(faiss.get_deserialization_vector_byte_limit())
            return super().read(size)

    for file in (Asking(data), Asking(data[:5000])):
        load(file, len(data), built.metadata)
        assert limits[-2] == len(data)
        assert faiss.get_deserialization_vector_byte_limit() == before


IN_A_PROCESS = """
import io, resource, sys
from imgindex.search.faiss_ivf import SearchMetadata, load
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmPeak")) >> 10
data, metadata = open(sys.argv[1], "rb").read(), SearchMetadata.from_json(sys.argv[2])
assert load(io.BytesIO(data), len(data), metadata) is not None
before = peak()
resource.setrlimit(resource.RLIMIT_AS, ((before + 8192) << 20,) * 2)
for at in map(int, sys.argv[4:]):
    claim = data[:at] + int(sys.argv[3]).to_bytes(8, "little") + data[at + 8:]
    assert load(io.BytesIO(claim), len(claim), metadata) is None
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.parametrize("claim", [50_000_000, 1 << 36, 1 << 60])
def test_a_file_that_claims_gigabytes_takes_no_memory(tmp_path: Path, built: Built, data: bytes, claim: int) -> None:
    """The sizes of the centroids, and of the ids and codes of the first list, one at a time."""
    ivf = faiss.extract_index_ivf(built.index)
    lists = ivf.invlists
    sizes = [lists.list_size(number) for number in range(lists.nlist)]
    ids = faiss.rev_swig_ptr(lists.get_ids(0), sizes[0]).tobytes()
    places = [
        data.index(struct.pack("<Q", lists.nlist * ivf.d)),
        data.index(ids) - 8,
        data.index(ids) + len(ids),
    ]
    (tmp_path / "index").write_bytes(data)
    command = [sys.executable, "-c", IN_A_PROCESS, tmp_path / "index", built.metadata.to_json(), str(claim)]
    result = subprocess.run([*command, *map(str, places)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) < 100


def test_stored_ids_are_those_of_the_rows(built: Built, blocks: list[VectorBlock]) -> None:
    assert sorted(stored_ids(parts_of(built.index).ivf).tolist()) == blocks[0].ids.tolist()
