"""The design, tested: light start, one class, the exported names, plain words, help for every command."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from forking import Run
from pictures import draw
from small_recipe import SMALL

import imgindex

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "torchvision",
    "openvino",
    "faiss",
    "numpy",
    "pandas",
    "sqlite_utils",
    "pyarrow",
    "PIL",
    "safetensors",
    "scipy",
    "msgspec",
    "obstore",
    "starlette",
    "uvicorn",
    "ray",
)
COMMANDS = ("add", "similar", "cluster", "status", "list", "failures", "remove", "export")
COMMANDS += ("verify", "repair", "compact", "outliers", "clusterings", "label", "duplicates", "lookup", "leak", "tag")


def imported(*command: str, whole: bool = False) -> set[str]:
    """Top-level packages, or with `whole` all modules, that a fresh interpreter imports while it runs the command."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = [line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if line.startswith("import time:")]
    return set(lines) if whole else {line.split(".")[0] for line in lines}


@pytest.mark.parametrize(
    "command", [("-m", "imgindex", "--help"), ("-c", "import imgindex"), ("-m", "imgindex", "add", "--help")]
)
def test_help_and_import_load_nothing_heavy(command: tuple[str, ...]) -> None:
    found = imported(*command)
    assert "imgindex" in found
    assert found.isdisjoint(HEAVY)


def test_add_of_files_of_this_machine_loads_nothing_that_reads_from_others(tmp_path: Path) -> None:
    draw(tmp_path / "pictures" / "0.png", 1)
    add = ("-m", "imgindex", "add", str(tmp_path / "pictures"), "--index", str(tmp_path / "it.imgindex"), *SMALL)
    found = imported(*add, whole=True)
    assert "imgindex.sources.local" in found
    assert found.isdisjoint({"obstore", "imgindex.sources.objects", "imgindex.sources.web"})


def test_add_and_similar_load_no_more_than_they_use(tmp_path: Path) -> None:
    """Decoder processes have Pillow, and a new catalogue needs no migration, for which sqlite-utils loads pandas."""
    draw(tmp_path / "pictures" / "0.png", 1)
    draw(tmp_path / "new.png", 2)
    index = ("--index", str(tmp_path / "it.imgindex"))
    for command in (
        ("add", str(tmp_path / "pictures"), *index, *SMALL),
        ("similar", str(tmp_path / "new.png"), *index),
    ):
        found = imported("-m", "imgindex", *command, "--json", whole=True)
        assert "imgindex.decoding.process" in found
        assert not found & {"PIL", "pandas", "sqlite_utils", "http.client", "ssl", "torch", "scipy", "sklearn"}


def test_the_library_does_not_load_torch_before_it_embeds() -> None:
    found = imported("-c", "from imgindex import ImageIndex, Engine, Recipe, Match")
    assert found.isdisjoint({"openvino", "torch", "torchvision", "pandas", "faiss"})


@pytest.mark.parametrize("path", sorted(ROOT.glob("imgindex/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_first_what_it_does(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def words() -> str:
    """The comments, docstrings and messages of the package: its comments, and its strings that have a space."""
    found: list[str] = []
    for path in sorted(ROOT.glob("imgindex/**/*.py")):
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                is_text = token.type == tokenize.STRING and " " in token.string
                if is_text or token.type == tokenize.COMMENT:
                    found.append(token.string)
    return "\n".join(found)


@pytest.mark.parametrize(
    "pattern",
    [r"\b(?:is|are) no (?!longer|more\b)\w+", r"\b(?:told|tells?|speaks? of)\b", r"\b(?:nobody|whoever|somebody)\b"],
)
def test_the_words_of_the_package_are_plain(pattern: str) -> None:
    assert len(re.findall(pattern, words(), flags=re.IGNORECASE)) <= 10


def test_all_names_of_the_public_api_can_be_imported_and_no_others_show() -> None:
    for name in imgindex.__all__:
        assert getattr(imgindex, name) is not None
    assert dir(imgindex) == sorted(imgindex.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = imgindex.no_such_name


def test_every_command_of_the_contract_has_its_twin_in_python() -> None:
    from imgindex import ImageIndex

    names = {"list": "images", "label": "clusterings"}
    for command in COMMANDS:
        assert hasattr(ImageIndex, names.get(command, command)), command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_all_its_options_and_stands_in_the_readme(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert "--index DIR" in result.stdout
    described = result.stdout.split("Options:")[1]
    # An option without help is alone on its line, and so is none of the lines that follow it.
    bare = re.findall(r"^  (-\S+(?: [A-Z]+)?)\n  -", described, flags=re.MULTILINE)
    assert bare == []
    assert f"imgindex {command}" in (ROOT / "README.md").read_text(encoding="utf-8")
