from __future__ import annotations

import pytest

from imgindex.errors import UsageError
from imgindex.search.milvus_address import milvus_address


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("milvus://localhost/photos", "milvus://localhost:19530/photos"),
        ("MILVUS://Search.Example:1/_Photos2", "milvus://search.example:1/_Photos2"),
        ("milvus://[::1]/a", "milvus://[::1]:19530/a"),
        ("milvus://[::1]:80/a", "milvus://[::1]:80/a"),
    ],
)
def test_an_address_of_a_search_has_one_form(given: str, normal: str) -> None:
    assert str(milvus_address(given)) == normal
    assert milvus_address(normal) == milvus_address(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("locale", "does not name a search"),
        ("http://localhost:19530/photos", "does not name a search"),
        ("milvus://", "names no server"),
        ("milvus:///photos", "names no server"),
        ("milvus://host:0/photos", "names no server"),
        ("milvus://host:65536/photos", "names no server"),
        ("milvus://host:port/photos", "names no server"),
        ("milvus://ho st/photos", "names no server"),
        ("milvus://::1/photos", "names no server"),
        ("milvus://host", "not the name of a collection"),
        ("milvus://host/my-photos", "not the name of a collection"),
        ("milvus://host/1st", "not the name of a collection"),
        ("milvus://host/photos/2", "not the name of a collection"),
        ("milvus://user:secret@host/photos", "which the index would store"),
    ],
)
def test_what_is_no_address_of_a_search_is_refused_without_its_secrets(given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        milvus_address(given)
    assert "secret" not in f"{raised.value} {raised.value.hint}"
