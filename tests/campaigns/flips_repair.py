"""Checks one `repair`: nothing wrong is in the index afterwards, and nothing is missing that could be saved."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from flips_damage import Copy, Damage
from flips_index import Crashed, Hang, Refused, Truth, ask
from grid_mean import GridMean

from imgindex import ImageIndex
from imgindex.errors import ImgindexError
from imgindex.storage.verify import check

CATALOGUE = "catalogue.db"
CHANGED, GONE = "a/4.png", "b/17.png"
# How a refusal names the way out: the recipe, or the catalogue, is to be had from a copy alone.
WAYS_OUT = ("from a copy", "make one with", "pip install --upgrade", "move it away", "put the file itself")


def repaired(
    copy: Copy, damage: Damage, truths: dict[str, list[dict[str, Any]]], contents: dict[str, Truth], *, change: bool
) -> tuple[list[str], list[str]]:
    """Repair a damaged copy, add its pictures again, and return the outcome, and each promise that did not hold.

    change: whether one picture is changed and one is gone meanwhile.
    """
    pictures = copy.folder / "pictures"
    saved = copy.folder / "saved"
    if change:
        shutil.copytree(pictures, saved)
        os.replace(pictures / GONE, pictures / CHANGED)
    try:
        return _repaired(copy, damage, truths, contents)
    finally:
        if change:
            shutil.rmtree(pictures)
            saved.rename(pictures)


def _repaired(
    copy: Copy, damage: Damage, truths: dict[str, list[dict[str, Any]]], contents: dict[str, Truth]
) -> tuple[list[str], list[str]]:
    home, before = str(copy.home), _vectors_of(copy.home)
    try:
        report = ImageIndex.repair(home, encoder=GridMean())
    except ImgindexError as error:
        lost = [] if any(way in error.hint for way in WAYS_OUT) else [f"no way out: {error} ({error.hint})"]
        if _vectors_of(copy.home) != before:
            lost.append(f"refused, yet segments were changed: {error}")
        return ["refused"], lost
    except (Hang, Exception) as error:  # noqa: BLE001  which one it was is what is asked
        return ["failed"], [f"{type(error).__name__}: {error}"]
    lost = [f"verify still finds {problem}" for problem in check(home, full=True).problems]
    found = ask(home)
    lost += [f"{name} still fails: {answer}" for name, answer in _errors(found).items()]
    if lost:
        return ["failed"], lost
    dropped = {failure.path for failure in report.dropped}
    outcome, more = _compared(found, dropped, truths[damage.base][-1], catalogue=_of_catalogue(damage))
    # A catalogue of another time is a sound catalogue: its images may be present if their files still match.
    ever = [truth for base in truths.values() for truth in base]
    known = {(image["path"], image["sha256"]) for truth in ever for image in truth["images"]}
    more += wrong(found, contents)
    present = {(image["path"], image["sha256"]) for image in found["images"]}
    more += [f"{path!r} is in the index, and never was" for path, _ in present - known]
    return ["mended" if report.mended or report.embedded else "sound", *outcome], more + _added(copy, contents)


def _compared(
    found: dict[str, Any], dropped: set[str], before: dict[str, Any], *, catalogue: bool
) -> tuple[list[str], list[str]]:
    """Return what became of images that were present before the damage and are missing now, or have another id."""
    outcome, lost = [], []
    present = {image["path"]: image for image in found["images"]}
    for image in before["images"]:
        path, now = image["path"], present.get(image["path"])
        if now is None and path not in dropped:
            same = os.path.exists(path) and _sha256(path) == image["sha256"]
            if not catalogue:
                lost.append(f"{path} is neither in the index nor in the report")
            elif same:
                outcome.append("rows lost with the catalogue")
        elif now is not None and now["id"] != image["id"]:
            outcome.append("ids changed with the catalogue")
            if not catalogue:
                lost.append(f"{path} has another id: {now['id']}, not {image['id']}")
    return outcome, lost


def _added(copy: Copy, contents: dict[str, Truth]) -> list[str]:
    """Add the pictures again: the index must then be what the folder is."""
    with ImageIndex.open(copy.home, encoder=GridMean()) as index:
        report = index.add([copy.folder / "pictures"])
    found = ask(str(copy.home))
    errors = [f"after an add {name} fails: {answer}" for name, answer in _errors(found).items()]
    if errors:
        return errors
    lost = wrong(found, contents)
    there = {os.fspath(path): path for path in (copy.folder / "pictures").rglob("*.*")}
    good = {name: path for name, path in there.items() if _sha256(path) in contents}
    present = {image["path"]: image for image in found["images"]}
    if set(present) != set(good):
        lost.append(f"after an add: {sorted(map(repr, set(present) ^ set(good)))} ({report})")
    for name in set(present) & set(good):
        info, image = good[name].stat(), present[name]
        if (image["sha256"], image["size"], image["mtime_ns"]) != (_sha256(good[name]), info.st_size, info.st_mtime_ns):
            lost.append(f"after an add {name!r} is not its file: {image}")
    failed = {failure["path"]: failure["stage"] for failure in found["failures"]}
    if set(failed) != set(there) - set(good):
        lost.append(f"after an add these are the failures: {failed}")
    return lost + [f"after an add verify finds {problem}" for problem in check(str(copy.home), full=True).problems]


def wrong(found: dict[str, Any], contents: dict[str, Truth]) -> list[str]:
    """Return the images whose vector or size is not that of their content."""
    import numpy as np

    shape, data = found["vectors"]
    lost = []
    for image, vector in zip(found["images"], np.frombuffer(data, dtype=np.float32).reshape(shape), strict=True):
        truth = contents.get(image["sha256"])
        now = Truth(tuple(vector.tolist()), image["width"], image["height"], image["format"])
        if truth != now:
            lost.append(f"wrong: {image['path']!r} is recorded as {now}, and is {truth}")
    return lost


def _of_catalogue(damage: Damage) -> bool:
    return any(name.startswith(CATALOGUE) for name in damage.patch)


def _errors(found: dict[str, Any]) -> dict[str, Refused | Crashed]:
    """The answers that are errors, but for what an index of no images cannot do."""
    return {
        name: answer
        for name, answer in found.items()
        if isinstance(answer, Crashed) or (isinstance(answer, Refused) and answer.name != "TooFewDistinctVectors")
    }


def _vectors_of(home: Path) -> dict[str, bytes]:
    folder = home / "segments"
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in folder.glob("*.vec") if path.is_file() and path.stat().st_size}


def _sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
