"""What the tests of `add` compare: its counts, the names, ids and vectors of an index; and files that they change."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from decoders_here import DecodersHere

import imgindex.ingest.pipeline
from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import Outcome, Task
from imgindex.results import AddReport
from imgindex.sources.base import Content
from imgindex.sources.registry import read_content

KINDS = ("added", "updated", "renamed", "unchanged", "reused", "restored", "failed")


def counts(report: AddReport) -> dict[str, int]:
    """The counts that are not 0; every file found must be in exactly one of them."""
    assert report.interrupted or sum(getattr(report, kind) for kind in KINDS) == report.found, report
    return {kind: value for kind, value in asdict(report).items() if kind in (*KINDS, "removed") and value}


def names(index: ImageIndex) -> list[str]:
    return sorted(Path(path).name for path in index.paths())


def ids(index: ImageIndex) -> dict[str, int]:
    return {Path(image.path).name: image.id for image in index.images()}


def observe_opened(patch: pytest.MonkeyPatch, observe: Callable[[str], object]) -> None:
    """Call a function with the path of each file before `add` opens it for the first time."""

    def read(path: str) -> Content:
        observe(path)
        return read_content(path)

    def before_work(tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.path and not task.sha256:
                observe(task.path)

    # Decoders read the files of this machine, and the pipeline those of archives.
    observe_work(patch, before_work)
    patch.setattr(imgindex.ingest.pipeline, "read_content", read)


def observe_work(patch: pytest.MonkeyPatch, before: Callable[[Sequence[Task]], None]) -> None:
    """Call a function with the tasks of each lot before decoders work on it."""

    def observed(work: Callable[..., list[Outcome]]) -> Callable[..., list[Outcome]]:
        def observe(pool: DecoderPool, tasks: Sequence[Task]) -> list[Outcome]:
            before(tasks)
            return work(pool, tasks)

        return observe

    for pool in (DecoderPool, DecodersHere):
        patch.setattr(pool, "work", observed(pool.work))


def spoil(path: Path, text: str = "not a picture") -> Path:
    path.write_text(text)
    return path


def later(path: Path) -> None:
    """Give a file a later time than any clock has given it."""
    info = path.stat()
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns + 10**9))


def vector(index: ImageIndex, name: str) -> list[float]:
    paths = [Path(path).name for path in index.paths()]
    return index.vectors()[paths.index(name)].astype(np.float64).round(5).tolist()


def means(path: Path) -> list[float]:
    """The vector of a plain picture, read without any of our code."""
    from PIL import Image

    return (np.array(Image.open(path).convert("RGB").getpixel((0, 0)) * 4) / 255).round(5).tolist()
