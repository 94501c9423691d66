"""Paths that a command is given, those that stdin names among them."""

from __future__ import annotations

import os
import sys

from imgindex.errors import UsageError


def named(paths: list[str], *, null: bool, command: str) -> list[str]:
    """Return the paths given, with those that stdin names in the place of "-". Raises UsageError without a stdin."""
    names: list[str] = []
    for path in paths:
        if path != "-":
            names.append(path)
            continue
        if sys.stdin is None or sys.stdin.isatty():
            what = "closed" if sys.stdin is None else "a terminal"
            raise UsageError(
                f"- reads paths from stdin, and stdin is {what}", hint=f"pipe them in: find … | imgindex {command} -"
            )
        lines = sys.stdin.buffer.read().split(b"\0" if null else b"\n")
        names += [os.fsdecode(line) for line in lines if line]
    if null and "-" not in paths:
        raise UsageError("-0 speaks of paths from stdin", hint="give - as a path")
    return names
