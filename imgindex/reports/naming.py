"""Names for folders and files that are made: safe, telling, and each free."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

# What every file system of today allows, in bytes; and less, so that a number finds room.
LONGEST, CUT = 255, 240
BETWEEN = " - "


def key(name: str) -> str:
    """Return what two names have in common that are one on a disk that tells neither case nor accents' forms apart."""
    return unicodedata.normalize("NFC", name).casefold()


def safe(name: str) -> str:
    """Return a name that one folder can have, seen by `ls`: no slash, no control character, no dot at its beginning."""
    name = "".join("_" if _is_odd(char) else char for char in name).strip()
    name = f"_{name[1:]}" if name.startswith(".") else name
    return _shortened(name) or "_"


def free(name: str, taken: set[str], foreign: set[str]) -> str:
    """Return the name, or with a number where it is taken or foreign, and take it; both sets hold keys."""
    stem, ending = os.path.splitext(name)
    tried, number = name, 1
    while key(tried) in taken or key(tried) in foreign:
        number += 1
        tried = f"{_shortened(stem, CUT - len(os.fsencode(ending)))} ({number}){ending}"
    taken.add(key(tried))
    return tried


def telling(paths: Sequence[str]) -> dict[str, str]:
    """Return a file name for each of some absolute paths: its own, where no other path has it.

    Files of one name get in front of it as many of their folders as it takes to tell them apart: `paris - a.jpg`.
    """
    names: dict[str, str] = {}
    alike = defaultdict(list)
    for path in dict.fromkeys(paths):
        alike[key(os.path.basename(path))].append(path)
    for some in alike.values():
        names |= _told_apart(some) if len(some) > 1 else {some[0]: os.path.basename(some[0])}
    return names


def _is_odd(char: str) -> bool:
    """Whether a character has no place in a name: what Python holds a byte that is not UTF-8 as has one."""
    kind = unicodedata.category(char)
    return char == "/" or kind == "Cc" or (kind == "Cs" and not "\udc80" <= char <= "\udcff")


def _told_apart(paths: Iterable[str]) -> dict[str, str]:
    parts = {path: path.strip("/").split("/") for path in paths}
    deepest = max(map(len, parts.values()))
    candidates = [
        {path: BETWEEN.join(of_path[-depth:]) for path, of_path in parts.items()} for depth in range(1, 1 + deepest)
    ]
    # The shortest that tell as many apart as can be: `a.jpg` and `A.jpg` of one folder never are.
    names = max(candidates, key=lambda names: len({key(name) for name in names.values()}))
    return {path: _shortened_front(name) for path, name in names.items()}


def _shortened(name: str, most: int = LONGEST) -> str:
    """Cut a name's end off where it has more bytes, never within a character."""
    while len(os.fsencode(name)) > max(1, most):
        name = name[:-1]
    return name


def _shortened_front(name: str) -> str:
    """Cut off the beginning, where the folders are, and keep the end, where the ending is."""
    while len(os.fsencode(name)) > CUT:
        name = name[1:]
    return name
