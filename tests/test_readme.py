"""What the README shows is run: its example in Python on the sample images, which must come apart by kind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import adjusted_rand_score

from imgindex import ImageIndex

ROOT = Path(__file__).parent.parent
# As many of each kind as tell the kinds apart; the demo draws 50.
IMAGES = 40
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has drawn its sample images, and the README's example has been run."""
    folder = tmp_path_factory.mktemp("readme")
    draw = [sys.executable, str(ROOT / "benchmarks" / "sample_images.py"), "data/test", "--sample", "data/sample.csv"]
    subprocess.run([*draw, "--count", str(IMAGES)], cwd=folder, check=True)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    said = subprocess.run([sys.executable, "-c", example], cwd=folder, check=True, capture_output=True, text=True)
    (folder / "said.txt").write_text(said.stdout, encoding="utf-8")
    return folder


def test_the_example_in_python_prints_three_matches_and_a_table(drawn: Path) -> None:
    lines = (drawn / "said.txt").read_text(encoding="utf-8").splitlines()
    images = re.escape(str(drawn / "data" / "test"))
    assert all(re.fullmatch(rf"\d\.\d{{3}}  {images}/\d+\.jpg", line) for line in lines[:3])
    assert "label" in lines[3]


def test_the_five_kinds_of_sample_images_come_apart(drawn: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import sample_images
    finally:
        sys.path.pop(0)
    kinds = sample_images.write(drawn / "again", IMAGES, seed=7)
    with ImageIndex.open(drawn / "photos.imgindex") as index:
        for seed in range(3):
            found = index.cluster(k=5, seed=seed)
            truth = [kinds[Path(path).name] for path in found.paths]
            assert len(set(truth)) == 5
            assert adjusted_rand_score(truth, found.labels) >= 0.9


def test_the_set_up_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE)


def test_every_file_that_the_readme_points_to_is_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
