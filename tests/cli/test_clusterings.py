"""`cluster` and its relatives from the command line: what is kept, replayed, named, assigned, compared and judged."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run, draw

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures/red/red0.png` …, five reds, four greens and three blues, beside its index."""
    folder = tmp_path_factory.mktemp("made")
    for (kind, colour), count in zip(COLOURS.items(), (5, 4, 3), strict=True):
        for number in range(count):
            draw(folder / f"pictures/{kind}/{kind}{number}.png", tuple(part + number for part in colour))
    command = [sys.executable, "-m", "imgindex", "add", "pictures", "--recipe", "vgg16-pool5", "--size", "32"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_replay_is_byte_for_byte_the_same_whatever_has_become_of_the_images(run: Run, here: Path) -> None:
    ids = [f"{kind}{number}" for kind, count in zip(COLOURS, (5, 4, 3), strict=True) for number in range(count)]
    (here / "sample.csv").write_text("id,note,label\n" + "".join(f'{id},"a, b",0\n' for id in reversed(ids)))
    arguments = ["-k", "3", "--like", "sample.csv", "--with", "name,cluster,distance,margin,second,silhouette"]
    assert run("cluster", *arguments, "--out", "a.csv").returncode == 0
    (here / "sample.csv").unlink()
    shutil.rmtree(here / "pictures/blue")
    assert run("add", "pictures").returncode == 0
    assert run("remove", "pictures/green").returncode == 0
    assert run("cluster", "-k", "2").returncode == 0
    assert run("cluster", "--replay", "1", "--out", "b.csv").returncode == 0
    assert (here / "a.csv").read_bytes() == (here / "b.csv").read_bytes()
    assert run("cluster", "--replay", "1", "--format", "csv").stdout == (here / "a.csv").read_text()
    first = rows((here / "a.csv").read_text())[0]
    assert list(first) == ["id", "note", "label", "name", "cluster", "distance", "margin", "second", "silhouette"]
    assert (first["id"], first["note"]) == ("blue2", "a, b")


def test_extras_say_how_well_each_image_lies_in_its_cluster(run: Run, here: Path) -> None:
    found = rows(run("cluster", "-k", "3", "--with", "distance,margin,second,silhouette", "--format", "csv").stdout)
    assert [row["label"] for row in found if row["ImageID"].startswith("red")] == ["0"] * 5
    for row in found:
        assert float(row["distance"]) < float(row["distance"]) + float(row["margin"])
        assert row["second"] != row["label"]
        assert 0.5 < float(row["silhouette"]) <= 1
    result = run("cluster", "-k", "3", "--with", "colour")
    assert result.returncode == 2
    assert "silhouette" in result.stderr


def test_every_clustering_is_listed_with_its_receipt(run: Run, here: Path) -> None:
    assert json.loads(run("clusterings", "--json").stdout) == []
    run("cluster", "-k", "3", "--seed", "5")
    run("cluster", "-k", "2..4")
    found = json.loads(run("clusterings", "--json").stdout)
    assert [(one["id"], one["k"], one["seed"], one["images"]) for one in found] == [(1, 3, 5, 12), (2, 3, 42, 12)]
    receipt = json.loads(run("cluster", "--replay", "2", "--json").stdout)
    assert receipt["restart_objectives"]
    assert min(receipt["restart_objectives"]) == receipt["objective"]
    assert receipt["versions"].keys() >= {"imgindex", "faiss", "numpy", "python"}
    assert receipt["recipe"] == "vgg16-pool5"
    assert [score["k"] for score in receipt["curve"]] == [2, 3, 4]
    assert [cluster["size"] for cluster in receipt["clusters"]] == receipt["sizes"] == [5, 4, 3]
    assert run("clusterings", "--forget", "1", "--format", "tsv").stdout.count("\n") == 2
    gone = run("cluster", "--replay", "1")
    assert gone.returncode == 1
    assert "imgindex clusterings" in gone.stderr


def test_a_name_is_in_every_output_and_outlives_the_next_clustering(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    assert run("label", "1", "leaves").returncode == 0
    for _ in range(2):
        assert "leaves" in run("cluster", "-k", "3").stdout
        shutil.rmtree(here / "pictures/red", ignore_errors=True)
        run("add", "pictures")
    found = json.loads(run("cluster", "-k", "2", "--json").stdout)
    assert [cluster["name"] for cluster in found["clusters"]] == ["leaves", None]
    assert {(row["label"], row["name"]) for row in found["images"]} == {("0", "leaves"), ("1", None)}
    assert {row["name"] for row in rows(run("cluster", "-k", "2", "--with", "name", "--format", "csv").stdout)} == {
        "leaves", ""
    }  # fmt: skip
    assert "leaves" in run("clusterings").stdout
    assert "leaves" in run("cluster", "evaluate", "--by-folder").stdout
    assert run("label", "0", "--clear").returncode == 0
    assert "leaves" not in run("clusterings").stdout
    for wrong in (["0"], ["0", "a", "--clear"], ["9", "a"], ["0", " "]):
        assert run("label", *wrong).returncode == 2, wrong


def test_new_images_are_assigned_by_hand_and_with_add(run: Run, here: Path) -> None:
    assert run("add", "pictures", "--assign").returncode == 1  # there is nothing to assign to
    run("cluster", "-k", "3", "--out", "old.csv")
    draw(here / "pictures/new1.png", (21, 200, 26))
    report = json.loads(run("add", "pictures", "--assign", "--json").stdout)
    assert (report["added"], report["assigned"]) == (1, 1)
    draw(here / "pictures/new2.png", (222, 22, 25))
    assert "assigned" not in json.loads(run("add", "pictures", "--json").stdout)
    result = run("cluster", "--assign", "1", "--out", "new.csv")
    assert "new2.png" in result.stdout
    assert "new1.png" not in result.stdout
    assert "1 images put into clustering 1" in result.stderr
    old, new = rows((here / "old.csv").read_text()), rows((here / "new.csv").read_text())
    assert [row for row in new if row in old] == old
    assert {row["ImageID"]: row["label"] for row in new if row not in old} == {"new1": "1", "new2": "0"}
    assert json.loads(run("cluster", "--assign", "1", "--json").stdout)["assigned"] == []


def test_anchors_balance_and_largest_sizes(run: Run, here: Path) -> None:
    result = run("cluster", "--anchor", "roses=pictures/red/red1.png,pictures/red/red2.png",
                 "--anchor", "leaves=pictures/green/green1.png", "--json")  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["k"], {cluster["name"] for cluster in found["clusters"]}) == (2, {"roses", "leaves"})
    assert json.loads(run("cluster", "-k", "4", "--balanced", "--json").stdout)["sizes"] == [3, 3, 3, 3]
    assert max(json.loads(run("cluster", "-k", "3", "--max-size", "4", "--json").stdout)["sizes"]) == 4
    assert run("cluster", "-k", "2", "--max-size", "4").returncode == 2
    assert run("cluster", "--anchor", "roses").returncode == 2
    assert run("cluster", "--anchor", "roses=nowhere.png").returncode == 1


@pytest.mark.parametrize("wrong", [[], ["-k", "2", "--replay", "1"], ["--replay", "1", "--assign", "1"]])
def test_a_clustering_is_made_or_replayed_or_added_to(run: Run, here: Path, wrong: list[str]) -> None:
    result = run("cluster", *wrong)
    assert result.returncode == 2
    assert "-k K, --replay ID and --assign ID" in result.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--replay", "1", "--seed", "3"], "--seed speaks of a new clustering"),
        (["--assign", "1", "--max-size", "3"], "--max-size speaks of a new clustering"),
        (["-k", "2", "--map", "umap"], "--map speaks of the page"),
        (["-k", "2", "diff", "1", "1"], "stand behind its name"),
    ],
    ids=str,
)
def test_an_option_that_would_do_nothing_is_refused(run: Run, here: Path, wrong: list[str], said: str) -> None:
    result = run("cluster", *wrong)
    assert result.returncode == 2
    assert said in result.stderr


