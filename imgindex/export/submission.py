"""Labels of a clustering by ImageID, in natural order or laid out as a sample submission."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from imgindex.errors import ImgindexError, SampleMismatch, UsageError
from imgindex.export.csv_input import parse_csv
from imgindex.results import Clustering, LabelFormat
from imgindex.storage.paths import absolute, by_nfc, display_path, in_either_form, joined, real_path

# What tables call their column of ids, without case and punctuation: an image may have such a name, too.
HEADERS = frozenset(["id", "imageid", "image", "img", "file", "filename", "name", "path", "stem"])
# Ids that a message lists.
LISTED = 5
ID_KINDS = ("stem", "name", "path")
# Columns that may be beside the labels; name and cluster (its lasting id) are those of the image's cluster.
EXTRAS = ("name", "cluster", "distance", "margin", "second", "silhouette")


@dataclass(frozen=True, slots=True)
class Submission:
    """A CSV whose label column is to be filled: rows of text, the ImageID first; paths: ImageID → path."""

    header: list[str]
    rows: list[list[str]]
    label_column: int
    paths: dict[str, str]

    def fill(self, labels: dict[str, int], extras: Mapping[str, list[str]] | None = None) -> list[list[str]]:
        """Return the rows with their labels (path → label), followed by further columns (path → values)."""
        at = self.label_column
        beside = extras or {}
        return [
            [*row[:at], str(labels[path]), *row[at + 1 :], *beside.get(path, ())]
            for row in self.rows
            for path in (self.paths[row[0]],)
        ]


def make_submission(label_format: LabelFormat, paths: Sequence[str], *, failed: Mapping[str, str]) -> Submission:
    """Return the CSV of a label format for the images at `paths`, its labels still empty.

    failed: path → reason of images that could not be read. Raises UsageError, SampleMismatch as `image_ids` and
    `sample_submission` do.
    """
    if unknown := [extra for extra in label_format.extras if extra not in EXTRAS]:
        raise UsageError(f"unknown column {unknown[0]!r}", hint=f"choose from: {', '.join(EXTRAS)}")
    ids = image_ids(paths, label_format.id, relative_to=label_format.relative_to)
    if label_format.like is None:
        submission = plain_submission(ids)
    else:
        submission = sample_submission(
            label_format.like, ids, failed=failed, kind=label_format.id, relative_to=label_format.relative_to
        )
    columns = Counter([*submission.header, *label_format.extras])
    if twice := [extra for extra in label_format.extras if columns[extra] > 1]:
        raise UsageError(f"there would be two columns {twice[0]!r}", hint="leave that one out")
    return submission


def label_rows(
    clustering: Clustering, submission: Submission, extras: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a submission with the labels of a clustering, and the columns `extras`."""
    labels = dict(zip(clustering.paths, clustering.labels.tolist(), strict=True))
    columns = [_extra(clustering, extra) for extra in extras]
    columns_by_path = {path: list(row) for path, *row in zip(clustering.paths, *columns, strict=True)}
    return [*submission.header, *extras], submission.fill(labels, columns_by_path)


def _extra(clustering: Clustering, extra: str) -> list[str]:
    fit, labels = clustering.fit, clustering.labels.tolist()
    if extra == "name":
        return [clustering.clusters[label].name or "" for label in labels]
    if extra == "cluster":
        return [str(clustering.clusters[label].id or "") for label in labels]
    if fit is None:
        return [""] * len(labels)
    if extra == "second":
        return [str(label) if label >= 0 else "" for label in fit.second_labels.tolist()]
    column = {"distance": fit.distances, "margin": fit.margins, "silhouette": fit.silhouettes}[extra]
    return ["" if math.isnan(value) else f"{value:.6f}" for value in column.tolist()]


def read_classes(text: str) -> tuple[str, dict[str, str]]:
    """Return the header of the ids, and ImageID → class of a CSV.

    The id is the first column, the class that named label or class, or the second.
    Raises SampleMismatch for a file that is not such a CSV, and for an id with two different classes.
    """
    header, rows = parse_csv(text, "the truth", example="ImageID,class", error=SampleMismatch)
    at = _column(header, ("label", "class"))
    found: dict[str, str] = {}
    for row in rows:
        if found.setdefault(row[0], row[at]) != row[at]:
            raise SampleMismatch(f"{row[0]!r} has two classes, {found[row[0]]!r} and {row[at]!r}")
    return header[0], found


def distinct_kind(paths: Sequence[str], kind: str) -> str:
    """Return the kind of ImageID if no two images have the same one; otherwise the next kind for which that holds.

    >>> distinct_kind(["a/1.jpg", "b/1.png"], "stem"), distinct_kind(["a/1.jpg", "b/1.jpg"], "stem")
    ('name', 'path')
    """
    for other in ID_KINDS[ID_KINDS.index(kind) :] if kind in ID_KINDS else ():
        if len({_image_id(path, other, None) for path in paths}) == len(paths):
            return other
    return kind


def _image_id(path: str, kind: str, relative_to: str | None) -> str:
    if kind == "path":
        return display_path(path, relative_to)
    name = os.path.basename(path)
    return os.path.splitext(name)[0] if kind == "stem" else name


