"""What docs/python.md shows is run: every example in its order, and the service over HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
SERVICE = next(block for block in BLOCKS if block.startswith("# service.py"))
PROGRAM = "\n".join(block for block in BLOCKS if block != SERVICE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos/cat.jpg` and other drawn images, in which the examples were run."""
    folder = tmp_path_factory.mktemp("guide")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import sample_images
    finally:
        sys.path.pop(0)
    sample_images.write(folder / "photos", 24, seed=7)
    min(path for path in (folder / "photos").iterdir() if path.name != "1.jpg").rename(folder / "photos" / "cat.jpg")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_examples_print_what_their_comments_say(folder: Path) -> None:
    said = (folder / "said.txt").read_text(encoding="utf-8")
    shown = re.findall(r"print\(.*?\)  # (.+)", PROGRAM)
    assert len(shown) >= 5
    for line in shown:
        # Figures, and paths that are shortened, differ from run to run.
        pattern = re.sub(r"\\?…|\d+(\\\.\d+)?", ".*", re.escape(line))
        assert re.search(f"^{pattern}$", said, flags=re.MULTILINE), (line, said)


def test_the_examples_write_the_files_that_they_name(folder: Path) -> None:
    for name in ("clusters.html", "clusters.png", "photos.imgindex/catalogue.db", "colours.imgindex/catalogue.db"):
        assert (folder / name).stat().st_size > 0


def test_the_service_answers_over_http(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(SERVICE, names)
    with testclient.TestClient(names["app"]) as client:
        assert client.get("/count").json() == {"images": 24}
        answer = client.post("/similar", content=(folder / "photos/cat.jpg").read_bytes())
        assert [Path(match["path"]).name for match in answer.json()][:1] != []
        assert len(answer.json()) == 5
        refused = client.post("/similar", content=b"no picture")
        assert refused.status_code == 400
        assert "error" in refused.json()
        assert client.post("/similar", content=b"").status_code == 400
