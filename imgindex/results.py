"""What the methods of ImageIndex return, as frozen dataclasses; nothing here imports anything heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgindex.types import Failure, Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from imgindex.types import Vectors


# How many sizes or names are in the one line by which a result prints itself.
FEW = 6
# How far below the line a knee is, at least, in shares of the objective's fall. A straight line has none.
LEAST_KNEE = 0.1


@dataclass(frozen=True, slots=True)
class Match:
    """One image found by a search; rank 1 is the nearest. distance: Euclidean, not squared; smaller is nearer.

    >>> Match(rank=1, path="/photos/cat.jpg", distance=0.25, id=7).distance
    0.25
    """

    rank: int
    path: str
    distance: float
    id: int


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image that is unlike all others.

    distance: Euclidean, to `nearest`, the image nearest to it; nearest_id: the id of that one. times: the distance as a
    multiple of the median over all images without an exact copy. reason: the likely explanation, in words.
    """

    rank: int
    path: str
    distance: float
    times: float
    nearest: str
    id: int
    nearest_id: int
    reason: str = ""


class Outliers(list[Outlier]):
    """Outliers, the least alike first. The type of its own lets even an empty result be shown as a page of outliers."""

    def __repr__(self) -> str:
        first = f", the least alike {self[0].path!r}" if self else ""
        return f"<Outliers: {_count(self, 'image')}{first}>"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one query: its matches, nearest first, or the failure when the query could not be read.

    reranked: the distances of its matches are those between averaged vectors, see `ImageIndex.similar`.
    """

    query: str
    matches: list[Match]
    failure: Failure | None = None
    reranked: bool = False

    def __repr__(self) -> str:
        if self.failure is not None:
            return f"<Answer to {self.query!r}: {self.failure.reason}>"
        nearest = f", the nearest {self.matches[0].path!r} at {self.matches[0].distance:.3f}" if self.matches else ""
        return f"<Answer to {self.query!r}: {_count(self.matches, 'match', 'matches')}{nearest}>"


@dataclass(frozen=True, slots=True)
class AddReport:
    """What one `add` did. Each file found is counted in exactly one of the columns from `added` to `failed`.

    The exception is `removed`: it counts images of the index whose files are gone, and they are not among the files
    found.
    failed: files in the ledger, those that failed in earlier runs included. failures: those of this run. interrupted:
    the run was ended early; the next one continues it.
    skipped: files in folders that are not images, by their ending in lower case, "" for those without one. hidden:
    hidden files with the ending of an image. excluded: files and folders that `exclude` left out. exported: links to
    images, and copies, that imgindex made. blank: images among those that were added or updated whose picture has one
    colour, or nearly so. search_behind: images that the server which searches lacks, because it could not be asked;
    search_problem: why. The next `add` or `compact` sends them.
    """

    found: int = 0
    added: int = 0
    updated: int = 0
    renamed: int = 0
    unchanged: int = 0
    reused: int = 0
    removed: int = 0
    restored: int = 0
    failed: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    skipped: Mapping[str, int] = field(default_factory=dict, hash=False)
    hidden: int = 0
    excluded: int = 0
    exported: int = 0
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False
    blank: int = 0
    search_behind: int = 0
    search_problem: str = ""

    def __repr__(self) -> str:
        names = ("found", "added", "updated", "renamed", "unchanged", "reused", "removed", "restored", "failed")
        counts = [f"{getattr(self, name):,} {name}" for name in names if name == "found" or getattr(self, name)]
        return f"<AddReport: {', '.join(counts)}, in {self.seconds:.1f} s{', interrupted' * self.interrupted}>"


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What one `compact` freed: rows_dropped vectors that belonged to no image, and bytes of catalogue and segments."""

    rows_dropped: int
    segments_before: int
    segments_after: int
    bytes_before: int
    bytes_after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What one `repair` did: a line of `mended` for each thing that it repaired; empty when nothing was damaged.

    embedded: images whose vector was lost, and was made again from the same bytes. dropped: images that the index has
    no longer, each with the reason; a later `add` takes in those whose files are still there.
    """

    mended: tuple[str, ...] = ()
    embedded: int = 0
    dropped: tuple[Failure, ...] = ()
    seconds: float = 0.0

    def __repr__(self) -> str:
        done = f"{_count(self.mended, 'repair')}, {self.embedded:,} embedded, {len(self.dropped):,} dropped"
        return f"<RepairReport: {done}, in {self.seconds:.1f} s>"


@dataclass(frozen=True, slots=True)
class TagReport:
    """What one `tag` did: how many images were named, and how many of them it changed."""

    tag: str
    images: int
    changed: int


@dataclass(frozen=True, slots=True)
class TagChange:
    """What one `change_tags` did: how many images were named; by tag, the ids that it was put on and taken off."""

    images: int
    added: Mapping[str, tuple[int, ...]]
    removed: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import of metadata did: its columns, how many images have them now, and the ids that no image has."""

    columns: tuple[str, ...]
    images: int
    unknown: tuple[str, ...]

    def __repr__(self) -> str:
        unknown = f", {_count(self.unknown, 'id')} of no image" if self.unknown else ""
        return f"<ImportReport: {', '.join(self.columns)} of {_count(self.images, 'image')}{unknown}>"


