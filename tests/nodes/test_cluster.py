"""Workers on the nodes of a real Ray cluster: started, refused, lost, replaced; and errors where there can be none."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from forking import Run
from pictures import draw
from ray_nodes import ADDRESS, RayNodes
from small_recipe import SMALL

from imgindex import ImageIndex
from imgindex.errors import ClusterUnavailable, ExtraMissing, UsageError
from imgindex.nodes import cluster
from imgindex.nodes.cluster import Cluster

# Runs in a process of its own, where the nodes are.
BEGIN = '''
import sys, time
from imgindex.errors import ImgindexError
from imgindex.nodes import cluster
from imgindex.nodes.cluster import Answer, Cluster, Lost, Ready

events = []

def until(workers, kind, seconds=60):
    """Take the events of a kind. Those of other kinds that come with them are kept for the next call."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        events.extend(workers.events(0.2))
        found = [event for event in events if isinstance(event, kind)]
        if found:
            events[:] = [event for event in events if not isinstance(event, kind)]
            return found
    raise AssertionError(f"no {kind.__name__}")

def error(begin):
    started = time.monotonic()
    try:
        with begin() as workers:
            while time.monotonic() < started + 60:
                workers.events(0.2)
    except ImgindexError as raised:
        print(type(raised).__name__, raised, "|", raised.hint, round(time.monotonic() - started))

address, work = sys.argv[1], "node_work:Work"
'''


def script(nodes: RayNodes, text: str) -> str:
    """Run a program where the nodes are; return what it prints."""
    command = nodes.inside(sys.executable, "-c", BEGIN + text, ADDRESS)
    done = subprocess.run(command, env=nodes.environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", "http://head:6379", ":6379", "a b:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="not the address of a Ray cluster") as raised:
        cluster.check_address(address)
    assert raised.value.hint == "write it as HOST:PORT, or local for this machine"


@pytest.mark.parametrize("address", ["local", "head:6379", "10.0.0.1:6379", "[::1]:6379", "head.example.org:1"])
def test_an_address_needs_ray(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing) as raised:
        cluster.check_address(address)
    assert raised.value.hint == "pip install 'imgindex[ray]'"


def test_a_wrong_address_is_an_error_of_usage_before_there_is_an_index(run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "pictures/0.png", 1)
    result = run("add", "pictures", *SMALL, env={"IMGINDEX_RAY": "somewhere"})
    assert (result.returncode, result.stdout) == (2, "")
    assert "'somewhere' is not the address of a Ray cluster; write it as HOST:PORT" in result.stderr
    assert not (tmp_path / ".imgindex").exists()


def test_an_encoder_that_was_given_here_cannot_be_used_on_nodes(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(UsageError, match="make their encoder from the recipe"):
        index.add(folder, ray="head:6379")
    with pytest.raises(UsageError, match="make their encoder from the recipe"):
        ImageIndex.repair(index.path, encoder=index.encoder, ray="head:6379")
    assert len(index) == 0


def test_each_node_gets_a_worker_and_a_worker_that_dies_is_replaced(nodes: RayNodes) -> None:
    printed = script(
        nodes,
        """
with Cluster(address, work, {"word": "it"}, concurrency=2) as workers:
    while len(workers.ready) < 2:
        workers.events(0.2)
    print(workers.nodes, sorted((worker.node.cpus, worker.info) for worker in workers.ready))
    one, other = workers.ready
    first, dying = workers.call(one, "double", 21), workers.call(other, "die")
    waiting = workers.call(other, "double", 1)
    found = until(workers, Answer)
    print([answer.value for answer in found if answer.ticket == first])
    lost = until(workers, Lost)[0]
    print(lost.worker is other, set(lost.tickets) == {dying, waiting}, workers.nodes)
    ready = until(workers, Ready)[0].worker
    again = workers.call(ready, "double", 4)
    print(ready.node.id == other.node.id, [answer.value for answer in until(workers, Answer)])
""",
    )
    assert printed.splitlines() == ["2 [(2, 'it'), (2, 'it')]", "[42]", "True True 1", "True [8]"]
    assert nodes.processes() == []


def test_a_node_with_another_version_or_without_what_the_work_needs_is_refused(nodes: RayNodes) -> None:
    printed = script(
        nodes,
        """
error(lambda: Cluster(address, work, {"word": "missing"}))
cluster.VERSION = "0.0.1"
error(lambda: Cluster(address, work, {"word": "it"}))
""",
    )
    missing, version = printed.splitlines()
    assert "no node of the Ray cluster 127.0.0.1:6399 can work for this machine: there is no word" in missing
    assert "and 0.0.1 here" in version
    assert "install the same version of imgindex on the nodes" in version


def test_where_no_node_gives_its_processors_that_is_an_error_in_time(nodes: RayNodes) -> None:
    printed = script(
        nodes,
        """
with Cluster(address, work, {"word": "it"}) as workers:
    while len(workers.ready) < 2:
        workers.events(0.2)
    cluster.CLAIM_SECONDS = 4
    error(lambda: Cluster(address, work, {"word": "it"}))
    cluster.CLAIM_SECONDS = 30
""",
    )
    assert "gave no worker its CPUs within 4 s: 0 are free, wanted are 2 of 127.0.0." in printed
    assert "take fewer with `workers=N`" in printed
    assert int(printed.split()[-1]) < 20


def test_an_error_that_the_work_raises_ends_the_task(nodes: RayNodes) -> None:
    printed = script(
        nodes,
        """
for method in ("refuse", "break_down"):
    try:
        with Cluster(address, work, {"word": "it"}) as workers:
            workers.call(until(workers, Ready)[0].worker, method)
            until(workers, Answer)
    except Exception as raised:
        print(type(raised).__name__, getattr(raised, "stage", ""), raised)
""",
    )
    refused, broken = printed.splitlines()
    assert refused.startswith("SourceUnavailable read the server is away (on node 127.0.0.")
    assert broken.startswith("RuntimeError  on node 127.0.0.")
    assert broken.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:1", "Connection refused"), ("127.0.0.1:99999", ""), ("no-such-host.invalid:6379", "")],
)
def test_where_nothing_listens_the_error_names_the_address(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ClusterUnavailable, match=f"the Ray cluster {address} does not answer: {reason}") as raised:
        Cluster(address, "node_work:Work", {"word": "it"}).__enter__()
    assert "look at it with `ray status`" in raised.value.hint


def test_what_listens_but_is_not_ray_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ClusterUnavailable, match="does not answer within 2 s"):
            Cluster(address, "node_work:Work", {"word": "it"}).__enter__()
    assert time.monotonic() - started < cluster.END_SECONDS
