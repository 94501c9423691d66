"""`imgindex similar --rerank`: answers of the same form, among averaged vectors, wherever the averages are made."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
from forking import Run
from pictures import contents, draw

RERANK = ("similar", "--rerank")


def answers(run: Run, *arguments: str) -> Any:
    result = run(*RERANK, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_the_form_of_answers_is_the_same_and_distances_are_others(run: Run, here: Path) -> None:
    (plain,) = json.loads(run("similar", "pictures/red/red0.png", "--json").stdout)
    (answer,) = answers(run, "pictures/red/red0.png")
    assert list(answer) == list(plain)
    assert [list(match) for match in answer["matches"]] == [list(match) for match in plain["matches"]]
    assert len(answer["matches"]) == len(plain["matches"]) == 10
    assert [match["distance"] for match in answer["matches"]] != [match["distance"] for match in plain["matches"]]
    for format in ("table", "csv", "tsv", "jsonl", "paths"):
        forms = [run(*command, "pictures/red/red0.png", "--format", format) for command in (("similar",), RERANK)]
        first, second = (form.stdout.splitlines() for form in forms)
        assert len(first) == len(second)
        assert first[0].split()[:1] == second[0].split()[:1] or format == "paths"


def test_a_second_query_reads_what_the_first_one_kept(run: Run, here: Path) -> None:
    first = answers(run, "pictures/red/red0.png")
    made = contents(here / ".imgindex")
    assert "search/smoothed.rows" in made
    assert answers(run, "pictures/red/red0.png") == first
    assert contents(here / ".imgindex") == made


def test_a_file_that_is_hurt_or_gone_is_made_again_silently(run: Run, here: Path) -> None:
    first = answers(run, "pictures/red/red0.png")
    file = here / ".imgindex/search/smoothed.rows"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert answers(run, "pictures/red/red0.png") == first
    (made,) = (here / ".imgindex/search").iterdir()
    made.unlink()
    assert answers(run, "pictures/red/red0.png") == first
    assert run("verify", "--full").returncode == 0


def test_all_options_go_with_it(run: Run, here: Path) -> None:
    (all_of_them,) = answers(run, "pictures/red/red0.png", "-n", "50", "--include-self")
    matches = all_of_them["matches"]
    assert (len(matches), matches[0]["path"], matches[0]["distance"]) == (12, "pictures/red/red0.png", 0)
    limit = matches[4]["distance"]
    (near,) = answers(run, "pictures/red/red0.png", "--include-self", "--max-distance", str(limit), "-n", "50")
    assert near["matches"] == [match for match in matches if match["distance"] <= limit]
    (greens,) = answers(run, "pictures/red/red0.png", "--where", "folder like '%/green'")
    wanted = [match for match in matches if "/green/" in match["path"]]
    assert [(one["id"], one["distance"]) for one in greens["matches"]] == [(m["id"], m["distance"]) for m in wanted]
    draw(here / "new.png", (200, 30, 30))
    both = answers(run, "new.png", "pictures/red/red1.png", "-n", "2")
    assert [len(answer["matches"]) for answer in both] == [2, 2]
    assert all("/red/" in match["path"] for match in both[0]["matches"])
    mixed = run(*RERANK, "new.png", "+", "pictures/red/red1.png", "-n", "3", "--format", "paths")
    assert len(mixed.stdout.splitlines()) == 3


def test_an_index_that_another_process_writes_to_gives_the_same_answers(run: Run, here: Path) -> None:
    with open(here / ".imgindex/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run(*RERANK, "pictures/red/red0.png", "--json")
        assert (result.returncode, len(result.stderr.splitlines())) == (0, 1)
        assert "averaged vectors are made in memory: another process is writing" in result.stderr
        assert not (here / ".imgindex/search").exists()
    assert answers(run, "pictures/red/red0.png") == json.loads(result.stdout)
    assert (here / ".imgindex/search/smoothed.rows").exists()


def test_images_whose_files_are_gone_take_no_part(run: Run, here: Path) -> None:
    answers(run, "pictures/red/red0.png")
    (here / "pictures/red/red1.png").unlink()
    assert run("add", "pictures").returncode == 0
    (answer,) = answers(run, "pictures/red/red0.png", "-n", "50")
    paths = [match["path"] for match in answer["matches"]]
    assert len(paths) == 10
    assert "pictures/red/red1.png" not in paths
    status = json.loads(run("status", "--json").stdout)["smoothed"]
    assert (status["rows"], status["newer"], status["gone"]) == (11, 0, 0)


@pytest.mark.parametrize("columns", ["40", "80"])
def test_status_shows_averages_and_how_fresh_they_are(run: Run, here: Path, columns: str) -> None:
    assert "smoothed" not in run("status", env={"COLUMNS": columns}).stdout
    answers(run, "pictures/red/red0.png")
    table = " ".join(run("status", env={"COLUMNS": columns}).stdout.split())
    assert "12 averaged vectors" in table
    assert "up to date" in table
    assert run("remove", "pictures/red/red1.png").returncode == 0
    assert "1 gone" in " ".join(run("status", env={"COLUMNS": columns}).stdout.split())


def test_an_unreadable_image_fails_as_without_it(run: Run, here: Path) -> None:
    (here / "bad.jpg").write_text("no picture")
    alone = run(*RERANK, "bad.jpg")
    assert (alone.returncode, alone.stdout) == (1, "")
    both = run(*RERANK, "bad.jpg", "pictures/red/red0.png", "--json")
    assert both.returncode == 3
    assert [answer["query"] for answer in json.loads(both.stdout)] == ["pictures/red/red0.png"]