def test_a_difference_names_the_images_that_moved(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    run("cluster", "-k", "2")
    found = json.loads(run("cluster", "diff", "1", "2", "--json").stdout)
    moved = {one["path"] for one in found["moved"]}
    assert moved in ({f"pictures/{kind}/{kind}{n}.png" for n in range(count)} for kind, count in
                     zip(COLOURS, (5, 4, 3), strict=True))  # fmt: skip
    assert 0 < found["ari"] < 1
    assert found["images"] == 12
    same = run("cluster", "diff", "1", "1")
    assert "0 of 12 images moved: ARI 1.000, NMI 1.000" in same.stderr
    assert run("cluster", "diff", "1", "2", "--format", "paths").stdout.split() == [
        one["path"] for one in found["moved"]
    ]
    assert run("cluster", "diff", "1", "9").returncode == 1


def test_a_clustering_is_judged_by_folders_and_by_a_table(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    found = json.loads(run("cluster", "evaluate", "--by-folder", "--json").stdout)
    assert [found[score] for score in ("ari", "nmi", "v_measure", "purity")] == pytest.approx([1, 1, 1, 1])
    assert found["classes"] == ["blue", "green", "red"]
    assert found["confusion"] == [[0, 0, 5], [0, 4, 0], [3, 0, 0]]
    (here / "truth.csv").write_text("file,class\nred0,warm\nred1,warm\nblue0,cold\ngreen0,cold\nnobody,cold\n")
    result = run("cluster", "evaluate", "--truth", "truth.csv", "--json")
    found = json.loads(result.stdout)
    assert (found["images"], found["unlabelled"], found["unknown"]) == (4, 8, ["nobody"])
    assert (found["homogeneity"], found["completeness"]) == pytest.approx((1, 2 / 3), abs=0.01)
    assert "'nobody'" in result.stderr
    table = run("cluster", "evaluate", "1", "--truth", "truth.csv").stdout
    assert "v_measure" in table
    assert "warm 2" in table
    assert rows(run("cluster", "evaluate", "--by-folder", "--format", "csv").stdout)[0]["red"] == "5"
    for wrong, code in (([], 2), (["--truth", "no.csv"], 2), (["--truth", "truth.csv", "--by-folder"], 2)):
        assert run("cluster", "evaluate", *wrong).returncode == code
    (here / "other.csv").write_text("file,class\na,b\n")
    assert run("cluster", "evaluate", "--truth", "other.csv").returncode == 1


def test_a_condition_chooses_what_is_clustered_and_clusters_are_conditions(run: Run, here: Path) -> None:
    found = json.loads(run("cluster", "-k", "2", "--where", "path not like '%blue%'", "--json").stdout)
    assert (found["sizes"], found["options"]) == ([5, 4], {"where": "path not like '%blue%'"})
    run("label", "1", "leaves")
    listed = json.loads(run("list", "--where", "cluster_name = 'leaves'", "--json").stdout)
    assert {Path(image["path"]).stem for image in listed} == {"green0", "green1", "green2", "green3"}
    assert len(json.loads(run("list", "--where", "cluster is null", "--json").stdout)) == 3
    (answer,) = json.loads(
        run("similar", "pictures/red/red0.png", "--where", "cluster = 1", "-n", "9", "--json").stdout
    )
    assert len(answer["matches"]) == 4
    groups = json.loads(run("duplicates", "--distance", "2", "--where", "folder like '%/red'", "--json").stdout)
    assert groups["images"] == 5
    none = run("cluster", "-k", "2", "--where", "width > 1e6")
    assert none.returncode == 1
    assert "list --where" in none.stderr
    wrong = run("cluster", "-k", "2", "--where", "colour = 1")
    assert wrong.returncode == 2
    assert "cluster_name" in wrong.stderr


@pytest.mark.parametrize(("option", "links"), [("--link-to", True), ("--copy-to", False)])
def test_a_folder_for_each_cluster(run: Run, here: Path, option: str, links: bool) -> None:
    run("cluster", "-k", "3")
    run("label", "0", "a/b")
    (here / "out/1").mkdir(parents=True)
    (here / "out/1/mine.txt").write_text("mine")
    dry = run("cluster", "--replay", "1", option, "out", "--dry-run")
    assert (dry.returncode, sorted(path.name for path in (here / "out").rglob("*"))) == (0, ["1", "mine.txt"])
    assert "red0.png" in dry.stderr
    assert run("cluster", "--replay", "1", option, "out").returncode == 0
    made = sorted((here / "out").rglob("*.png"))
    assert len(made) == 12
    assert {path.is_symlink() for path in made} == {links}
    folders = {
        folder: {path.stem[:-1] for path in made if path.parent == folder} for folder in {p.parent for p in made}
    }
    assert sorted(map(list, folders.values())) == [["blue"], ["green"], ["red"]]
    for path in made:
        assert path.read_bytes() == next((here / "pictures").rglob(path.name)).read_bytes()
    assert run("cluster", "-k", "2", option, "out").returncode == 0
    assert len(sorted((here / "out").rglob("*.png"))) == 12
    assert (here / "out/1/mine.txt").read_text() == "mine"
    assert len(list((here / "pictures").rglob("*.png"))) == 12
    assert run("cluster", "-k", "2", "--dry-run").returncode == 2


def test_clusters_and_duplicates_have_pages_and_contact_sheets(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    run("label", "0", "<b>roses</b>")
    for arguments, words in (
        (
            ["cluster", "-k", "2..4", "--map", "pca,tsne"],
            ["&lt;b&gt;roses&lt;/b&gt;", "t-SNE", "medoid", "starts agree"],
        ),
        (["cluster", "--replay", "1"], ["&lt;b&gt;roses&lt;/b&gt;", "medoid"]),
        (["duplicates", "--distance", "0.5"], ["keep", "near", "within a distance of"]),
    ):
        result = run(*arguments, "--html", "page.html", "--sheet", "sheet.png", "--preview")
        assert result.returncode == 0, result.stderr
        page = (here / "page.html").read_text(encoding="utf-8")
        assert [word for word in words if word not in page] == []
        assert (here / "sheet.png").stat().st_size > 1000
        assert "no terminal" in result.stderr
    wrong = run("cluster", "-k", "2", "--html", "page.html", "--map", "mds")
    assert wrong.returncode == 2
    assert "pca, umap, tsne" in wrong.stderr


def test_an_index_that_cannot_be_written_to_is_clustered_and_that_is_said(run: Run, here: Path) -> None:
    with open(here / ".imgindex/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("cluster", "-k", "3", "--out", "labels.csv")
        assert result.returncode == 0
        assert "this clustering is not kept" in result.stderr
        assert len(rows((here / "labels.csv").read_text())) == 12
        assert json.loads(run("cluster", "-k", "3", "--json").stdout)["not_kept"] != ""
    assert json.loads(run("clusterings", "--json").stdout) == []
