"""Names for folders and files: safe on every file system, recognisable, and different from each other."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

# File systems allow names of 255 bytes. A name that gets a number is cut to 240 first.
LONGEST, CUT = 255, 240


def comparison_key(name: str) -> str:
    """Return the form in which a name is compared: some file systems ignore case and how accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def safe_name(name: str) -> str:
    """Return the name as a file system can store it: no slash, no control character, no dot at the beginning."""
    name = "".join("_" if _is_unsafe(char) else char for char in name).strip()
    name = f"_{name[1:]}" if name.startswith(".") else name
    return _cut_end(name, LONGEST) or "_"


def unused_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is taken, and add its comparison key to `taken`."""
    stem, ending = os.path.splitext(name)
    unused, number = name, 1
    while comparison_key(unused) in taken:
        number += 1
        unused = f"{_cut_end(stem, CUT - len(os.fsencode(ending)))} ({number}){ending}"
    taken.add(comparison_key(unused))
    return unused


def distinct_names(paths: Sequence[str]) -> dict[str, str]:
    """Return a file name for each of some absolute paths: its own where no other path has it, else `paris - a.jpg`.

    As few folders are put in front as distinguish most paths: `a.jpg` and `A.jpg` of one folder still have one name.
    """
    by_name = defaultdict(list)
    for path in dict.fromkeys(paths):
        by_name[comparison_key(os.path.basename(path))].append(path)
    return {path: name for same in by_name.values() for path, name in _with_folders(same).items()}


def _with_folders(paths: Sequence[str]) -> dict[str, str]:
    parts = {path: path.strip("/").split("/") for path in paths}
    depths = range(1, 1 + max(map(len, parts.values()))) if len(paths) > 1 else [1]
    each = [{path: " - ".join(parts[path][-depth:]) for path in paths} for depth in depths]
    best = max(each, key=lambda names: len(set(map(comparison_key, names.values()))))
    return {path: _cut_front(name, LONGEST) for path, name in best.items()}


def _is_unsafe(char: str) -> bool:
    """Whether a name may not have a character; surrogates that stand for bytes that are not UTF-8 are allowed."""
    kind = unicodedata.category(char)
    return char == "/" or kind == "Cc" or (kind == "Cs" and not "\udc80" <= char <= "\udcff")


def _cut_end(name: str, most: int) -> str:
    """Return the beginning of a name, at most so many bytes, without cutting a character in two."""
    while len(os.fsencode(name)) > max(1, most):
        name = name[:-1]
    return name


def _cut_front(name: str, most: int) -> str:
    """Return the end of a name, where the file's own name is, at most so many bytes."""
    while len(os.fsencode(name)) > most:
        name = name[1:]
    return name
