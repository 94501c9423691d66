"""K-means over shards on two real nodes: the labels and centroids of one machine, also when a node is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import ADDRESS, RayNodes, answer
from small_recipe import SMALL

SCRIPT = """
import json, os, signal, sys
import numpy as np
from kmeans_checks import blobs
from imgindex.clustering.kmeans import kmeans
from imgindex.clustering.ray_lloyd import RayClusters, ShardedLloyd

address = sys.argv[1]

def compare(vectors, k, *, shards=None, watch=lambda clusters: None, **options):
    counted = []
    one = kmeans(vectors, k, **options)
    with RayClusters(address, shards=shards, on_progress=counted.append) as clusters:
        watch(clusters)
        many = kmeans(vectors, k, make_clusters=clusters, **options)
        number = len(clusters._shards.places)
    print(json.dumps({
        "labels": bool((one.labels == many.labels).all()), "sizes": min(many.sizes),
        "centroids": float(abs(one.centroids - many.centroids).max()),
        "iterations": [one.iterations, many.iterations],
        "objective": (many.objective - one.objective) / max(one.objective, 1.0),
        "shards": number, "steps": len(counted), "nodes": max(one.nodes for one in counted),
    }), flush=True)

uniform = np.random.default_rng(3).random((20_000, 24), dtype=np.float32)
start = uniform[np.random.default_rng(5).choice(len(uniform), 12, replace=False)]
"""


def compared(nodes: RayNodes, text: str) -> list[dict[str, Any]]:
    """Run comparisons where the nodes are; check what all must fulfil, and return what they printed."""
    command = nodes.inside(sys.executable, "-c", SCRIPT + text, ADDRESS)
    done = subprocess.run(command, env=nodes.environment(), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert found
    for one in found:
        assert one["labels"]
        assert one["centroids"] <= 1e-6
        assert abs(one["objective"]) < 1e-12
        assert one["iterations"][0] == one["iterations"][1]
        assert one["sizes"] > 0
    return found


def test_two_and_three_shards_have_the_labels_of_one_machine(nodes: RayNodes) -> None:
    two, three, far, seeded, empty = compared(
        nodes,
        """
compare(uniform, 12, shards=2, init=start, iterations=60)
compare(uniform, 12, shards=3, init=start, iterations=60)
compare(uniform[:9000] + 50, 12, shards=3, init=start + 50, iterations=60)  # less an origin
compare(blobs(12_000, 40, 6), 6, shards=2)                       # with seeding, and steps in the span of the centroids
same = np.repeat(blobs(8, 5, 8), 1200, axis=0)
compare(same, 8, shards=2, init=np.repeat(same[:1], 8, axis=0))  # clusters that begin empty
""",
    )
    assert [one["shards"] for one in (two, three, far, seeded, empty)] == [2, 3, 3, 2, 2]
    assert two["nodes"] == 2
    # There were many steps in which a difference could show.
    assert min(two["iterations"][0], three["iterations"][0], far["iterations"][0]) > 20


def test_a_shard_whose_node_is_lost_is_sent_to_another_one(nodes: RayNodes) -> None:
    (found,) = compared(
        nodes,
        """
def kill_at_the_tenth_step(clusters):
    assign = ShardedLloyd.assign

    def assigned(self):
        if self.steps == 10:
            owner = self._shards._owners[1]
            self._shards.cluster.call(owner, "on", 1, "__class__")  # it is busy
            self._shards.cluster._send("end", owner.key)
            self._shards.cluster._on_lost(owner.key, "as if its node was gone")
        assign(self)

    ShardedLloyd.assign = assigned

compare(uniform, 12, shards=3, init=start, iterations=60, watch=kill_at_the_tenth_step)
""",
    )
    assert found["iterations"][0] > 20


def test_the_command_chooses_k_balances_and_answers_as_on_one_machine(nodes: RayNodes, clustered: Path) -> None:
    command = ("cluster", "-k", "auto", "--max-size", "balanced", "--index", clustered, "--json")
    here, there = (answer(nodes.run(*command, *ray)) for ray in ((), ("--ray", ADDRESS)))
    for one in (here, there):
        one["clusters"] = [(cluster["label"], cluster["size"]) for cluster in one["clusters"]]
    for name in ("k", "clusters", "objective", "iterations", "curve"):
        assert here[name] == there[name]


@pytest.fixture(scope="module")
def clustered(nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pictures import draw

    folder = tmp_path_factory.mktemp("clustered")
    for number in range(24):
        draw(folder / f"{number}.png", number)
    answer(nodes.run("add", folder, *SMALL, "--index", folder / "it.imgindex", "--json"))
    return folder / "it.imgindex"
