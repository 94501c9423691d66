"""Eight clients of a server work while `add` runs beside it, and each gets a right answer or a reason."""

from __future__ import annotations

from soak import CLIENTS, run

TASKS = {
    "add", "alike", "cluster_view", "curate", "edit", "enlarge", "events",
    "filter", "lists", "look", "map", "save", "send", "tag",
}  # fmt: skip


def test_clients_of_a_server_are_answered_while_images_are_added() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert {task for task, times in figures["done"].items() if times >= CLIENTS} == TASKS
    assert figures["beside_it"]["add"] >= 2
