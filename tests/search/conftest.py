"""A FAISS index that the tests of building and of searching share."""

from __future__ import annotations

import numpy as np
import pytest
from faiss_samples import DIMENSION, ROWS, clustered, in_blocks

from imgindex.search.faiss_build import Built, build
from imgindex.types import VectorBlock


@pytest.fixture(scope="session", params=[np.float32, np.float16], ids=["float32", "float16"])
def blocks(request: pytest.FixtureRequest) -> list[VectorBlock]:
    return in_blocks(clustered(ROWS).astype(request.param))


@pytest.fixture(scope="session")
def built(blocks: list[VectorBlock]) -> Built:
    return build(blocks, dimension=DIMENSION, target=0.99)
