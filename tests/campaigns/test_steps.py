"""No step of the store on its disk can fail, die or lose its power so that an acknowledged image is lost."""

from __future__ import annotations

from steps import run
from steps_scenes import SCENES

ALWAYS = {"open", "write", "truncate", "sync", "rename", "sync folder", "commit", "checkpoint"}
WAYS = {
    "death before", "death in the middle", "death after", "death in the process",
    "power loss before", "failure", "failure for ever",
}  # fmt: skip


def test_an_index_outlives_every_step_of_every_operation() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    operations = figures["by operation"]
    assert operations.keys() == {scene.name for scene in SCENES}
    for name, one in operations.items():
        assert one["kinds"].keys() >= ALWAYS, name
        assert one["ways"].keys() >= WAYS, name
        assert one["tried"] >= len(ALWAYS), name
    assert {kind for one in operations.values() for kind in one["kinds"]} >= {"vacuum", "make folder", "unlink"}
    assert figures["steps"] > 400
