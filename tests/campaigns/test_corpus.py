"""The campaign on corpora finds nothing wrong in a small one, and reports planted faults.

`make test-corpus` runs it on the corpora themselves, which packages bring.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from corpus import mutate, run, unaccounted, unsound
from fetch_corpus import files_below, unpack
from pictures import draw

ONE, TWO, TEXT = "/p/1.png", "/p/2.png", "/p/3.txt"


def test_every_file_of_a_small_corpus_is_an_image_or_a_failure(tmp_path: Path) -> None:
    for number in range(6):
        draw(tmp_path / "corpus" / f"{number}.png", number)
    (tmp_path / "corpus" / "cut.png").write_bytes((tmp_path / "corpus" / "0.png").read_bytes()[:-20])
    (tmp_path / "corpus" / "no ending").write_text("no picture")
    figures = run("ci", folders={"small": tmp_path / "corpus"})
    assert figures["lost"] == []
    assert (figures["files"], figures["indexed"], figures["failed"]) == (8, 6, {"decode": 2})


def test_a_run_without_files_is_a_loss() -> None:
    assert run("ci", folders={})["lost"] == ["no corpus was found: nothing was tried"]


def test_a_file_in_neither_or_both_of_index_and_ledger_is_reported() -> None:
    assert unaccounted([ONE, TEXT], [ONE], [(TEXT, "decode", "not an image")]) == []
    assert unaccounted([ONE, TWO], [ONE], []) == [f"{TWO} is 0 times in index and ledger"]
    assert unaccounted([ONE], [ONE], [(ONE, "decode", "no")]) == [f"{ONE} is 2 times in index and ledger"]
    assert unaccounted([ONE], [ONE, TWO], []) == [f"{TWO} was never given"]


def test_a_failure_without_a_stage_or_a_reason_is_reported() -> None:
    for stage, reason in (("decode", " "), ("elsewhere", "no"), ("decode", "two\nlines")):
        assert len(unaccounted([ONE], [], [(ONE, stage, reason)])) == 1


def test_vectors_that_are_not_finite_not_of_length_1_or_all_the_same_are_reported() -> None:
    vectors = np.eye(20, dtype=np.float32)
    paths = [f"{number}.png" for number in range(20)]
    assert unsound(paths, vectors) == []
    vectors[3, 0] = np.nan
    vectors[5, 5] = 1.01
    assert [line.split()[0] for line in unsound(paths, vectors)] == ["3.png", "5.png"]
    assert unsound(paths, np.tile(vectors[0], (20, 1))) == ["20 pictures have 1 distinct vectors"]


def test_mutants_are_cut_and_altered_and_the_same_for_a_seed(tmp_path: Path) -> None:
    draw(tmp_path / "corpus" / "0.png", 0)
    first = mutate({"small": tmp_path / "corpus"}, tmp_path / "first", 7)
    second = mutate({"small": tmp_path / "corpus"}, tmp_path / "second", 7)
    contents = [path.read_bytes() for path in files_below(first)]
    assert contents == [path.read_bytes() for path in files_below(second)]
    assert len({*contents, (tmp_path / "corpus" / "0.png").read_bytes()}) == 7


def test_unpacking_takes_regular_files_of_the_folder_alone(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "package-1.tar.gz", "w:gz") as tar:
        for name in (
            "package-1/images/a.png",
            "package-1/images/b/c.png",
            "package-1/images/../../../out",
            "package-1/x",
        ):
            tar.addfile(_member(name, size=3), io.BytesIO(b"abc"))
        link = _member("package-1/images/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    unpack(tmp_path / "package-1.tar.gz", "images", tmp_path / "target" / "deep")
    assert [str(path.relative_to(tmp_path / "target")) for path in files_below(tmp_path / "target")] == [
        "deep/a.png",
        "deep/b/c.png",
    ]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "target" / "deep" / "link").is_symlink()


def _member(name: str, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member
