"""One collection of a real Milvus server: whose it is, what it holds, and how a server that is away is noticed."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import milvus_server
import numpy as np
import pytest
from milvus_server import Addresses

from imgindex.errors import CollectionNotOurs, ExtraMissing, SearchUnavailable
from imgindex.search.milvus_address import MilvusAddress, milvus_address

pytest.importorskip("pymilvus", reason="pymilvus is not installed")
from imgindex.search import milvus as module
from imgindex.search.milvus import ALIVE, CONNECT, FLAT, HNSW, TIMEOUT, Collection, Owner, credentials

OWNER = Owner("an index", "a recipe")


@pytest.fixture
def address(milvus: Addresses) -> MilvusAddress:
    return milvus_address(milvus())


@pytest.fixture(scope="module")
def made(milvus_folder: Path) -> Iterator[Collection]:
    """A new collection of vectors of two numbers."""
    with (
        milvus_server.addresses(milvus_folder) as addresses,
        closing(Collection.connect(milvus_address(addresses()))) as opened,
    ):
        assert not opened.exists(OWNER, 2)
        opened.create(OWNER, 2, FLAT)
        yield opened


@pytest.fixture
def collection(made: Collection) -> Collection:
    """The collection without rows."""
    made.delete(made.stored(last=0)[0])
    return made


@pytest.fixture
def no_server() -> Iterator[MilvusAddress]:
    """An address at which a connection is accepted, and nothing is answered."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield MilvusAddress("127.0.0.1", listener.getsockname()[1], "photos")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("TOKEN", "USER", "PASSWORD", "SECURE", "CA_PEM_PATH", "DB_NAME"):
        monkeypatch.delenv(f"MILVUS_{name}", raising=False)
    return monkeypatch


def test_it_holds_what_was_put_and_not_what_was_deleted(collection: Collection) -> None:
    vectors = np.array([[0, 0], [1, 0], [5, 5]], np.float32)
    collection.put(np.array([9, 3, 7]), np.array([90, 30, 70]), vectors)
    collection.put(np.array([3]), np.array([31]), np.array([[4, 5]], np.float32))
    assert collection.count() == 3
    ids, crcs = collection.stored(last=9)
    assert (ids.tolist(), crcs.tolist()) == ([3, 7, 9], [31, 70, 90])
    found = collection.search(np.array([[5, 5], [0, 0]], np.float32), 4, kind=FLAT, ef=0, strong=True)
    assert found.tolist() == [[7, 3, 9, -1], [9, 3, 7, -1]]
    collection.delete(np.array([3, 1000]))
    assert (collection.stored(last=9)[0].tolist(), collection.count()) == ([7, 9], 2)


def test_its_index_can_be_of_another_kind_and_it_is_loaded_where_it_is_not_in_memory(collection: Collection) -> None:
    assert collection.kind() == FLAT
    collection.set_kind(HNSW)
    assert collection.kind() == HNSW
    collection.put(np.array([1]), np.array([1]), np.ones((1, 2), np.float32))
    collection._client.release_collection(collection.address.collection)
    assert collection.search(np.ones((1, 2), np.float32), 2, kind=HNSW, ef=8, strong=True).tolist() == [[1, -1]]


def test_all_ids_are_listed_in_order_a_part_at_a_time(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED", 7)
    ids = np.random.default_rng(0).permutation(50) + 1
    collection.put(ids, 2 * ids, np.ones((50, 2), np.float32))
    listed, crcs = collection.stored(last=45)
    assert (listed.tolist(), crcs.tolist()) == (list(range(1, 51)), list(range(2, 102, 2)))


def test_the_collection_of_another_index_recipe_or_dimension_is_not_ours(collection: Collection) -> None:
    assert collection.exists(OWNER, 2)
    for owner, dimension, reason in (
        (Owner("another index", "a recipe"), 2, "another index"),
        (Owner("an index", "another recipe"), 2, "another recipe"),
        (OWNER, 3, "vectors of 2 numbers"),
    ):
        with pytest.raises(CollectionNotOurs, match=reason):
            collection.exists(owner, dimension)


def test_a_collection_that_imgindex_did_not_make_is_not_ours(address: MilvusAddress) -> None:
    with closing(Collection.connect(address)) as opened:
        client = opened._client
        schema = client.create_schema(auto_id=False, description='{"imgindex": 1}')
        schema.add_field("id", module.DataType.INT64, is_primary=True)
        schema.add_field("vector", module.DataType.FLOAT_VECTOR, dim=2)
        client.create_collection(address.collection, schema=schema)
        with pytest.raises(CollectionNotOurs, match="not made by imgindex"):
            opened.exists(OWNER, 2)


def test_a_server_that_does_not_answer_is_noticed_within_15_seconds(
    no_server: MilvusAddress, clean: pytest.MonkeyPatch
) -> None:
    assert max(CONNECT, TIMEOUT + ALIVE) + 1 < 15
    clean.setattr(module, "CONNECT", 0.5)
    clean.setenv("MILVUS_TOKEN", "root:a-secret-of-the-tests")
    with pytest.raises(SearchUnavailable, match="does not answer") as raised:
        Collection.connect(no_server)
    assert "secret" not in str(raised.value)
    assert "--search local" in raised.value.hint


def test_credentials_and_tls_come_from_the_environment(clean: pytest.MonkeyPatch) -> None:
    assert credentials() == {"secure": False}
    clean.setenv("MILVUS_TOKEN", "a:b")
    clean.setenv("MILVUS_SECURE", "1")
    clean.setenv("MILVUS_DB_NAME", "pictures")
    assert credentials() == {"secure": True, "token": "a:b", "db_name": "pictures"}
    clean.setenv("MILVUS_SECURE", "0")
    clean.setenv("MILVUS_CA_PEM_PATH", "/ca.pem")
    assert credentials()["secure"] is True


def test_a_certificate_that_is_not_there_is_an_error_that_names_it(
    no_server: MilvusAddress, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("MILVUS_SERVER_PEM_PATH", "/nowhere/server.pem")
    with pytest.raises(SearchUnavailable, match=r"/nowhere/server\.pem"):
        Collection.connect(no_server)


def test_without_pymilvus_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    monkeypatch.delitem(sys.modules, "imgindex.search.milvus")
    with pytest.raises(ExtraMissing) as raised:
        __import__("imgindex.search.milvus")
    assert raised.value.hint == "install it: pip install pymilvus"