@dataclass(frozen=True, slots=True)
class KScore:
    """How well k clusters fit.

    objective: as a share of the objective of one cluster; small when clusters are tight. silhouette: by how much an
    image's own cluster is nearer than the next one, averaged, −1…1. stability: how far clusterings from different seeds
    agree, as an adjusted Rand index; at most 1.
    """

    k: int
    objective: float
    silhouette: float
    stability: float


def knee(curve: Sequence[KScore]) -> int | None:
    """Return the k at the knee of the objective's curve: more clusters than that reduce it much less.

    That is the point farthest below the line from the first to the last point, both axes scaled to 0…1 (Satopää,
    Albrecht, Irwin and Raghavan 2011). None for fewer than three numbers, or a curve that is nowhere below the line.

    >>> knee([KScore(k, objective, 0.0, 1.0) for k, objective in ((2, 0.9), (3, 0.3), (4, 0.25), (5, 0.2))])
    3
    """
    points = [(score.k, score.objective) for score in curve]
    if points and points[0][0] == 2:
        points.insert(0, (1, 1.0))  # by the definition of the objective's share
    if len(points) < 3:
        return None
    (first_k, first), (last_k, last) = points[0], points[-1]
    if first <= last:
        return None
    below = [(first - value) / (first - last) - (k - first_k) / (last_k - first_k) for k, value in points]
    most = max(below)
    return points[below.index(most)][0] if most > LEAST_KNEE else None


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """How the labels of a clustering are written to a CSV.

    id: what an ImageID is: the stem, name or path of a file. like: the text of a sample submission whose columns, ids
    and order are copied. extras: columns beside the labels, of `EXTRAS` in export/submission.py. relative_to: the
    folder that an ImageID that is a path is relative to, where the image lies below it; None for absolute paths.

    >>> LabelFormat(id="name", extras=("distance",)).id
    'name'
    """

    id: str = "stem"
    like: str | None = None
    extras: tuple[str, ...] = ()
    relative_to: str | None = None

    def __repr__(self) -> str:
        like = "None" if self.like is None else f"<{_count(self.like.splitlines(), 'line')}>"
        return f"LabelFormat(id={self.id!r}, like={like}, extras={self.extras!r}, relative_to={self.relative_to!r})"


