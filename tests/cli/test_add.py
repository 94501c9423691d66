"""`imgindex add`: what it reports, the recipe that it chooses, and what is kept when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from archived import pack
from forking import Run
from pictures import draw
from small_recipe import SMALL

from imgindex import ImageIndex

COUNTS = ["found", "added", "updated", "renamed", "unchanged", "reused", "removed", "restored", "failed"]


def test_add_reports_in_json_exactly_what_the_contract_names(run: Run, folder: Path) -> None:
    result = run("add", "pictures", *SMALL, "--json")
    assert result.returncode == 0
    report = json.loads(result.stdout)
    assert list(report) == [
        *COUNTS,
        "seconds",
        "images_per_second",
        "skipped",
        "hidden",
        "excluded",
        "exported",
        "blank",
        "search_behind",
        "search_problem",
    ]
    assert (report["found"], report["added"], report["failed"]) == (12, 12, 0)


def test_a_second_add_reports_all_images_as_unchanged(run: Run, added: Path) -> None:
    report = json.loads(run("add", "pictures", "--json").stdout)
    assert (report["found"], report["unchanged"], report["added"]) == (12, 12, 0)


def test_add_without_options_makes_an_index_with_the_default_recipe_and_asks_no_server(
    run: Run, tmp_path: Path
) -> None:
    draw(tmp_path / "one" / "a.png", 1)
    result = run("add", "one")
    assert result.returncode == 0
    with ImageIndex.open(tmp_path / ".imgindex") as index:
        assert (index.recipe.name, index.recipe.side, index.recipe.offset) == ("vgg16-pool5", 320, "vgg16-pool5-320")
    assert result.stderr.strip().splitlines()[1:] == [
        "next: cluster the images, or search",
        "  imgindex cluster -k auto",
        "  imgindex similar IMAGE",
    ]


def test_add_mentions_what_a_small_size_costs_when_it_makes_the_index(run: Run, folder: Path) -> None:
    remark = "32 px are fast, but whole photographs find less: 160 px lose 6 points of mAP against 320 px"
    assert remark in run("add", "pictures", *SMALL).stderr.splitlines()
    assert "points of mAP" not in run("add", "pictures", *SMALL).stderr
    assert "points of mAP" not in run("add", "pictures", *SMALL, "--quiet", "--index", "quiet.imgindex").stderr
    assert "points of mAP" not in run("add", "pictures", "--size", "192", "--index", "medium.imgindex").stderr


def test_add_counts_the_files_that_it_skips_by_their_ending(run: Run, folder: Path) -> None:
    for name in ("a.mov", "b.MOV", "c.zip", "Makefile", ".d.jpg", *(f"e.x{number}" for number in range(10))):
        (folder / name).write_text("not a picture")
    result = run("add", "pictures", *SMALL, "--exclude", "c.*")
    assert result.returncode == 0
    line = next(line for line in result.stderr.splitlines() if line.startswith("skipped: "))
    endings = ", ".join(f"1 .x{number}" for number in range(7))
    assert line == f"skipped: 2 .mov, {endings}, 3 with other endings, 1 without ending, 1 hidden, 1 excluded"
    assert line in run("add", "pictures", "--exclude", "c.*").stderr.splitlines()
    report = json.loads(run("add", "pictures", "--json", "--dry-run").stdout)
    assert report["skipped"] == {".mov": 2, **{f".x{number}": 1 for number in range(10)}, ".zip": 1, "": 1}
    table = run("add", "pictures", "--format", "csv").stdout.splitlines()
    assert '"2 .mov, 1 without ending, 1 .x0, ' in table[1]


def test_add_says_that_nothing_was_found_and_what_was_skipped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films/a.mov").touch()
    result = run("add", "films", *SMALL)
    assert (result.returncode, result.stderr.splitlines()[-2:]) == (0, ["no images found", "skipped: 1 .mov"])
    assert "next:" not in result.stderr
    assert run("add", "films", "--quiet").stderr == ""


def test_camera_raw_files_are_skipped_with_the_way_to_read_them(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.dng").write_text("not a picture")
    (tmp_path / "photos/b.NEF").write_text("not a picture")
    without_rawpy = "import sys; sys.modules['rawpy'] = None; from imgindex.cli.app import main; main()"
    command = [sys.executable, "-c", without_rawpy, "add", "photos", *SMALL]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-2:] == [
        "skipped: 1 .dng, 1 .nef",
        "2 camera raw files can be added after `pip install rawpy`",
    ]


def test_a_named_recipe_is_not_swapped_when_its_weights_are_missing(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", "--recipe", "vgg16-fc1")
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "--weights FILE" in line
    assert "vgg16-pool5" in line
    assert not (tmp_path / ".imgindex").exists()


def test_another_recipe_for_an_index_is_refused(run: Run, added: Path) -> None:
    result = run("add", "pictures", "--recipe", "vgg16-pool5", "--size", "64")
    assert result.returncode == 1
    assert "32" in result.stderr
    assert "64" in result.stderr


def test_a_dry_run_says_what_would_be_done_and_does_not(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", "--dry-run", "--json")
    assert json.loads(result.stdout)["added"] == 12
    assert not (tmp_path / ".imgindex").exists()


# Runs the command line in a process that commits each batch, and that sends itself a signal after the second commit.
SIGNALLED = """
import os, sys
from imgindex.__main__ import main
from imgindex.ingest import store_recorder
from imgindex.ingest.store_recorder import StoreRecorder

