"""Clusters get names, which last as long as the clusters do."""

from __future__ import annotations

from collections.abc import Callable

from imgindex.answers.clusterings import Cluster
from imgindex.errors import UsageError
from imgindex.storage import clusterings
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.store import Store


def label(
    store: Store, label: int, name: str | None, *, id: int | None = None, wait: Callable[[], bool] = lambda: False
) -> Cluster:
    """Give a cluster of a clustering (None: the newest) a name; None takes it away.

    Raises ClusteringNotFound, IndexLocked; UsageError for a label that there is not, a name that is none, and one that
    another cluster of that clustering has.
    """
    check_name(name)
    with store.catalogue.snapshot():  # what is wrong is said before anything is written
        found = _cluster(store.catalogue, label, name, id)
    with store.writing(wait=wait) as writer, writer.catalogue.atomic():
        clusterings.name(writer.catalogue, found.id, name)
    return found


def _cluster(catalogue: Catalogue, label: int, name: str | None, id: int | None) -> Cluster:
    kept, names = clusterings.read(catalogue, id), clusterings.names(catalogue)
    clusters = kept.head.clusters
    if not 0 <= label < len(clusters):
        raise UsageError(
            f"clustering {kept.head.id} has no label {label}", hint=f"its labels are 0 to {len(clusters) - 1}"
        )
    taken = next((other for other, known in enumerate(clusters) if name and names.get(known) == name), label)
    if taken != label:
        raise UsageError(
            f"cluster {taken} is called {name!r} already", hint=f"take it away first: imgindex label {taken} --clear"
        )
    return Cluster(label, clusters[label], name, int((kept.members.labels == label).sum()))


def check_name(name: str | None) -> None:
    """Raise UsageError for a name that could not be told from none, or that no line has room for."""
    if name is not None and (not name.strip() or not name.isprintable() or len(name) > 200):
        raise UsageError(f"{name!r} is no name", hint="give some printable characters, at most 200")
