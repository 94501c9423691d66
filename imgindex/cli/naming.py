"""What a call asks about: paths and mixes of images, as words, lines of stdin or of a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.querying import Mix

BLOCK = 1 << 16
STDIN, PLUS, MINUS = "-", "+", "-"
HOW = 'a line is {"query": "a.jpg"} or {"plus": ["a.jpg", "b.jpg"], "minus": ["c.jpg"]}'


def stdin_paths(command: str, *, null: bool) -> Iterator[str]:
    """Yield the paths that stdin names, one a line, or each before a NUL. Raises UsageError where nobody wrote any."""
    if sys.stdin is None or sys.stdin.isatty():
        what = "closed" if sys.stdin is None else "a terminal"
        raise UsageError(
            f"- reads paths from stdin, and stdin is {what}", hint=f"pipe them in: find … | imgindex {command} -"
        )
    return _lines(sys.stdin.buffer, null=null)


def named(paths: Sequence[str], *, null: bool, command: str) -> list[str]:
    """Return the paths given, with those that stdin names in the place of "-". Raises UsageError without a stdin."""
    names: list[str] = []
    for path in paths:
        names.extend(stdin_paths(command, null=null) if path == STDIN else [path])
    if null and STDIN not in paths:
        raise UsageError("-0 speaks of paths from stdin", hint="give - as a path")
    return names


def questions(words: Sequence[str], source: str | None, *, null: bool) -> Iterator[str | Mix]:
    """Yield the images and mixes that words ask about, then those of a file.

    A word + or - between two images makes a mix of them; a - that is the first word or the last stands for the paths
    that stdin names. source: a file with a path on each line or, if it ends in .jsonl, as HOW says.

    Raises UsageError for what asks nothing.
    """
    if not words and source is None:
        raise UsageError("nothing to compare with", hint="name images, or - for paths from stdin, or --from FILE")
    if null and source is None and STDIN not in (*words[:1], *words[-1:]):
        raise UsageError("-0 speaks of paths from stdin", hint="give - as the first image")
    terms = _terms(words)
    file = None if source is None else open(source, "rb")  # noqa: SIM115  it is read after the words
    return _asked(terms, file, source or "", null)


def _asked(terms: list[list[str]], file: IO[bytes] | None, source: str, null: bool) -> Iterator[str | Mix]:
    from imgindex.querying import Mix

    for first, *more in terms:
        if first == STDIN:
            yield from stdin_paths("similar", null=null)
        elif not more:
            yield first
        else:
            plus, minus = ([more[at + 1] for at in range(0, len(more), 2) if more[at] == sign] for sign in "+-")
            yield Mix([first, *plus], minus)
    if file is not None:
        with file:
            if source.lower().endswith(".jsonl"):
                yield from (_parsed(line, source, number) for number, line in enumerate(file, 1) if line.strip())
            else:
                yield from _lines(file, null=null)


def _terms(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each question: an image, or images with + or - between them. Raises UsageError."""
    terms: list[list[str]] = []
    last = len(words) - 1
    for at, word in enumerate(words):
        joins = word == PLUS or (word == MINUS and 0 < at < last)
        if not joins:
            joined = bool(terms) and terms[-1][-1] in (PLUS, MINUS) and len(terms[-1]) > 1
            if joined and word != STDIN:
                terms[-1].append(word)
                continue
            terms.append([word])
        elif not terms or len(terms[-1]) % 2 == 0 or terms[-1] == [STDIN]:
            raise UsageError(f"{word} stands between no two images", hint="a file of that name is ./" + word)
        else:
            terms[-1].append(word)
    wrong = next((term[-1] for term in terms if len(term) % 2 == 0), None)
    if wrong is not None:
        raise UsageError(f"{wrong} stands between no two images", hint="a file of that name is ./" + wrong)
    return terms


def _parsed(line: bytes, source: str, number: int) -> str | Mix:
    from imgindex.querying import Mix

    try:
        asked: Any = json.loads(line)
        if set(asked) == {"query"} and isinstance(asked["query"], str):
            return asked["query"]
        if "plus" in asked and set(asked) <= {"plus", "minus"} and all(map(_are_paths, asked.values())):
            return Mix(asked["plus"], asked.get("minus", ()))
    except (ValueError, TypeError, RecursionError):
        pass
    raise UsageError(f"line {number} of {source} asks nothing", hint=HOW)


def _are_paths(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(path, str) for path in value)


def _lines(stream: IO[bytes], *, null: bool) -> Iterator[str]:
    """Yield what stands on the lines of a stream, or before its NULs, as soon as it is there; empty ones are none."""
    end, rest = b"\0" if null else b"\n", b""
    while block := stream.read1(BLOCK) if hasattr(stream, "read1") else stream.read(BLOCK):
        *lines, rest = (rest + block).split(end)
        yield from (os.fsdecode(line) for line in lines if line)
    if rest:
        yield os.fsdecode(rest)