@dataclass(frozen=True, slots=True)
class Fit:
    """How well each image (n,) fits its cluster.

    distances: Euclidean, to its own centroid. second_labels: the label of the nearest other centroid, −1 where there is
    none.
    margins: how much farther that centroid is; in balanced clusters it may be below 0. silhouettes: −1…1, compared with
    at most 2,000 evenly taken images (Rousseeuw 1987); empty unless they were asked for.
    """

    distances: Vectors
    second_labels: npt.NDArray[np.int64]
    margins: Vectors
    silhouettes: Vectors

    def __repr__(self) -> str:
        return f"<Fit of {_count(self.distances, 'image')}>"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster of a clustering, and how it changed since the clustering before.

    id: stays the same in later clusterings as long as the cluster holds mostly the same images. was: its label in the
    clustering before, None for a new cluster. came, left: images of both clusterings that moved into it and out of it.
    moved: how far its centroid moved, Euclidean.
    """

    label: int
    id: int
    name: str | None
    size: int
    was: int | None = None
    came: int = 0
    left: int = 0
    moved: float = 0.0


@dataclass(frozen=True, slots=True)
class Clustering:
    """One k-means run or an edit of one, and how it was made.

    labels (n,): the cluster of paths[i], in the order of ids; label 0 is the largest cluster. objective: the sum of
    squared Euclidean distances to the nearest centroid, over all n rows. curve: how well each number of clusters fits
    that was tried; empty where k was given. copies: the share of images that are copies of another one, or nearly,
    which makes silhouettes greater; 0 where k was given. id: the id under which the index keeps it; None where it could
    not be kept, and then `not_kept` gives the reason. clusters: one for each label. since: the id of the clustering
    that they were compared with; gone: clusters of that one that no longer exist. fit: how well each image fits, where
    that was asked for.
    """

    k: int
    seed: int
    ids: npt.NDArray[np.int64]
    paths: list[str]
    labels: npt.NDArray[np.int64]
    centroids: Vectors
    sizes: tuple[int, ...]
    objective: float
    iterations: int
    restarts: int
    trained_on: int
    seconds: float
    curve: tuple[KScore, ...] = ()
    copies: float = 0.0
    restart_objectives: tuple[float, ...] = ()
    converged: bool = True
    recipe: str = ""
    recipe_digest: str = ""
    made_at: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
    not_kept: str = ""
    clusters: tuple[Cluster, ...] = ()
    since: int | None = None
    gone: tuple[Cluster, ...] = ()
    label_format: LabelFormat = field(default_factory=LabelFormat)
    fit: Fit | None = None

    @property
    def smooth(self) -> bool:
        """Whether averaged vectors were clustered; centroids and distances are then those of averaged vectors."""
        return self.options.get("smooth") is True

    @property
    def knee(self) -> int | None:
        """The k at the knee of the curve, see `knee`; None where k was given, or the curve has none."""
        return knee(self.curve)

    @property
    def edited_from(self) -> int | None:
        """The id of the clustering that this one was made from by an edit; None where it was made otherwise."""
        return edited_from(self.options)

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame with the columns id, path, label, and those of the fit where it is known."""
        import pandas as pd

        columns: dict[str, Any] = {"id": self.ids, "path": self.paths, "label": self.labels}
        if any(cluster.name for cluster in self.clusters):
            columns["name"] = [self.clusters[label].name or "" for label in self.labels.tolist()]
        if self.fit is not None:
            columns |= {"distance": self.fit.distances, "second": self.fit.second_labels, "margin": self.fit.margins}
            if len(self.fit.silhouettes):
                columns["silhouette"] = self.fit.silhouettes
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        id = "" if self.id is None else f" {self.id}"
        images = f"{_count(self.k, 'cluster')} of {_count(self.labels, 'image')}"
        return f"<Clustering{id}: {images}, sizes {_few(self.sizes)}, objective {self.objective:.4g}>"


def edited_from(options: Mapping[str, Any]) -> int | None:
    """Return the id of the clustering that an edit was made from, by the options that it was stored with."""
    edit = options.get("edit")
    of = edit.get("of") if isinstance(edit, Mapping) else None
    return of if isinstance(of, int) else None


@dataclass(frozen=True, slots=True)
class ClusteringSummary:
    """A clustering that the index keeps, without its images; the fields are those of `Clustering`."""

    id: int
    made_at: str
    k: int
    seed: int
    images: int
    objective: float
    recipe: str
    seconds: float
    names: tuple[str | None, ...]
    edited_from: int | None

    def __repr__(self) -> str:
        images = f"{_count(self.k, 'cluster')} of {_count(self.images, 'image')}"
        names = _few([repr(name) for name in self.names if name is not None])
        named = f", named {names}" if names else ""
        return f"<ClusteringSummary {self.id}: {images}{named}, made {self.made_at}>"


