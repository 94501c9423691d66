"""Files of vectors, compared with what their own libraries write."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from imgindex import ImageIndex


@pytest.mark.parametrize("where", [None, "id in (2, 5, 7)", "false"])
def test_a_faiss_file_is_byte_for_byte_what_faiss_writes(filled: ImageIndex, where: str | None) -> None:
    count = filled.export("it.faiss", where=where)
    index = faiss.read_index("it.faiss")
    ids = [image.id for image in filled.images(where=where)]
    vectors = filled.vectors()[[id - 1 for id in ids]]
    expected = faiss.IndexIDMap2(faiss.IndexFlatL2(12))
    expected.add_with_ids(vectors, np.array(ids, dtype=np.int64))
    assert Path("it.faiss").read_bytes() == faiss.serialize_index(expected).tobytes()
    assert (index.ntotal, index.d) == (count, 12) == (len(ids), 12)
    if ids:
        np.testing.assert_array_equal(index.search(vectors, 1)[1][:, 0], ids)
        np.testing.assert_array_equal(index.reconstruct(ids[-1]), vectors[-1])