def image_ids(paths: Sequence[str], kind: str, *, relative_to: str | None = None) -> dict[str, str]:
    """Return ImageID → path; kind: stem (the name without its ending), name, or path (relative to `relative_to`).

    Raises UsageError for another kind, and when two images would have the same ImageID.
    """
    if kind not in ID_KINDS:
        raise UsageError(f"unknown kind of ImageID {kind!r}", hint=f"choose one of: {', '.join(ID_KINDS)}")
    folder = None if relative_to is None else absolute(relative_to)
    found: dict[str, str] = {}
    for path in paths:
        id = _image_id(path, kind, folder)
        if id in found:
            unique = "name" if kind == "stem" and os.path.basename(found[id]) != os.path.basename(path) else "path"
            raise UsageError(f"{found[id]!r} and {path!r} have the same ImageID {id!r}", hint=f"give `id={unique}`")
        found[id] = path
    return found


def match_ids(
    given: Iterable[str],
    ids: Mapping[str, str],
    *,
    header: str | None = None,
    kind: str | None = None,
    relative_to: str | None = None,
    error: type[ImgindexError] = SampleMismatch,
) -> dict[str, str]:
    """Return the ImageID of an image for each id of a table that means one; ids: ImageID → path.

    An id of the table may differ in how an accent is written; with the kind path, it may be any path to the image.
    header: what the table has above its ids.

    Raises `error` for an id that can be several images, for two ids that mean one image, and for a table that begins
    with an image instead of a header.
    """
    forms, by_path = by_nfc(ids), {path: id for id, path in ids.items()} if kind == "path" else {}
    found: dict[str, str] = {}
    meant: dict[str, str] = {}

    def find(name: str) -> str | None:
        if name in ids:
            return name
        id = in_either_form(name, forms, "ImageIDs", error)
        if id is None and by_path and name:
            path = absolute(name if name.startswith("~") else joined(relative_to or "/", name))
            id = by_path.get(path) or by_path.get(real_path(path))
        return id

    for name in given:
        id = find(name)
        if id is not None:
            if meant.setdefault(id, name) != name:
                raise error(f"{meant[id]!a} and {name!a} in the table are the same image")
            found[name] = id
    if header is not None and re.sub("[^a-z0-9]", "", header.lower()) not in HEADERS and header not in found:
        id = find(header)
        if id is not None:
            raise error(
                f"the table has no header: its first line begins with {header!r}, which is an image",
                hint="put a line like ImageID,label before it",
            )
    return found


def plain_submission(ids: dict[str, str]) -> Submission:
    """Return a submission with the columns ImageID and label, in natural order; ids: ImageID → path."""
    return Submission(["ImageID", "label"], [[id, ""] for id in sorted(ids, key=natural_key)], 1, ids)


def sample_submission(
    sample: str,
    ids: dict[str, str],
    *,
    failed: Mapping[str, str],
    kind: str | None = None,
    relative_to: str | None = None,
) -> Submission:
    """Return a submission with the columns, the ids and the order of a sample.

    sample: text of a CSV; its first column is the id, and the labels go to the column named label, or to the second.
    failed: path → reason of images that could not be read. kind, relative_to: what the ids are. Raises SampleMismatch
    when the ids of the sample are not those of the index.
    """
    header, rows = parse_csv(sample, "the sample", example="ImageID,label", error=SampleMismatch)
    given = [row[0] for row in rows]
    if twice := [id for id, count in Counter(given).items() if count > 1]:
        raise SampleMismatch(f"the sample has {_listed(twice)} more than once")
    found = match_ids(given, ids, header=header[0], kind=kind, relative_to=relative_to)
    _compare(given, found, ids, failed)
    paths = {name: ids[id] for name, id in found.items()}
    return Submission(header, rows, _column(header, ("label",)), paths)


def natural_key(id: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which 2 comes before 10, and 007 next to 7."""
    parts = re.findall(r"\d{1,4000}|\D+", id)  # Python refuses to convert more than 4,300 digits
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _column(header: list[str], names: Sequence[str]) -> int:
    return next((at for at, name in enumerate(header) if name.strip().lower() in names), 1)


def _compare(wanted: list[str], found: dict[str, str], ids: dict[str, str], failed: Mapping[str, str]) -> None:
    """Raise SampleMismatch unless every wanted id means an image (`found`), and every image is wanted."""
    meant = set(found.values())
    missing = [id for id in wanted if id not in found]
    extra = [id for id in ids if id not in meant]
    if not missing and not extra:
        return
    problems = [f"the sample has {_listed(missing)}, which the index does not have"] if missing else []
    problems += [f"the index has {_listed(extra)}, which the sample does not have"] if extra else []
    raise SampleMismatch("; ".join(problems), hint=_hint(missing, ids, failed))


def _hint(missing: list[str], ids: dict[str, str], failed: Mapping[str, str]) -> str:
    for path, reason in failed.items():
        name = os.path.basename(path)
        if {name, os.path.splitext(name)[0]} & set(missing):
            return f"{path} could not be read ({reason}): see `imgindex failures`"
    paths = ids.values()
    names = {os.path.basename(path) for path in paths}
    by_kind = {"stem": {os.path.splitext(name)[0] for name in names}, "name": names, "path": set(paths)}
    for kind in ID_KINDS:
        if missing and by_kind[kind].issuperset(missing):
            return f"the sample's ids look like those of `id={kind}`"
    return "add the missing images, or make another index of only the sample's images with `path=DIR`"


def _listed(ids: Iterable[str]) -> str:
    ids = list(ids)
    rest = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return ", ".join(repr(id) for id in ids[:LISTED]) + rest
