"""Images that are in both of two sets, such as a training set and a test set that should be apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgindex.curation.candidates import near_vectors, read_hashes
from imgindex.curation.copies import CopyFinder
from imgindex.curation.neighbours import StoredVectors, first_with_same_content
from imgindex.curation.thresholds import similar_distance
from imgindex.curation.verification import Verifier
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import PathNotFound, UsageError
from imgindex.recipe import Recipe
from imgindex.results import Leak, Leaks
from imgindex.storage.named import find_named
from imgindex.storage.store import Store
from imgindex.types import OnProgress

Pair = tuple[int, int]


def leak(
    store: Store,
    recipe: Recipe,
    decoders: DecoderPool,
    a: str,
    b: str,
    *,
    similar: bool,
    distance: float | None,
    n: int,
    on_progress: OnProgress,
    wait: Callable[[], bool],
) -> Leaks:
    """Return pairs of an image below the absolute path `a` and one below `b` that duplicate each other, nearest first.

    n: how many images of `b`, the nearest, are compared with each image of `a`. An image below both paths makes no pair
    with itself. The other parameters are those of `ImageIndex.leak`.

    Raises UsageError for n below 1, PathNotFound where the index has no image below one of the paths, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"n is {n}: at least one image must be asked for")
    within = similar_distance(recipe, distance, similar=similar)
    with store.reading():
        ids, firsts = first_with_same_content(store, on_progress=on_progress)
        first = dict(zip(ids.tolist(), firsts.tolist(), strict=True))
        paths = store.catalogue.image_paths()
        of_a, of_b = (_by_content(_below(store, folder, paths), first) for folder in (a, b))
        contents_a, contents_b = (np.array(sorted(of), dtype=np.int64) for of in (of_a, of_b))
        both = np.union1d(contents_a, contents_b)
        hashes = read_hashes(store, decoders, both, on_progress=on_progress, wait=wait)
        rows = StoredVectors(store.blocks(both))
        grades: dict[Pair, str] = {(one, one): "same" for one in np.intersect1d(contents_a, contents_b).tolist()}
        with Verifier(store, decoders, on_progress=on_progress, wait=wait) as verifier:
            finder = CopyFinder(store, recipe, hashes, verifier, {})
            pairs = finder.between(contents_a, contents_b, n, on_progress)
            turned = finder.verify(pairs)
        grades |= {pair: "copy" for pair, name in zip(pairs, turned, strict=True) if name is not None}
        if within is not None:
            most = min(n, len(contents_b))
            near = near_vectors(store, contents_a, within, among=contents_b, n=most, on_progress=on_progress)
            for x, y, _ in near:
                grades.setdefault((x, y), "similar")
        distances = {(x, y): float(rows.distances(x, np.array([y]))[0]) if x != y else 0.0 for x, y in grades}
    found: dict[Pair, tuple[str, float]] = {}
    for (x, y), grade in grades.items():
        for one in of_a[x]:
            for other in of_b[y][:n]:
                # Two images that are both below both paths are found twice.
                if one != other and (other, one) not in found:
                    found[one, other] = grade, distances[x, y]
    order = sorted(found.items(), key=lambda item: (item[1][1], item[0]))
    leaks = [
        Leak(rank, paths[x], paths[y], grade, distance, x, y)
        for rank, ((x, y), (grade, distance)) in enumerate(order, 1)
    ]
    failures = {failure.path: failure for failure in (*hashes.failures, *verifier.failures.values())}
    return Leaks(leaks, failures=tuple(failures.values()))


def _below(store: Store, folder: str, paths: dict[int, str]) -> list[int]:
    ids = [id for id in find_named(store.catalogue, [folder]).images if id in paths]
    if not ids:
        raise PathNotFound(f"the index has no image at {folder}", hint="`imgindex list` shows its images")
    return ids


def _by_content(ids: list[int], first: dict[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for id in ids:
        found.setdefault(first[id], []).append(id)
    return found