number, commits, commit = int(sys.argv.pop(1)), [], StoreRecorder.commit

def commit_and_signal(self, **options):
    changes = len(self.writer)
    commit(self, **options)
    if changes:
        commits.append(changes)
        if len(commits) == 2:
            os.kill(os.getpid(), number)

StoreRecorder.commit = commit_and_signal
store_recorder.COMMIT_SECONDS = 0.0
main()
"""


def add_and_signal(folder: Path, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Add 80 images in batches of 4 in a process that gets this signal after its second commit."""
    for image in range(80):
        draw(folder / "many" / f"{image}.png", image, size=(200, 200))
    arguments = ["add", "many", "--recipe", "vgg16-pool5", "--size", "96", "--batch-size", "4"]
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_kill_in_the_middle_loses_what_is_not_committed(run: Run, tmp_path: Path) -> None:
    assert add_and_signal(tmp_path, signal.SIGKILL).returncode == -signal.SIGKILL
    assert run("verify", "--full").returncode == 0
    kept = json.loads(run("status", "--json").stdout)["images"]
    assert 4 <= kept < 80
    report = json.loads(run("add", "many", "--json").stdout)
    assert (report["unchanged"], report["added"]) == (kept, 80 - kept)
    assert run("verify", "--full").returncode == 0


def test_ctrl_c_finishes_the_batch_and_ends_with_130(run: Run, tmp_path: Path) -> None:
    done = add_and_signal(tmp_path, signal.SIGINT)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    kept = json.loads(run("status", "--json").stdout)["images"]
    assert 4 <= kept < 80
    assert kept % 4 == 0


def test_archives_in_folders_are_counted_with_the_way_to_search_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    pack(tmp_path / "photos/set.tar.gz", {"1.png": draw(tmp_path / "1.png", 1).read_bytes()})
    arguments = ["add", "photos", *SMALL]
    done = run(*arguments)
    assert "skipped: 1 .tar.gz" in done.stderr
    assert "1 archive can be searched: name them, or use --archives" in done.stderr
    done = run(*arguments, "--archives", "--json")
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 1)
    done = run("similar", "photos/set.tar.gz/1.png", "--include-self", "--format", "paths")
    assert done.stdout == "photos/set.tar.gz/1.png\n"


def test_an_archive_that_is_cut_off_is_a_failure_and_keeps_its_images(run: Run, tmp_path: Path) -> None:
    archive = pack(tmp_path / "stored.zip", {"1.png": draw(tmp_path / "1.png", 1).read_bytes()})
    arguments = ["add", "stored.zip", *SMALL]
    assert run(*arguments).returncode == 0
    archive.write_bytes(archive.read_bytes()[:-30])
    done = run(*arguments)
    assert done.returncode == 3
    assert "stored.zip" in done.stderr
    assert "cut off" in done.stderr
    assert run("list", "--format", "paths").stdout == "stored.zip/1.png\n"


def test_links_into_an_archive_are_refused_with_the_way_to_copies(run: Run, tmp_path: Path) -> None:
    pack(
        tmp_path / "stored.zip", {f"{number}.png": draw(tmp_path / "1.png", number).read_bytes() for number in range(3)}
    )
    arguments = ["add", "stored.zip", *SMALL]
    assert run(*arguments).returncode == 0
    done = run("cluster", "-k", "2", "--link-to", "out")
    assert (done.returncode, "--copy-to" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    assert run("cluster", "-k", "2", "--copy-to", "out").returncode == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
