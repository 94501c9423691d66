"""The journal of a folder to which files were moved: what is there, and where it came from.

It has a line for each file, which is on the disk before the file is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any

from imgindex.errors import FolderNotOurs
from imgindex.sources.local import MOVED_JOURNAL
from imgindex.storage import durable

HEADER = {"journal": "files that imgindex moved here", "version": 1, "undo": "imgindex duplicates --undo FOLDER"}


class Journal:
    """The list of the files that were moved below a folder, with where they came from."""

    def __init__(self, folder: str, records: list[dict[str, Any]], length: int) -> None:
        self.folder, self.records = folder, records
        self.path = os.path.join(folder, MOVED_JOURNAL)
        self._length = length

    @classmethod
    def open(cls, folder: str) -> Journal:
        """Return the journal of a folder, an empty one where there is none yet.

        Raises FolderNotOurs for a folder that holds other files.
        """
        with contextlib.suppress(FileNotFoundError):
            if MOVED_JOURNAL not in (names := os.listdir(folder)):
                if names:
                    raise FolderNotOurs(
                        f"{folder} holds files that imgindex did not move there", hint="name a new or an empty folder"
                    )
                return cls(folder, [], 0)
            return cls.read(folder)
        return cls(folder, [], 0)

    @classmethod
    def read(cls, folder: str) -> Journal:
        """Return the journal of a folder that has one. Raises FolderNotOurs."""
        path = os.path.join(folder, MOVED_JOURNAL)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FolderNotOurs(f"imgindex moved no files to {folder}", hint=f"it has no {MOVED_JOURNAL}") from error
        # A line that was being written when the process died: nothing was moved for it.
        whole = data[: data.rfind(b"\n") + 1]
        try:
            header, *records = [json.loads(line) for line in whole.splitlines()] or [HEADER]
            if header["version"] != HEADER["version"]:
                raise FolderNotOurs(f"{path} was written by a newer imgindex", hint="use that version")
            for record in records:
                _check(record)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FolderNotOurs(f"{path} is damaged: {error}", hint="put it back from a copy") from error
        return cls(folder, records, len(whole))

    def write(self, record: dict[str, Any]) -> None:
        """Add a record, and return once the disk has it."""
        if not self._length:
            self._append(HEADER)
        self._append(record)
        self.records.append(record)

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        durable.append(self.path, self._length, line)
        self._length += len(line)

    def replace(self, records: Sequence[dict[str, Any]]) -> None:
        """Keep only these records; without any, remove the journal."""
        if records:
            durable.write_whole(self.path, b"".join(json.dumps(one).encode() + b"\n" for one in (HEADER, *records)))
        else:
            for path in (f"{self.path}.new", self.path):  # the first one may be left by a process that died
                with contextlib.suppress(FileNotFoundError):
                    durable.remove(path)
        self.records = list(records)


def _check(record: Any) -> None:
    """Raise ValueError for a record that no move wrote, such as one that leads out of its folder."""
    source, to = record["from"], record["to"]
    if not all(isinstance(one, str) and "\0" not in one for one in (source, to, record["sha256"])):
        raise ValueError("a record without paths")
    if not source.startswith("/") or to.startswith("/") or ".." in to.split("/"):
        raise ValueError(f"a record of impossible paths: {record!a}"[:200])
