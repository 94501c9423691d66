"""`imgindex list`: the images of an index in every format."""

from __future__ import annotations

from pathlib import Path

import pytest
from forking import Run


@pytest.mark.parametrize("format", ["tsv", "csv", "json", "jsonl", "paths", "table"])
def test_every_format_of_a_list_holds_every_image(run: Run, added: Path, format: str) -> None:
    result = run("list", "--format", format)
    assert result.returncode == 0
    for number in range(12):
        assert f"pictures/{'a' if number < 6 else 'b'}/{number}.png" in result.stdout
