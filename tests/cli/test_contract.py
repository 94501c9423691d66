"""The contract of the command line, through real processes: what is printed where, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, draw
from PIL import Image

SMALL = ("--recipe", "vgg16-pool5", "--size", "32")
COUNTS = ["found", "added", "updated", "renamed", "unchanged", "reused", "removed", "restored", "failed"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve pictures beside their index; made once, since it costs an import of torch."""
    base = tmp_path_factory.mktemp("template")
    for number in range(12):
        draw(base / "pictures" / ("a" if number < 6 else "b") / f"{number}.png", number)
    command = [sys.executable, "-m", "imgindex", "add", "pictures", *SMALL]
    subprocess.run(command, cwd=base, check=True, capture_output=True)
    return base


@pytest.fixture
def added(template: Path, tmp_path: Path) -> Path:
    """The twelve pictures, indexed in the temporary folder's own .imgindex: an index moves with its folder."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "pictures"


def test_add_reports_in_json_exactly_what_the_contract_names(run: Run, folder: Path) -> None:
    result = run("add", "pictures", *SMALL, "--json")
    assert result.returncode == 0
    report = json.loads(result.stdout)
    assert list(report) == [*COUNTS, "seconds", "images_per_second"]
    assert (report["found"], report["added"], report["failed"]) == (12, 12, 0)


def test_a_second_add_says_all_unchanged(run: Run, added: Path) -> None:
    report = json.loads(run("add", "pictures", "--json").stdout)
    assert (report["found"], report["unchanged"], report["added"]) == (12, 12, 0)


def test_add_without_options_takes_a_recipe_by_itself_and_says_why(run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "one" / "a.png", 1)
    result = run("add", "one")
    assert result.returncode == 0
    assert "vgg16-pool5" in result.stderr
    assert "cannot be downloaded" in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


def test_a_named_recipe_is_not_swapped_when_its_weights_are_missing(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", "--recipe", "vgg16-fc1")
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "--weights FILE" in line
    assert "vgg16-pool5" in line
    assert not (tmp_path / ".imgindex").exists()


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


@pytest.mark.parametrize("format", ["tsv", "csv", "json", "jsonl", "paths", "table"])
def test_every_format_of_a_list_holds_every_image(run: Run, added: Path, format: str) -> None:
    result = run("list", "--format", format)
    assert result.returncode == 0
    for number in range(12):
        assert f"pictures/{'a' if number < 6 else 'b'}/{number}.png" in result.stdout


def test_an_answer_goes_to_a_file_in_the_format_of_its_ending(run: Run, added: Path, tmp_path: Path) -> None:
    result = run("list", "--out", "images.csv")
    assert (result.returncode, result.stdout) == (0, "")
    with (tmp_path / "images.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert run("list", "--out", "images.xyz").returncode == 2


def test_cluster_writes_labels_by_falling_size_in_natural_order(run: Run, added: Path, tmp_path: Path) -> None:
    result = run("cluster", "-k", "3", "--out", "submission.csv")
    assert result.returncode == 0
    rows = list(csv.reader(io.StringIO((tmp_path / "submission.csv").read_text())))
    assert rows[0] == ["ImageID", "label"]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(12)]
    sizes = np.bincount([int(row[1]) for row in rows[1:]])
    assert len(sizes) == 3
    assert list(sizes) == sorted(sizes, reverse=True)
    for word in ("objective", "iterations", "seed 42", "all of them trained on"):
        assert word in result.stderr


def test_cluster_with_the_same_seed_gives_the_same_labels(run: Run, added: Path) -> None:
    labels = [run("cluster", "-k", "4", "--seed", "7", "--format", "csv").stdout for _ in range(2)]
    assert labels[0] == labels[1]
    assert labels[0].startswith("ImageID,label\n")


def test_cluster_prints_a_receipt_in_json(run: Run, added: Path) -> None:
    receipt = json.loads(run("cluster", "-k", "3", "--json").stdout)
    assert receipt["k"] == 3
    assert receipt["trained_on"] == sum(receipt["sizes"]) == 12
    assert len(receipt["images"]) == 12


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
    receipt = json.loads(run("cluster", "-k", "auto", "--json").stdout)
    assert receipt["k"] == 3
    assert [score["k"] for score in receipt["curve"]] == [2, 3, 4, 5, 6, 7, 8]
    assert receipt["sizes"] == [8, 8, 8]
    assert run("cluster", "-k", "auto", "--quiet", "--format", "csv").stderr == ""


def test_cluster_like_a_sample_copies_its_columns_ids_and_order(run: Run, tmp_path: Path) -> None:
    ids = ["007", "7b", "a b", "10", "2"]
    for number, id in enumerate(ids):
        draw(tmp_path / "test" / f"{id}.png", number)
    run("add", "test", *SMALL)
    (tmp_path / "sample.csv").write_bytes(b"\xef\xbb\xbfImageID,label,note\r\n" + b"".join(
        f"{id},0,n{id}\r\n".encode() for id in ids
    ))  # fmt: skip
    assert run("cluster", "-k", "2", "--like", "sample.csv", "--out", "submission.csv").returncode == 0
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ImageID", "label", "note"]
    assert [row[0] for row in rows[1:]] == ids
    assert [row[2] for row in rows[1:]] == [f"n{id}" for id in ids]
    assert {row[1] for row in rows[1:]} == {"0", "1"}


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("ImageID,label\n" + "".join(f"{n},0\n" for n in range(11)), "'11'"),
        ("ImageID,label\n" + "".join(f"{n},0\n" for n in range(13)), "'12'"),
        ("ImageID,label\n" + "".join(f"{n},0\n" for n in [*range(12), 3]), "'3' more than once"),
        ("ImageID,label\n" + "".join(f"{n}.png,0\n" for n in range(12)), "--id name"),
        ("ImageID\n0\n", "two columns"),
        ("", "no CSV"),
    ],
)
def test_cluster_refuses_a_sample_that_does_not_fit_and_says_why(
    run: Run, added: Path, tmp_path: Path, sample: str, said: str
) -> None:
    (tmp_path / "sample.csv").write_text(sample)
    result = run("cluster", "-k", "2", "--like", "sample.csv", "--out", "submission.csv")
    assert result.returncode == 1
    assert said in result.stderr
    assert not (tmp_path / "submission.csv").exists()


def test_two_images_with_one_id_are_refused_by_naming_both(run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "p" / "a" / "1.png", 1)
    draw(tmp_path / "p" / "b" / "1.png", 2)
    run("add", "p", *SMALL)
    result = run("cluster", "-k", "2", "--format", "csv")
    assert result.returncode == 2
    assert "p/a/1.png" in result.stderr
    assert "p/b/1.png" in result.stderr
    assert "--id path" in result.stderr
    assert "p/a/1.png," in run("cluster", "-k", "2", "--id", "path", "--format", "csv").stdout


def test_a_folder_without_images_is_said_to_have_none_and_cannot_be_clustered(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("add", "empty", *SMALL, "--json")
    assert (result.returncode, json.loads(result.stdout)["found"]) == (0, 0)
    assert "no images" in result.stderr
    result = run("cluster", "-k", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no images" in result.stderr


@pytest.mark.parametrize("command", [["list"], ["export"]])
def test_a_file_that_cannot_be_written_is_named_in_one_line(run: Run, added: Path, command: list[str]) -> None:
    result = run(*command, "--out", "nowhere/x.csv")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "imgindex: error: No such file or directory: nowhere/x.csv\n"


def test_more_clusters_than_distinct_pictures_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "p" / f"{number}.png", 1)
    run("add", "p", *SMALL)
    result = run("cluster", "-k", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert "distinct" in result.stderr


def test_a_hard_folder_ends_with_three_and_a_ledger_and_is_not_opened_again(run: Run, tmp_path: Path) -> None:
    hard = tmp_path / "hard"
    draw(hard / "good.jpg", 1, size=(60, 40))
    whole = (hard / "good.jpg").read_bytes()
    (hard / "text.jpg").write_text("not a picture")
    (hard / "empty.jpg").touch()
    (hard / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    # A GIF of 44 bytes that claims 65,535 × 65,535 pixels.
    bomb = b"GIF89a" + b"\xff\xff\xff\xff" + b"\x80\x00\x00" + b"\x00\x00\x00\xff\xff\xff"
    bomb += (
        b"\x21\xf9\x04\x00\x00\x00\x00\x00" + b"\x2c\x00\x00\x00\x00\xff\xff\xff\xff\x00" + b"\x02\x02\x44\x01\x00\x3b"
    )
    (hard / "bomb.gif").write_bytes(bomb)
    palette = Image.new("P", (30, 30))
    palette.putpalette([200, 10, 10, 10, 200, 10])
    palette.save(hard / "palette.png", transparency=0)
    Image.new("CMYK", (30, 30), (10, 200, 30, 0)).save(hard / "cmyk.jpg")
    Image.fromarray(np.full((30, 30), 40_000, dtype=np.uint16)).save(hard / "sixteen.png")
    for number, name in enumerate(["with space", "quo\"te's", "new\nline", os.fsdecode(b"caf\xe9")]):
        draw(hard / f"{name}.png", number + 20)

    result = run("add", "hard", *SMALL, "--json")
    assert result.returncode == 3, result.stderr
    report = json.loads(result.stdout)
    assert (report["found"], report["added"], report["failed"]) == (12, 8, 4)
    ledger = json.loads(run("failures", "--json").stdout)
    assert {Path(failure["path"]).name for failure in ledger} == {"text.jpg", "empty.jpg", "truncated.jpg", "bomb.gif"}
    assert all(failure["reason"] and failure["stage"] in ("read", "decode") for failure in ledger)
    for failure in ledger:
        assert Path(failure["path"]).name in result.stderr
    paths = run("list", "--format", "json").stdout
    assert {"hard/new\nline.png", os.fsdecode(b"hard/caf\xe9.png")} < {image["path"] for image in json.loads(paths)}

    again = run("add", "hard", "--json", env=watched(tmp_path))
    assert again.returncode == 3
    report = json.loads(again.stdout)
    assert (report["unchanged"], report["failed"], report["added"]) == (8, 4, 0)
    assert "OPENED" not in again.stderr
    assert "IMPORTED torch" not in again.stderr


def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which the interpreter tells on stderr which pictures it opens, and whether it imports torch."""
    hooks = tmp_path / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith(('.png', '.jpg', '.gif')):\n"
        "        sys.stderr.write(f'OPENED {ascii(arguments[0])}\\n')\n"
        "    if event == 'import' and arguments[0] in ('torch', 'torchvision', 'pandas'):\n"
        "        sys.stderr.write(f'IMPORTED {arguments[0]}\\n')\n"
        "sys.addaudithook(hook)\n"
    )
    return {"PYTHONPATH": str(hooks)}


