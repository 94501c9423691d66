"""The plot of the silhouette that `cluster -k auto` prints."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run
from pictures import draw
from small_recipe import SMALL


def test_cluster_chooses_k_and_shows_why(run: Run, tmp_path: Path) -> None:
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    for number in range(24):
        red, green, blue = colours[number % 3]
        draw(tmp_path / "test" / f"{number}.png", (red, green, blue - number // 3 if blue > 99 else blue + number // 3))
    run("add", "test", *SMALL)
    result = run("cluster", "-k", "2..6")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stderr.splitlines()[1:6]] == ["2", "→", "4", "5", "6"]
    assert "of 2 to 6 clusters, 3 have the greatest silhouette (0." in result.stderr
    assert "█" not in result.stdout
    provenance = json.loads(run("cluster", "-k", "auto", "--json").stdout)
    assert provenance["k"] == 3
    assert [score["k"] for score in provenance["curve"]] == [2, 3, 4, 5, 6, 7, 8]
    assert provenance["sizes"] == [8, 8, 8]
    assert run("cluster", "-k", "auto", "--quiet", "--format", "csv").stderr == ""
