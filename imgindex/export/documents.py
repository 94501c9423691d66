"""The JSON of answers, as the command line prints it with --json and the HTTP API returns it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from imgindex.results import Answer, Clustering, ClusteringDiff, ClusteringSummary, Duplicates, Outlier
from imgindex.types import Failure, Image

PROVENANCE: tuple[str, ...] = ("id", "k", "seed", "objective", "iterations", "converged", "restarts")
PROVENANCE += ("restart_objectives", "trained_on", "sizes", "seconds", "made_at", "recipe", "recipe_digest", "versions")
PROVENANCE += ("options", "not_kept")


def images(found: Iterable[Image]) -> list[dict[str, Any]]:
    """Return an object an image, as `imgindex list --json`."""
    return [asdict(image) for image in found]


def failures(found: Iterable[Failure]) -> list[dict[str, Any]]:
    """Return an object a failure, as `imgindex failures --json`."""
    return [asdict(failure) for failure in found]


def tags(found: dict[str, int]) -> list[dict[str, Any]]:
    """Return how many images have each tag, as `imgindex tag --list --json`."""
    return [{"tag": tag, "images": number} for tag, number in found.items()]


def answer(found: Answer) -> dict[str, Any]:
    """Return one of the answers of `imgindex similar --json`."""
    return {"query": found.query, "matches": [asdict(match) for match in found.matches]}


def outliers(found: Iterable[Outlier]) -> list[dict[str, Any]]:
    """Return an object an outlier, as `imgindex outliers --json`."""
    return [asdict(outlier) for outlier in found]


def groups(found: Duplicates, first: int = 0, last: int | None = None) -> list[dict[str, Any]]:
    """Return the groups of duplicates from `first` up to `last`, counted from 0; `group` is counted from 1."""
    return [
        {
            "group": number,
            "keep": group.kept.path,
            "why": group.why,
            "images": [{**asdict(one), "disposable": one in group.disposable} for one in group.images],
        }
        for number, group in enumerate(found.groups[first:last], first + 1)
    ]


def duplicates(found: Duplicates, first: int = 0, last: int | None = None) -> dict[str, Any]:
    """Return the answer of `imgindex duplicates --json`, with the groups from `first` up to `last`."""
    return {
        "images": found.images,
        "grades": found.grades,
        "groups": groups(found, first, last),
        "failures": failures(found.failures),
    }


def clusterings(found: Iterable[ClusteringSummary]) -> list[dict[str, Any]]:
    """Return a summary a clustering, as `imgindex clusterings --json`."""
    return [asdict(summary) for summary in found]


def clustering(found: Clustering) -> dict[str, Any]:
    """Return what a clustering was made from, how, and what came out of it, without its images."""
    data = {name: getattr(found, name) for name in PROVENANCE}
    data |= {"since": found.since, "clusters": [asdict(cluster) for cluster in found.clusters]}
    data |= {"gone": [asdict(cluster) for cluster in found.gone]} if found.gone else {}
    if found.curve:
        data |= {"curve": [asdict(score) for score in found.curve], "knee": found.knee}
        data["copies"] = found.copies
    return data


def diff(found: ClusteringDiff) -> dict[str, Any]:
    """Return the answer of `imgindex cluster diff --json`."""
    return asdict(found)
