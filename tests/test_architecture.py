"""docs/architecture.md names every file, docs/reliability.md the tests of each fault, and each file has a test file."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def named_files() -> set[str]:
    """The files in the tables of docs/architecture.md, relative to the package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Every file")[2]
    files: set[str] = set()
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        room = re.match(r"`(\w+/)`", section)
        cells = re.findall(r"^\| ([^|]+) \|", section, flags=re.MULTILINE)
        names = re.findall(r"`([^`]+\.py)`", " ".join(cells))
        files |= {(room[1] if room else "") + name for name in names}
    return files


def test_the_architecture_page_names_every_file_and_no_others() -> None:
    package = ROOT / "imgindex"
    files = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert named_files() == files


# Files without code that a test could run by itself, or that every test of the command line runs.
WITHOUT_A_TEST = {
    "_version.py": "one constant",
    "types.py": "dataclasses and protocols",
    "encoders/base.py": "a dataclass and a protocol",
    "ingest/items.py": "dataclasses",
}


def has_a_test(file: Path) -> bool:
    """Whether tests/ has test_NAME.py or test_NAME_TOPIC.py in the place of this file."""
    folder = ROOT / "tests" / file.parent
    return (folder / f"test_{file.stem}.py").is_file() or any(folder.glob(f"test_{file.stem}_*.py"))


def test_every_file_of_the_package_has_a_test_file_of_its_name() -> None:
    package = ROOT / "imgindex"
    files = {path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert {str(file) for file in files if not has_a_test(file)} == set(WITHOUT_A_TEST)


def test_no_test_imports_a_test_or_a_conftest() -> None:
    imports = re.compile(r"^\s*(?:from|import) (?:conftest|test_)", re.MULTILINE)
    files = (ROOT / "tests").rglob("*.py")
    assert [file.name for file in files if imports.search(file.read_text(encoding="utf-8"))] == []


def test_each_fault_that_users_met_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    section = text.partition("## What users of similar programs met")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| kind |")]
    assert len(rows) > 50
    for row in rows:
        named = re.findall(r"`([a-z_/]*test_\w+\.py)`", row.rpartition(" | ")[2])
        assert named, row
        assert all((ROOT / "tests" / name).is_file() for name in named), row