def test_the_watch_itself_sees_pictures_opened_and_torch_imported(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", *SMALL, env=watched(tmp_path))
    assert "OPENED" in result.stderr
    assert "IMPORTED torch" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["similar", "pictures/a/0.png"], ["add", "pictures"], ["status"]])
def test_light_commands_import_neither_torch_nor_pandas(
    run: Run, added: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = run(*arguments, env=watched(tmp_path))
    assert result.returncode == 0
    assert "IMPORTED" not in result.stderr


def test_kill_in_the_middle_loses_at_most_the_batch_in_flight(run: Run, tmp_path: Path) -> None:
    for number in range(80):
        draw(tmp_path / "many" / f"{number}.png", number, size=(200, 200))
    command = [sys.executable, "-m", "imgindex", "add", "many", "--recipe", "vgg16-pool5", "--size", "96"]
    process = subprocess.Popen([*command, "--batch-size", "4"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    rows = tmp_path / ".imgindex" / "segments" / "000001.vec"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (rows.exists() and rows.stat().st_size > 4096 + 5 * 2048):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run("verify", "--full").returncode == 0
    kept = json.loads(run("status", "--json").stdout)["images"]
    assert 4 <= kept < 80
    report = json.loads(run("add", "many", "--json").stdout)
    assert (report["unchanged"], report["added"]) == (kept, 80 - kept)
    assert run("verify", "--full").returncode == 0


def test_ctrl_c_finishes_the_batch_and_ends_with_130(run: Run, tmp_path: Path) -> None:
    for number in range(80):
        draw(tmp_path / "many" / f"{number}.png", number, size=(200, 200))
    command = [sys.executable, "-m", "imgindex", "add", "many", "--recipe", "vgg16-pool5", "--size", "96"]
    process = subprocess.Popen(
        [*command, "--batch-size", "4"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows = tmp_path / ".imgindex" / "segments" / "000001.vec"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not rows.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    kept = json.loads(run("status", "--json").stdout)["images"]
    assert 4 <= kept < 80
    assert kept % 4 == 0


def test_a_reader_that_leaves_early_is_no_error(added: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m imgindex list --format json | head -c 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_one_line_and_an_error(added: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "imgindex", "list"]
        result = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip() == "imgindex: error: No space left on device"


def test_remove_takes_out_and_says_what(run: Run, added: Path) -> None:
    result = run("remove", "pictures/a", "--format", "paths")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 6
    assert len(run("list", "--format", "paths").stdout.splitlines()) == 6
    again = run("remove", "pictures/a")
    assert (again.returncode, again.stdout) == (1, "")


@pytest.mark.parametrize("ending", ["npz", "npy", "parquet", "csv"])
def test_export_writes_what_python_sees(run: Run, added: Path, tmp_path: Path, ending: str) -> None:
    from imgindex import ImageIndex

    assert run("export", "--out", f"vectors.{ending}").returncode == 0
    with ImageIndex.open(tmp_path / ".imgindex") as index:
        ids, paths, vectors = index.ids(), index.paths(), index.vectors()
    path = tmp_path / f"vectors.{ending}"
    names = [str(Path(name).relative_to(tmp_path)) for name in paths]
    if ending == "npz":
        with np.load(path, allow_pickle=False) as file:
            assert file["vectors"].dtype == np.float32
            np.testing.assert_array_equal(file["vectors"], vectors)
            np.testing.assert_array_equal(file["ids"], ids)
            assert file["paths"].tolist() == names
    elif ending == "npy":
        np.testing.assert_array_equal(np.load(path, allow_pickle=False), vectors)
    else:
        import pandas as pd

        frame = pd.read_parquet(path) if ending == "parquet" else pd.read_csv(path)
        assert frame["path"].tolist() == names
        got = np.stack(frame["vector"]) if ending == "parquet" else frame.iloc[:, 2:].to_numpy(np.float32)
        np.testing.assert_array_equal(got, vectors)


def test_verify_names_a_damaged_vector_and_ends_with_one(run: Run, added: Path, tmp_path: Path) -> None:
    segment = tmp_path / ".imgindex" / "segments" / "000001.vec"
    data = bytearray(segment.read_bytes())
    data[4096 + 2048 * 3 + 5] ^= 1
    segment.write_bytes(data)
    assert run("verify").returncode == 0
    result = run("verify", "--full", "--json")
    assert result.returncode == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert (problem["kind"], problem["subject"]) == ("vector", "image 4")


def test_an_index_is_found_from_a_folder_below_and_by_variable(run: Run, added: Path, tmp_path: Path) -> None:
    below = run("similar", "0.png", "--json", cwd=tmp_path / "pictures" / "a")
    assert json.loads(below.stdout)[0]["matches"][0]["rank"] == 1
    elsewhere = run("list", "--format", "paths", cwd="/", env={"IMGINDEX_DIR": str(tmp_path / ".imgindex")})
    assert all(Path("/", line).is_file() for line in elsewhere.stdout.splitlines())


def test_another_recipe_for_an_index_is_refused(run: Run, added: Path) -> None:
    result = run("add", "pictures", "--recipe", "vgg16-pool5", "--size", "64")
    assert result.returncode == 1
    assert "32" in result.stderr
    assert "64" in result.stderr


def test_paths_are_read_from_stdin_by_line_or_nul(run: Run, folder: Path, tmp_path: Path) -> None:
    lines = "pictures/a/0.png\npictures/a/1.png\n"
    first = run("add", "-", *SMALL, "--json", stdin=None, input=lines)
    assert json.loads(first.stdout)["added"] == 2
    draw(folder / "new\nline.png", 50)
    second = run("add", "-0", "-", "--json", stdin=None, input="pictures/new\nline.png\0pictures/b/6.png\0")
    assert json.loads(second.stdout)["added"] == 2


def test_a_dry_run_says_what_would_be_done_and_does_not(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", "--dry-run", "--json")
    assert json.loads(result.stdout)["added"] == 12
    assert not (tmp_path / ".imgindex").exists()