@dataclass(frozen=True, slots=True)
class Assigned:
    """An image that was put into a cluster of an older clustering.

    distance: Euclidean, to that cluster's centroid. second: the label of the next nearest cluster; margin: how much
    farther it is.
    """

    path: str
    label: int
    name: str | None
    distance: float
    second: int | None
    margin: float | None
    id: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where new images went: `clustering` has all images that are present now, `assigned` those that are new in it."""

    clustering: Clustering
    assigned: tuple[Assigned, ...]

    def __repr__(self) -> str:
        return f"<Assignment: {_count(self.assigned, 'new image')} in {self.clustering!r}>"


@dataclass(frozen=True, slots=True)
class MovedImage:
    """An image whose cluster in clustering b is not the one that it had in a: the labels and names of both."""

    path: str
    label_a: int
    label_b: int
    name_a: str | None
    name_b: str | None
    id: int


@dataclass(frozen=True, slots=True)
class ClusteringDiff:
    """How far two clusterings agree on the images that both have.

    ari, nmi: as scikit-learn computes them. partners: label of a → label of b, of clusters that are the same. moved:
    images whose two clusters are not partners. only_a, only_b: how many images only one of the clusterings has.
    """

    a: int
    b: int
    images: int
    ari: float
    nmi: float
    partners: Mapping[int, int]
    moved: tuple[MovedImage, ...]
    only_a: int
    only_b: int

    def __repr__(self) -> str:
        moved = f"{_count(self.images, 'image')}, {len(self.moved):,} moved"
        return f"<ClusteringDiff of {self.a} and {self.b}: {moved}, ARI {self.ari:.3f}, NMI {self.nmi:.3f}>"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How far a clustering agrees with known classes; the scores are those of scikit-learn.

    confusion: int64 (clusters, classes), how many images of each class are in which cluster. purity: the share of
    images in the class that is most frequent in their cluster. unlabelled: images without a known class. unknown: ids
    with a class that the clustering does not have.
    """

    clustering: int
    images: int
    ari: float
    nmi: float
    homogeneity: float
    completeness: float
    v_measure: float
    purity: float
    classes: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    confusion: npt.NDArray[np.int64]
    unlabelled: int
    unknown: tuple[str, ...]

    def __repr__(self) -> str:
        images = f"{_count(self.images, 'image')} of {_count(self.classes, 'class', 'classes')}"
        scores = f"ARI {self.ari:.3f}, NMI {self.nmi:.3f}, purity {self.purity:.3f}"
        return f"<Evaluation of clustering {self.clustering}: {images}, {scores}>"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image of a group of duplicates.

    how: kept, or the grade against the kept image: same (the same bytes), copy (the pixels were compared, and show the
    same picture), or similar (the vectors are near, but the pixels do not show the same picture). same_file: both paths
    lead to one file. distance: Euclidean, to the image that is kept. turned: the rotation or mirroring by which it is a
    copy, "" for none. width, height: pixels, upright. size: bytes. sharpness: see `sharpness.measure`; None if it was
    not asked for. problem: why the file cannot be read now, or has changed since it was added, else "". protected: why
    it is not disposable although it is a duplicate, such as a camera raw file, else "". why: the reason why it is kept,
    or why another one is. sha256: hex, of the bytes that were compared; the file was read again and had them. frees:
    bytes that its removal frees; 0 where another path of the group leads to the same file.
    """

    path: str
    how: str
    same_file: bool
    distance: float
    turned: str
    width: int
    height: int
    size: int
    mtime_ns: int
    sharpness: float | None
    problem: str
    protected: str
    why: str
    sha256: str
    frees: int
    id: int

    @property
    def disposable(self) -> bool:
        """Whether the kept image can replace this one: a copy in a file of its own, unchanged since it was added."""
        return self.how in ("same", "copy") and not (self.same_file or self.problem or self.protected)


@dataclass(frozen=True, slots=True)
class Group:
    """Images that duplicate each other: the one to keep, `why`, and the others: same, copy, similar, nearest first."""

    kept: Duplicate
    others: tuple[Duplicate, ...]
    why: str

    @property
    def images(self) -> tuple[Duplicate, ...]:
        """The kept image and the others."""
        return (self.kept, *self.others)

    @property
    def disposable(self) -> tuple[Duplicate, ...]:
        """The others that can be deleted: none, if the kept image itself cannot be read."""
        return () if self.kept.problem else tuple(one for one in self.others if one.disposable)

    def __repr__(self) -> str:
        return f"<Group of {len(self.images):,} images, keeps {self.kept.path!r}: {self.why}>"


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The groups of duplicates among `images` images, the largest group first.

    grades: those that the groups may contain, such as ("same", "copy"). compared: pairs whose pixels were compared now,
    not in an earlier run. failures: images whose pixels had to be read again, and could not be.
    """

    groups: tuple[Group, ...]
    images: int
    grades: tuple[str, ...]
    compared: int = 0
    failures: tuple[Failure, ...] = ()

    def __repr__(self) -> str:
        inside = sum(len(group.images) for group in self.groups)
        failed = f", {len(self.failures):,} failed" if self.failures else ""
        return f"<Duplicates: {_count(self.groups, 'group')} with {inside:,} of {_count(self.images, 'image')}{failed}>"


