"""docs/architecture.md names every file of the package, and no others."""

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
