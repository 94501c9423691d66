"""`imgindex remove`: what it takes out of the index."""

from __future__ import annotations

from pathlib import Path

from forking import Run


def test_remove_takes_out_and_says_what(run: Run, added: Path) -> None:
    result = run("remove", "pictures/a", "--format", "paths")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 6
    assert len(run("list", "--format", "paths").stdout.splitlines()) == 6
    again = run("remove", "pictures/a")
    assert (again.returncode, again.stdout) == (1, "")