@dataclass(frozen=True, slots=True)
class DisposedFile:
    """A file that was moved away from `path`, or back there; to: its place in the folder, "" for the trash.

    sidecar_of: the image that it belongs to, "" for an image.
    """

    path: str
    to: str
    size: int
    sidecar_of: str = ""


@dataclass(frozen=True, slots=True)
class Disposal:
    """The files that were moved to a folder, or to the trash ("" as `folder`), or back from a folder by an undo.

    failures: files that could not be moved, with the reason; they are where they were. dry_run: nothing was moved.
    """

    folder: str
    files: tuple[DisposedFile, ...]
    failures: tuple[Failure, ...] = ()
    dry_run: bool = False

    def __repr__(self) -> str:
        where = f"to {self.folder!r}" if self.folder else "to the trash"
        would = "would be moved" if self.dry_run else "moved"
        failed = f", {len(self.failures):,} failed" if self.failures else ""
        return f"<Disposal: {_count(self.files, 'file')} {would} {where}{failed}>"


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What an index has of a file: `how` is new, failed with the reason, or the grade of `match`.

    The grades are those of `Duplicate`: same, copy, similar. match: the image with the same bytes, the same picture, or
    else the nearest one, at `distance`; None, like its id, in an empty index. turned: the rotation or mirroring of the
    file by which it is a copy, "" for none.
    """

    path: str
    how: str
    match: str | None = None
    distance: float | None = None
    turned: str = ""
    id: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Leak:
    """An image of set a and one of set b that duplicate each other.

    how: the grade, as in `Duplicate`. distance: Euclidean.
    """

    rank: int
    a: str
    b: str
    how: str
    distance: float
    a_id: int
    b_id: int


class Leaks(list[Leak]):
    """Pairs of images that are in both of two sets, nearest first; failures: images that could not be read for it."""

    def __init__(self, pairs: Iterable[Leak] = (), *, failures: tuple[Failure, ...] = ()) -> None:
        super().__init__(pairs)
        self.failures = failures

    def __repr__(self) -> str:
        failed = f", {len(self.failures):,} images failed" if self.failures else ""
        return f"<Leaks: {_count(self, 'pair')}{failed}>"


def images_to_frame(images: Iterable[Image]) -> pd.DataFrame:
    """Return a pandas DataFrame with a row an image: its fields, and a column for each key of metadata.

    modified: the time of the file, in UTC. A key that is the name of another column has `metadata_` before it.
    """
    import pandas as pd

    found = list(images)
    names = ("id", "path", "width", "height", "format", "size")
    columns: dict[str, Any] = {name: [getattr(image, name) for image in found] for name in names}
    columns["modified"] = pd.to_datetime([image.mtime_ns for image in found], utc=True)
    columns |= {name: [getattr(image, name) for image in found] for name in ("sha256", "tags")}
    for key in sorted({key for image in found for key in image.metadata}):
        name = f"metadata_{key}" if key in columns else key
        columns[name] = [image.metadata.get(key) for image in found]
    return pd.DataFrame(columns)


def _count(things: int | Sized, noun: str, nouns: str = "") -> str:
    """Return a number, or that of some things, and what is counted."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _few(things: Sequence[object]) -> str:
    """Return the first things of a list."""
    return ", ".join(map(str, things[:FEW])) + (", …" if len(things) > FEW else "")
