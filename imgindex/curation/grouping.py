"""Groups of images that show the same picture, from pairs that may; few pairs are compared in large groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Edge = tuple[int, int]
# Compares pairs and returns which of them are copies; called with many pairs at once.
Verify = Callable[[Sequence[Edge]], Sequence[bool]]


def batches(edges: Iterable[Edge], images: int) -> Iterator[list[Edge]]:
    """Yield the pairs in batches of at least so many images, those that are connected in the same batch.

    `group_copies` looks at an image several times. In batches, its picture need not stay decoded for long.

    >>> [*batches([(1, 2), (3, 4), (2, 5)], images=3)]
    [[(1, 2), (2, 5)], [(3, 4)]]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = list(edges)
    places = {id: place for place, id in enumerate(dict.fromkeys(id for edge in edges for id in edge))}
    ends = [[places[id] for id in side] for side in zip(*edges, strict=True)] or [[], []]
    graph = coo_matrix(([True] * len(edges), ends), shape=(len(places), len(places)))
    part = connected_components(graph, directed=False)[1]
    connected: dict[int, list[Edge]] = {}
    for edge in edges:
        connected.setdefault(part[places[edge[0]]], []).append(edge)
    batch: list[Edge] = []
    count = 0
    for together in connected.values():
        batch += together
        count += len({id for edge in together for id in edge})
        if count >= images:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def group_copies(edges: Iterable[Edge], rank: Mapping[int, int], verify: Verify) -> list[list[int]]:
    """Return the groups of at least two images that pairs of copies connect, each with its centre first.

    Each group has a centre: the image with the smallest rank. Only centres are compared: a pair between two groups
    stands for the pair of their centres, and a group joins another one when its centre is a copy of the other's. So a
    group of n images takes about n comparisons, not n². An image that joined with its group may be no copy of the new
    centre: the caller compares it again with the image that it keeps.

    edges: pairs of ids that may be copies. rank: what ids are ordered by.
    """
    edges = list(edges)
    centre = {id: id for edge in edges for id in edge}
    compared: set[Edge] = set()
    while wave := _next_wave(edges, centre, compared, rank):
        compared.update(wave)
        joined = {b: a for (a, b), copy in zip(wave, verify(wave), strict=True) if copy}
        if joined:
            centre = {id: joined.get(of, of) for id, of in centre.items()}
        edges = [(a, b) for a, b in edges if centre[a] != centre[b]]
    groups: dict[int, list[int]] = {}
    for id in sorted(centre, key=lambda id: (id != centre[id], id)):
        groups.setdefault(centre[id], []).append(id)
    return [group for group in groups.values() if len(group) > 1]


def _next_wave(
    edges: Iterable[Edge], centre: Mapping[int, int], compared: set[Edge], rank: Mapping[int, int]
) -> list[Edge]:
    """Return pairs of centres to compare now, the lower rank first; each joins at most one other in this wave."""
    near: dict[int, set[int]] = {}
    for a, b in edges:
        pair = _ranked(centre[a], centre[b], rank)
        if pair[0] != pair[1] and pair not in compared:
            near.setdefault(pair[0], set()).add(pair[1])
    wave: list[Edge] = []
    taken: set[int] = set()
    for a in sorted(near, key=lambda id: (rank[id], id)):
        if a in taken:
            continue
        others = sorted(near[a] - taken)
        wave += [(a, b) for b in others]
        taken.update(others)
        if others:
            taken.add(a)
    return wave


def _ranked(a: int, b: int, rank: Mapping[int, int]) -> Edge:
    return (a, b) if (rank[a], a) <= (rank[b], b) else (b, a)
