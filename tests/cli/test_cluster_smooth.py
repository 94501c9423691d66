"""`imgindex cluster --smooth`: what is printed, kept and used again."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run


def test_a_clustering_of_averages_says_so_wherever_it_is_printed(run: Run, here: Path) -> None:
    made = run("cluster", "-k", "3", "--smooth")
    assert made.returncode == 0
    assert "12 images in 3 clusters of averaged vectors, " in made.stderr
    shown = run("clusterings", "show", "1")
    assert shown.stdout == made.stdout
    assert "of averaged vectors" in shown.stderr
    data = json.loads(run("clusterings", "show", "1", "--json").stdout)
    assert data["options"] == {"smooth": True}
    plain = run("cluster", "-k", "3")
    assert "averaged" not in plain.stderr
    assert list(json.loads(run("clusterings", "show", "2", "--json").stdout)) == list(data)
    assert run("clusterings", "show", "1", "--html", "page.html", "-q").returncode == 0
    assert "each averaged with its 8 nearest" in (here / "page.html").read_text()


def test_labels_are_the_same_again_and_columns_of_distances_too(run: Run, here: Path) -> None:
    columns = ("--with", "distance,margin,second,silhouette")
    first = run("cluster", "-k", "3", "--smooth", "--seed", "7", *columns, "--format", "csv").stdout
    bare = run("cluster", "-k", "3", "--smooth", "--seed", "7", "--format", "csv").stdout
    assert [line.split(",")[:2] for line in first.splitlines()] == [line.split(",") for line in bare.splitlines()]
    assert run("clusterings", "show", "1", "--format", "csv").stdout == first
    assert run("clusterings", "show", "2", *columns, "--format", "csv").stdout == first
    (here / ".imgindex/search/smoothed.rows").unlink()
    assert run("clusterings", "show", "2", *columns, "--format", "csv").stdout == first


def test_new_images_are_assigned_by_their_averages(run: Run, here: Path) -> None:
    assert run("cluster", "-k", "3", "--smooth").returncode == 0
    (here / "pictures/red/copy.png").write_bytes((here / "pictures/red/red2.png").read_bytes())
    assert run("add", "pictures", "--assign").returncode == 0
    labels = dict(
        line.split(",") for line in run("clusterings", "assign", "1", "--id", "name", "--format", "csv").stdout.split()
    )
    assert labels["copy.png"] == labels["red2.png"]
    assert json.loads(run("status", "--json").stdout)["smoothed"]["rows"] == 13
