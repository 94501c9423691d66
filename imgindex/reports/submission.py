"""Labels by ImageID, in natural order or in that of a sample submission."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imgindex.errors import SampleMismatch, UsageError

SHOWN = 5
ID_KINDS = ("stem", "name", "path")


@dataclass(frozen=True, slots=True)
class Submission:
    """A CSV that waits for its labels: `rows` of text whose first column is the ImageID; `paths`: ImageID → path."""

    header: list[str]
    rows: list[list[str]]
    label_column: int
    paths: dict[str, str]

    def fill(self, labels: dict[str, int]) -> list[list[str]]:
        """Return the rows with their labels; labels: path → label."""
        at = self.label_column
        return [[*row[:at], str(labels[self.paths[row[0]]]), *row[at + 1 :]] for row in self.rows]


def image_ids(paths: Sequence[str], kind: str) -> dict[str, str]:
    """Return ImageID → path; kind: stem (the name without its ending), name, or path.

    Raises UsageError when two images would have one ImageID.
    """
    if kind not in ID_KINDS:
        raise UsageError(f"there is no --id {kind}", hint=f"choose one of: {', '.join(ID_KINDS)}")
    found: dict[str, str] = {}
    for path in paths:
        name = os.path.basename(path)
        id = {"stem": os.path.splitext(name)[0], "name": name, "path": path}[kind]
        if id in found:
            way = "name" if kind == "stem" and os.path.basename(found[id]) != name else "path"
            raise UsageError(
                f"{found[id]!r} and {path!r} have the same ImageID {id!r}", hint=f"tell them apart with --id {way}"
            )
        found[id] = path
    return found


def plain(ids: dict[str, str]) -> Submission:
    """Return ImageID,label in the natural order of ImageID; ids: ImageID → path."""
    return Submission(["ImageID", "label"], [[id, ""] for id in sorted(ids, key=natural)], 1, ids)


def like(sample: str, ids: dict[str, str], *, failed: dict[str, str]) -> Submission:
    """Return a sample submission, its columns, ids and order, to have its label column filled in.

    sample: path of a CSV whose first column is the id, and whose label is the column of that name, else the second.
    failed: path → reason of images that could not be read. Raises SampleMismatch when ids are missing or too many.
    """
    header, rows = _read(sample)
    _compare([row[0] for row in rows], ids, failed)
    label = next((at for at, name in enumerate(header) if name.strip().lower() == "label"), 1)
    return Submission(header, rows, label, ids)


def natural(id: str) -> list[tuple[int, int, str]]:
    """Sort key by which 2 comes before 10, and 007 beside 7."""
    parts = re.findall(r"\d{1,4000}|\D+", id)  # Python refuses to make a number of more than 4,300 digits
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _read(sample: str) -> tuple[list[str], list[list[str]]]:
    with open(sample, "rb") as file:
        text = file.read().decode("utf-8-sig", "surrogateescape")
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (csv.Error, ValueError) as error:
        raise SampleMismatch(f"{sample} is no CSV with a header: {error}") from error
    odd = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if len(header) < 2 or odd is not None:
        where = f"line {odd} has another number of columns" if odd else "it needs two columns, an id and a label"
        raise SampleMismatch(f"{sample} cannot be copied: {where}", hint="its header should be like ImageID,label")
    return header, rows


def _compare(wanted: list[str], ids: dict[str, str], failed: dict[str, str]) -> None:
    there, seen = set(wanted), set[str]()
    twice = [id for id in wanted if id in seen or seen.add(id)]  # type: ignore[func-returns-value]
    if twice:
        raise SampleMismatch(f"the sample has {_some(twice)} more than once")
    missing = [id for id in wanted if id not in ids]
    extra = [id for id in ids if id not in there]
    if not missing and not extra:
        return
    said = [f"the sample asks for {_some(missing)}, which the index does not have"] if missing else []
    said += [f"the index has {_some(extra)}, which the sample does not ask for"] if extra else []
    raise SampleMismatch("; ".join(said), hint=_way_out(missing, ids, failed))


def _way_out(missing: list[str], ids: dict[str, str], failed: dict[str, str]) -> str:
    for path, reason in failed.items():
        name = os.path.basename(path)
        if {name, os.path.splitext(name)[0]} & set(missing):
            return f"{path} could not be read ({reason}): see `imgindex failures`"
    for kind in ID_KINDS:
        forms = {"stem": {os.path.splitext(os.path.basename(p))[0] for p in ids.values()}}
        forms |= {"name": {os.path.basename(p) for p in ids.values()}, "path": set(ids.values())}
        if missing and set(missing) <= forms[kind]:
            return f"the sample's ids look like those of --id {kind}"
    return "add the images that are missing, or index the sample's images alone with --index DIR"


def _some(ids: Iterable[str]) -> str:
    ids = list(ids)
    rest = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(repr(id) for id in ids[:SHOWN]) + rest
