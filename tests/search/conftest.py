"""A FAISS index and a Milvus server that the tests of building and of searching share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import milvus_server
import numpy as np
import pytest
from faiss_samples import DIMENSION, ROWS, clustered, in_blocks
from milvus_server import Addresses, MilvusProcess

from imgindex.search.faiss_build import Built, build
from imgindex.types import VectorBlock


@pytest.fixture(scope="session", params=[np.float32, np.float16], ids=["float32", "float16"])
def blocks(request: pytest.FixtureRequest) -> list[VectorBlock]:
    return in_blocks(clustered(ROWS).astype(request.param))


@pytest.fixture(scope="session")
def built(blocks: list[VectorBlock]) -> Built:
    return build(blocks, dimension=DIMENSION, target=0.99)


@pytest.fixture(scope="session")
def milvus_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the server that all processes of this run share, while it runs."""
    if (reason := milvus_server.why_not()) is not None:
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with milvus_server.using(shared / "milvus") as server:
        yield server.folder


@pytest.fixture
def milvus(milvus_folder: Path) -> Iterator[Addresses]:
    """Makes addresses of new collections of a real Milvus server, which are dropped after the test."""
    with milvus_server.addresses(milvus_folder) as made:
        yield made


@pytest.fixture
def mortal_milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Addresses, MilvusProcess]]:
    """Another server, which no other test uses, and its process, which may be killed."""
    if os.environ.get(milvus_server.VARIABLE):
        pytest.skip(f"the server of {milvus_server.VARIABLE} is not ended")
    if (reason := milvus_server.why_not()) is not None:
        pytest.skip(reason)
    with (
        milvus_server.using(tmp_path_factory.mktemp("mortal") / "milvus") as server,
        milvus_server.addresses(server.folder) as made,
    ):
        try:
            yield made, server
        finally:
            server.restart()
