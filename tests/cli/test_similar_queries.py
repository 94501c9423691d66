"""The queries of `imgindex similar`: arguments, stdin and files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from forking import Run
from pictures import draw

CALLS = {
    "one": (["0.png"], ["0.png"]),
    "several": (["0.png", "1.png"], ["0.png", "1.png"]),
    "plus": (["0.png", "+", "1.png"], ["0.png + 1.png"]),
    "minus": (["0.png", "+", "1.png", "-", "2.png"], ["0.png + 1.png - 2.png"]),
    "a mix beside others": (["0.png", "1.png", "-", "2.png", "0.png"], ["0.png", "1.png - 2.png", "0.png"]),
    "stdin": (["-"], ["1.png", "2.png"]),
    "stdin first": (["-", "0.png"], ["1.png", "2.png", "0.png"]),
    "stdin last": (["0.png", "-"], ["0.png", "1.png", "2.png"]),
    "a file called +": (["./+"], ["./+"]),
    "a list": (["--from", "list.txt"], ["2.png", "0.png"]),
    "after words": (["1.png", "--from", "list.txt"], ["1.png", "2.png", "0.png"]),
    "jsonl": (["--from", "list.jsonl"], ["1.png", "0.png + 1.png - 2.png", "2.png"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_words_stdin_and_files_ask_in_their_order(run: Run, three: Path, name: str) -> None:
    arguments, queries = CALLS[name]
    pictures = three / "pictures"
    draw(pictures / "any.png", 9).rename(pictures / "+")
    (pictures / "list.txt").write_text("2.png\n\n0.png")
    lines = [{"query": "1.png"}, {"plus": ["0.png", "1.png"], "minus": ["2.png"]}, {"plus": ["2.png"]}]
    (pictures / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(
        "similar", *arguments, "--include-self", "--format", "jsonl", cwd=pictures, stdin=None, input="1.png\n2.png\n"
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["query"] for one in found] == queries
    assert all(one["matches"] for one in found)


def test_names_before_nul_may_hold_newlines_and_other_bytes(run: Run, three: Path) -> None:
    odd = os.fsdecode(b"new\nline\xff.png")
    draw(three / "pictures/x.png", 3).rename(three / "pictures" / odd)
    done = run("similar", "-", "-0", "--json", cwd=three / "pictures", stdin=None, input=f"{odd}\0" + "0.png")
    assert [one["query"] for one in json.loads(done.stdout)] == [odd, "0.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["+"],
        ["+", "0.png"],
        ["0.png", "+"],
        ["0.png", "+", "+", "0.png"],
        ["0.png", "-", "+", "0.png"],
        ["-", "+", "0.png"],
        ["0.png", "+", "-"],
        ["0.png", "-0"],
        ["--from", "bad.jsonl"],
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_query_are_refused(run: Run, three: Path, arguments: list[str]) -> None:
    (three / "pictures/bad.jsonl").write_text('{"query": 3}\n')
    done = run("similar", *arguments, cwd=three / "pictures")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_answers_in_lines_have_one_header_and_go_to_a_file_as_well(run: Run, three: Path) -> None:
    arguments = ["pictures/0.png", "absent.png", "pictures/1.png", "-n", "1"]
    done = run("similar", *arguments, "--format", "csv")
    assert done.returncode == 3
    header, *rows = done.stdout.splitlines()
    assert header == "query,rank,distance,path,id"
    assert [row.split(",")[0] for row in rows] == ["pictures/0.png", "pictures/1.png"]
    assert "absent.png" in done.stderr
    assert run("similar", *arguments, "--out", "answers.csv").stdout == ""
    assert (three / "answers.csv").read_text() == done.stdout


def test_if_no_query_can_be_read_one_line_names_some_of_them(run: Run, three: Path) -> None:
    done = run("similar", *(f"absent{number}.png" for number in range(9)), "--format", "jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "absent0.png" in line
    assert "and 4 more" in line


def test_an_empty_list_of_queries_gives_no_answers_and_no_error(run: Run, three: Path) -> None:
    done = run("similar", "-", "--json", stdin=None, input="")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
