"""The paths and queries that a call names: on the command line, on stdin, or in a file."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from imgindex.errors import UsageError
from imgindex.storage.paths import absolute

if TYPE_CHECKING:
    from imgindex.search.query import Mix

BLOCK = 1 << 16
STDIN, PLUS, MINUS = "-", "+", "-"
LINE_FORMAT = 'a line is {"query": "a.jpg"} or {"plus": ["a.jpg", "b.jpg"], "minus": ["c.jpg"]}'
# The bytes that programs on Windows put before a text, and its encoding unless that is UTF-8.
MARKS = {codecs.BOM_UTF8: None, codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def stdin_paths(command: str, *, null: bool) -> Iterator[str]:
    """Yield the paths on stdin, one a line, or each before a NUL. Raises UsageError if there is no such stdin."""
    check_stdin("-", hint=f"pipe them in: find … | imgindex {command} -")
    return _split(sys.stdin.buffer, null=null)


def check_stdin(option: str, *, hint: str = "pipe it in, or name a file") -> None:
    """Raise UsageError if stdin is closed, or is a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise UsageError(f"{option} reads stdin, but stdin is {state}", hint=hint)


def expand_paths(paths: Sequence[str], file_name: str | None = None, *, null: bool, command: str) -> list[str]:
    """Return the given paths, with the paths on stdin in the place of "-", and behind them those in a file.

    Raises UsageError as `stdin_paths`.
    """
    expanded: list[str] = []
    for path in paths:
        expanded.extend(stdin_paths(command, null=null) if path == STDIN else [path])
    if file_name is not None:
        with open(absolute(file_name), "rb") as file:
            expanded.extend(_split(file, null=null))
    return expanded


def read_queries(words: Sequence[str], file_name: str | None, *, null: bool) -> Iterator[str | Mix]:
    """Yield the images and mixes that the words name, then those of a file.

    The word + or - between two images makes a mix of them; a - that is the first or the last word stands for the paths
    on stdin. file_name: a file with a path on each line or, if its name ends in .jsonl, with lines as in LINE_FORMAT.

    Raises UsageError if a query is missing, or if one that cannot be parsed.
    """
    if not words and file_name is None:
        raise UsageError("no image to compare with", hint="name images, or - for paths from stdin, or --from FILE")
    terms = _terms(words)
    # Opened before the first query is answered, so that a wrong name is an error before any work; read after the words.
    file = None if file_name is None else open(absolute(file_name), "rb")  # noqa: SIM115
    return _queries(terms, file, file_name or "", null)


def _queries(terms: list[list[str]], file: IO[bytes] | None, file_name: str, null: bool) -> Iterator[str | Mix]:
    from imgindex.search.query import Mix

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
            if file_name.lower().endswith(".jsonl"):
                lines = enumerate(_lines(file), 1)
                yield from (_parse(line, file_name, number) for number, line in lines if line.strip())
            else:
                yield from _split(file, null=null)


def _terms(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each query: one image, or images with + or - between them. Raises UsageError."""
    terms: list[list[str]] = []
    last = len(words) - 1
    for at, word in enumerate(words):
        is_sign = word == PLUS or (word == MINUS and 0 < at < last)
        if not is_sign:
            follows_sign = bool(terms) and terms[-1][-1] in (PLUS, MINUS) and len(terms[-1]) > 1
            if follows_sign and word != STDIN:
                terms[-1].append(word)
                continue
            terms.append([word])
        elif not terms or len(terms[-1]) % 2 == 0 or terms[-1] == [STDIN]:
            raise _misplaced(word)
        else:
            terms[-1].append(word)
    for term in terms:
        if len(term) % 2 == 0:
            raise _misplaced(term[-1])
    return terms


def _misplaced(sign: str) -> UsageError:
    return UsageError(f"{sign} must stand between two images", hint="a file of that name is ./" + sign)


def _parse(line: str, file_name: str, number: int) -> str | Mix:
    from imgindex.search.query import Mix

    try:
        query: Any = json.loads(line)
        if set(query) == {"query"} and isinstance(query["query"], str):
            return query["query"]
        if "plus" in query and set(query) <= {"plus", "minus"} and all(map(_are_paths, query.values())):
            return Mix(query["plus"], query.get("minus", ()))
    except (ValueError, TypeError, RecursionError):
        pass
    raise UsageError(f"line {number} of {file_name} is not a query", hint=LINE_FORMAT)


def _are_paths(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(path, str) for path in value)


def _split(stream: IO[bytes], *, null: bool) -> Iterator[str]:
    """Yield the lines of a stream, or the texts before its NULs, each as soon as it is complete; not the empty ones."""
    paths = map(os.fsdecode, _parts(_blocks(stream), b"\0")) if null else _lines(stream)
    return filter(None, paths)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a list of paths, also of one that Windows wrote: CRLF, the mark of UTF-8, or UTF-16.

    A file whose name begins with these bytes, or ends in CR, is still found. Raises UsageError for a NUL.
    """
    blocks = _blocks(stream)
    start = b""
    # Only a list that may begin with a mark waits for the end of its first line.
    while _may_be_marked(start) and b"\n" not in start and (block := next(blocks, b"")):
        start += block
    mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
    # In UTF-16 the end of a line has a NUL.
    is_name = os.path.lexists(start.partition(b"\n")[0]) or (MARKS.get(mark) is not None and b"\0" not in start)
    if mark and is_name:
        mark = b""
    text: Iterable[bytes] = chain([start[len(mark) :]], blocks)
    if encoding := MARKS.get(mark):
        text = _in_utf_8(text, encoding)
    for number, line in enumerate(_parts(text, b"\n"), 1):
        if b"\0" in line:
            raise UsageError(
                f"line {number} of the list of paths has a NUL",
                hint="give -0 if each path ends in NUL; save a text in UTF-16 as UTF-8",
            )
        yield os.fsdecode(line[:-1] if line.endswith(b"\r") and not os.path.lexists(line) else line)


def _may_be_marked(start: bytes) -> bool:
    return any(mark.startswith(start[: len(mark)]) for mark in MARKS)


def _in_utf_8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield blocks of text in another encoding as UTF-8. Raises UsageError."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise UsageError(f"the list of paths is not in {encoding}: {error}", hint="save it in UTF-8") from error


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what a stream has, as soon as it has anything."""
    read = getattr(stream, "read1", stream.read)
    return iter(lambda: read(BLOCK), b"")


def _parts(blocks: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Yield the parts of a text that end in `end`, and the rest if there is any."""
    rest = b""
    for block in blocks:
        *parts, rest = (rest + block).split(end)
        yield from parts
    if rest:
        yield rest
