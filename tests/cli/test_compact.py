"""`imgindex compact`: the disk space that it frees, and the recall that it sets."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run


def test_the_rows_of_removed_images_are_dropped_and_the_others_stay_as_they_are(run: Run, here: Path) -> None:
    before = json.loads(run("list", "--json").stdout)
    run("remove", "pictures/red")
    done = run("compact")
    assert (done.returncode, done.stderr.splitlines()[-1][:24]) == (0, "5 unused vectors dropped")
    again = run("compact")
    assert again.stderr.splitlines()[-1] == "0 unused vectors dropped, 0 B freed"
    report = json.loads(run("compact", "--json").stdout)
    assert (report["rows_dropped"], report["bytes_before"]) == (0, report["bytes_after"])
    assert json.loads(run("list", "--json").stdout) == [one for one in before if "/red/" not in one["path"]]
    assert run("verify", "--full").returncode == 0


def test_a_target_recall_lasts_and_an_impossible_one_is_refused(run: Run, here: Path) -> None:
    assert run("compact", "--target-recall", "0.9", "--quiet").stderr == ""
    assert json.loads(run("status", "--json").stdout)["target_recall"] == 0.9
    assert run("compact", "--target-recall", "1.5").returncode == 2


def test_what_is_no_address_of_a_search_is_refused(run: Run, here: Path) -> None:
    for address in ("milvus://host", "http://host:19530/photos", "milvus://root:secret@host/photos"):
        done = run("compact", "--search", address)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "secret" not in done.stderr
    assert run("compact", "--search", "local").returncode == 0
    assert json.loads(run("status", "--json").stdout)["search"] is None
