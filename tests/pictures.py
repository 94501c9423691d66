"""Draws plain pictures, and reads what a folder holds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def draw(path: Path, colour: int | tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Path:
    """Draw one plain picture; a number stands for a colour of its own. Losslessly, if it is a PNG."""
    if isinstance(colour, int):
        colour = (colour * 37 % 256, colour * 101 % 256, colour * 211 % 256)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """All bytes below a folder, but for what SQLite's readers and the lock leave in an index, and thumbnails."""
    passing = {"catalogue.db-shm", "catalogue.db-wal", "lock"}
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in passing and path.parent.name != "thumbnails"
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def twelve_and_a_broken_one(folder: Path) -> Path:
    """Draw twelve pictures in a folder, beside a file that is not one."""
    for number in range(12):
        draw(folder / f"{number}.png", number, (64, 48))
    (folder / "broken.jpg").write_bytes(b"this is not an image")
    return folder
