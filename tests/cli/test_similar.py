"""`imgindex similar`: answers in JSON, limits, and images that are not indexed or cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run
from pictures import draw


def test_similar_answers_in_json_as_the_contract_says(run: Run, added: Path) -> None:
    result = run("similar", "pictures/a/0.png", "-n", "3", "--json")
    assert result.returncode == 0
    (answer,) = json.loads(result.stdout)
    assert answer["query"] == "pictures/a/0.png"
    assert [match["rank"] for match in answer["matches"]] == [1, 2, 3]
    assert all(list(match) == ["rank", "path", "distance", "id"] for match in answer["matches"])
    assert "pictures/a/0.png" not in [match["path"] for match in answer["matches"]]
    distances = [match["distance"] for match in answer["matches"]]
    assert distances == sorted(distances)


def test_similar_includes_the_image_itself_on_request(run: Run, added: Path) -> None:
    (answer,) = json.loads(run("similar", "pictures/a/0.png", "--include-self", "--json").stdout)
    assert answer["matches"][0]["path"] == "pictures/a/0.png"
    assert answer["matches"][0]["distance"] == 0


def test_similar_leaves_out_what_is_farther_than_the_limit(run: Run, added: Path) -> None:
    (everything,) = json.loads(run("similar", "pictures/a/0.png", "-n", "100", "--json").stdout)
    limit = everything["matches"][4]["distance"]
    (near,) = json.loads(run("similar", "pictures/a/0.png", "--max-distance", str(limit), "--json").stdout)
    assert near["matches"] == everything["matches"][:5]


def test_similar_takes_an_image_that_is_not_indexed(run: Run, added: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new.png", 3, size=(40, 40))
    (answer,) = json.loads(run("similar", "new.png", "--json").stdout)
    assert answer["matches"][0]["path"] == "pictures/a/3.png"


def test_similar_answers_for_the_readable_images_and_names_the_others(run: Run, added: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    result = run("similar", "bad.jpg", "pictures/a/0.png", "--json")
    assert result.returncode == 3
    assert [answer["query"] for answer in json.loads(result.stdout)] == ["pictures/a/0.png"]
    assert "bad.jpg" in result.stderr
    alone = run("similar", "bad.jpg")
    assert (alone.returncode, alone.stdout) == (1, "")
    assert len(alone.stderr.strip().splitlines()) == 1
