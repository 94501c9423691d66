"""Parameters that messages of the library name, as flags of the command line; and that the library names no flags."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from forking import Run

import imgindex
from imgindex import ImageIndex
from imgindex.cli.flags import PARAMETER, in_flags
from imgindex.clustering.collection import Clusterings

PACKAGE = Path(imgindex.__file__).parent
FLAG = re.compile(r"(?<![\w-])(--[a-z]|-[kn] )")
# What a shell runs is shown as it is typed there.
COMMAND = re.compile(r"`(imgindex|pip) [^`]*`")
# A flag of pip, and commands in files that people read.
ALLOWED = {
    "decoding/plugins.py": {"--upgrade pillow"},
    "curation/move_journal.py": {"imgindex duplicates --undo FOLDER"},
    "gallery/cluster_page.py": {"imgindex clusterings show {} --html FILE --images all"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "cli")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name it with `weights=FILE`", "name it with --weights FILE"),
        ("wait with `wait=True`", "wait with --wait"),
        ("use `anonymous=False`", "use --no-anonymous"),
        ("leave out `size=`", "leave out --size"),
        ("give `max_size=9` and `k=3`", "give --max-size 9 and -k 3"),
        ("a range such as `k=range(2, 41)`", "a range such as -k 2..40"),
        ("give `k=None`", "give -k auto"),
        ("another one with `path=DIR`", "another one with --index DIR"),
        ("`id_kind=stem`", "--id stem"),
        ("with `copy=True`", "with --copy-to DIR"),
        ("run `imgindex verify --full`", "run `imgindex verify --full`"),
        ("a=1 and 'b=2' stay", "a=1 and 'b=2' stay"),
    ],
)
def test_a_parameter_is_shown_as_its_flag(text: str, expected: str) -> None:
    assert in_flags(text) == expected


def strings(path: Path) -> list[str]:
    """The texts in a file that may be shown: all but docstrings; an f-string with its fields left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs, found = set(), []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            docs.add(id(node.body[0].value))  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            docs |= {id(part) for part in node.values}
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            found.append(node.value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_below_the_command_line_no_text_names_a_flag(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(PACKAGE).as_posix(), set())
    assert [text for text in strings(path) if FLAG.search(COMMAND.sub("", text)) and text not in allowed] == []


def test_the_parameters_that_messages_name_exist() -> None:
    known = {"anonymous", "batch_size", "workers", "device", "precision"}
    methods = [member for name, member in inspect.getmembers(ImageIndex) if not name.startswith("_")]
    known |= {name for method in methods if callable(method) for name in inspect.signature(method).parameters}
    known |= set(inspect.signature(imgindex.link_folders).parameters) | set(imgindex.LabelFormat.__dataclass_fields__)
    known |= set(inspect.signature(Clusterings.evaluate).parameters)
    named = {name for path in FILES for text in strings(path) for name, _ in PARAMETER.findall(text)}
    assert named
    assert named <= known


def test_an_error_of_the_command_line_names_flags(run: Run, three: Path) -> None:
    done = run("cluster", "-k", "40..2")
    assert done.returncode == 2
    assert "`" not in done.stderr
    done = run("duplicates", "--similar", "--distance", "0.1", "--index", "nowhere")
    assert "--index DIR" in done.stderr
    assert "path=" not in done.stderr
