"""Labels by ImageID, in natural order or in that of a sample submission."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from imgindex.answers.clusterings import Clustering, Form
from imgindex.errors import SampleMismatch, UsageError

SHOWN = 5
ID_KINDS = ("stem", "name", "path")


# Columns that may stand beside the labels; name and cluster (its lasting id) are those of the image's cluster.
EXTRAS = ("name", "cluster", "distance", "margin", "second", "silhouette")


@dataclass(frozen=True, slots=True)
class Submission:
    """A CSV that waits for its labels: `rows` of text whose first column is the ImageID; `paths`: ImageID → path."""

    header: list[str]
    rows: list[list[str]]
    label_column: int
    paths: dict[str, str]

    def fill(self, labels: dict[str, int], extras: Mapping[str, list[str]] | None = None) -> list[list[str]]:
        """Return the rows with their labels, path → label, and behind them the extras, path → what stands there."""
        at = self.label_column
        beside = extras or {}
        return [
            [*row[:at], str(labels[path]), *row[at + 1 :], *beside.get(path, ())]
            for row in self.rows
            for path in (self.paths[row[0]],)
        ]


def form_of(form: Form, paths: Sequence[str], *, failed: Mapping[str, str]) -> Submission:
    """Return the CSV that a form asks for; failed: path → reason of images that could not be read.

    Raises UsageError, SampleMismatch as `image_ids` and `like` do.
    """
    if unknown := [extra for extra in form.extras if extra not in EXTRAS]:
        raise UsageError(f"there is no column {unknown[0]!r}", hint=f"choose from: {', '.join(EXTRAS)}")
    ids = image_ids(paths, form.id)
    made = plain(ids) if form.like is None else like(form.like, ids, failed=failed)
    if twice := [extra for extra in form.extras if extra in made.header or form.extras.count(extra) > 1]:
        raise UsageError(f"there would be two columns {twice[0]!r}", hint="leave that one out")
    return made


def labelled(clustering: Clustering, form: Submission) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a form with the labels of a clustering, and the extras that it was asked for."""
    labels = dict(zip(clustering.paths, clustering.labels.tolist(), strict=True))
    columns = [_extra(clustering, extra) for extra in clustering.form.extras]
    beside = {path: list(row) for path, *row in zip(clustering.paths, *columns, strict=True)} if columns else None
    return [*form.header, *clustering.form.extras], form.fill(labels, beside)


def _extra(clustering: Clustering, extra: str) -> list[str]:
    fit, labels = clustering.fit, clustering.labels.tolist()
    if extra == "name":
        return [clustering.clusters[label].name or "" for label in labels]
    if extra == "cluster":
        return [str(clustering.clusters[label].id or "") for label in labels]
    if fit is None:
        return [""] * len(labels)
    if extra == "second":
        return [str(label) if label >= 0 else "" for label in fit.seconds.tolist()]
    column = {"distance": fit.distances, "margin": fit.margins, "silhouette": fit.silhouettes}[extra]
    return ["" if math.isnan(value) else f"{value:.6f}" for value in column.tolist()]


def read_classes(text: str) -> dict[str, str]:
    """Return ImageID → class of a CSV: the id is its first column, the class that called label or class, or the second.

    Raises SampleMismatch for what is no such CSV, and for an id that stands there twice with different classes.
    """
    header, rows = _read(text, "the truth")
    at = _column(header, ("label", "class"))
    found: dict[str, str] = {}
    for row in rows:
        if found.setdefault(row[0], row[at]) != row[at]:
            raise SampleMismatch(f"{row[0]!r} has two classes, {found[row[0]]!r} and {row[at]!r}")
    return found


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


def like(sample: str, ids: dict[str, str], *, failed: Mapping[str, str]) -> Submission:
    """Return a sample submission, its columns, ids and order, to have its label column filled in.

    sample: text of a CSV whose first column is the id, and whose label is the column of that name, else the second.
    failed: path → reason of images that could not be read. Raises SampleMismatch when ids are missing or too many.
    """
    header, rows = _read(sample, "the sample")
    _compare([row[0] for row in rows], ids, failed)
    return Submission(header, rows, _column(header, ("label",)), ids)


def read_text(path: str) -> str:
    """Return the text of a CSV as somebody's spreadsheet may have written it. Raises OSError."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8-sig", "surrogateescape")


def natural(id: str) -> list[tuple[int, int, str]]:
    """Sort key by which 2 comes before 10, and 007 beside 7."""
    parts = re.findall(r"\d{1,4000}|\D+", id)  # Python refuses to make a number of more than 4,300 digits
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _column(header: list[str], names: Sequence[str]) -> int:
    return next((at for at, name in enumerate(header) if name.strip().lower() in names), 1)


def _read(text: str, what: str) -> tuple[list[str], list[list[str]]]:
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (csv.Error, ValueError) as error:
        raise SampleMismatch(f"{what} is no CSV with a header: {error}") from error
    odd = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if len(header) < 2 or odd is not None:
        where = f"line {odd} has another number of columns" if odd else "it needs two columns, an id and a label"
        raise SampleMismatch(f"{what} cannot be used: {where}", hint="its header should be like ImageID,label")
    return header, rows


def _compare(wanted: list[str], ids: dict[str, str], failed: Mapping[str, str]) -> None:
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


def _way_out(missing: list[str], ids: dict[str, str], failed: Mapping[str, str]) -> str:
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
