"""Fuzzes every input with foreign bytes: pictures, and the files of formats that imgindex writes.

Each case runs in a child process with bounded memory and time, and depends only on its number and the seed. It works or
raises an ImgindexError. Anything else is a fault: another exception, a crash, a hang, a gigabyte of memory, code run.

    python tests/campaigns/fuzz.py --size full --out tests/campaigns/results/fuzz.json
    python tests/campaigns/fuzz.py --again catalogue 1234        # one case again, with its traceback
"""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from campaign import Figures, main

# Cases of each door: a second or so each for ci, several minutes for full.
DOORS = {
    "pictures": ("fuzz_pictures", "Pictures", {"ci": 120, "full": 60_000}),
    "catalogue": ("fuzz_catalogue", "CatalogueBytes", {"ci": 6, "full": 1_000}),
    "tables": ("fuzz_catalogue", "CatalogueTables", {"ci": 10, "full": 2_000}),
    "segments": ("fuzz_catalogue", "SegmentBytes", {"ci": 6, "full": 1_000}),
    "weights": ("fuzz_files", "Weights", {"ci": 50, "full": 15_000}),
    "archives": ("fuzz_archives", "Archives", {"ci": 120, "full": 30_000}),
    "samples": ("fuzz_files", "Samples", {"ci": 100, "full": 15_000}),
}
GIBIBYTE = 1 << 30
SECONDS = 20  # for one case, on a busy machine
SHOWN = 40


# A door, its first case and the end of its cases.
Work = tuple[str, int, int]


def run(size: str, *, seed: int = 0, doors: dict[str, int] | None = None) -> Figures:
    """Try so many cases at each door, or those of `size`; each distinct fault stands in "lost" once."""
    plan = doors or {name: numbers[size] for name, (_, _, numbers) in DOORS.items()}
    outcomes: dict[str, Counter[str]] = {door: Counter() for door in plan}
    faults: dict[str, Counter[str]] = {door: Counter() for door in plan}
    first: dict[tuple[str, str], int] = {}
    work = [(door, 0, cases) for door, cases in plan.items()]
    while work:
        # After a death, the next child continues with the next case.
        for door, number, names, found in _child(seed, work):
            outcomes[door].update(names)
            for fault in set(found):
                faults[door][fault] += 1
                first.setdefault((door, fault), number)
            work = _after(work, door, number)
    figures: Figures = {}
    lost: list[str] = []
    for door, cases in plan.items():
        figures[door] = {
            "cases": cases,
            "outcomes": dict(outcomes[door].most_common()),
            "faults": faults[door].total(),
        }
        lost += [
            f"{door}, {count} of {cases} cases: {fault} (case {first[door, fault]})"
            for fault, count in faults[door].most_common(SHOWN)
        ]
    return {**figures, "lost": lost}


def _after(work: list[Work], door: str, number: int) -> list[Work]:
    """Return what is left to do after a case."""
    doors = [name for name, _, _ in work]
    _, *others = work[doors.index(door) :]
    end = work[doors.index(door)][2]
    return [(door, number + 1, end)] * (number + 1 < end) + others


def _child(seed: int, work: list[Work]) -> Iterator[tuple[str, int, list[str], list[str]]]:
    """Yield (door, case, outcomes, faults) from a child until its last case, or the one it died or hung in."""
    # Not a pipe, which the warnings of many thousand cases would fill.
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryFile("w+") as errors:
        arguments = ["--child", str(seed), place, *(str(part) for one in work for part in one)]
        with subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child:
            assert child.stdout is not None
            for door, start, end in work:
                for number in range(start, end):
                    # The first case waits for the child's imports.
                    patience = SECONDS * 6 if number == start else SECONDS
                    ready, _, _ = select.select([child.stdout], [], [], patience)
                    line = child.stdout.readline() if ready else ""
                    if line:
                        yield door, number, *json.loads(line)
                        continue
                    if ready:
                        status = child.wait()
                        errors.seek(0)
                        fault = f"ended with {status} {errors.read()[-300:].strip()}"
                    else:
                        child.kill()
                        fault = f"hung for {patience} s"
                    yield door, number, [], [fault]
                    return


def child(seed: int, place: Path, work: list[Work]) -> None:
    """Run cases; write a line after each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries in C talk
    for door, start, end in work:
        (place / door).mkdir()
        cases = _make(door, place / door)
        with _bounded_memory():
            for number in range(start, end):
                outcomes, faults = [], []
                for outcome, error in cases.case(random.Random(f"{seed}/{number}")):
                    outcomes.append(outcome)
                    if error is not None:
                        faults.append(_name(error))
                out.write(json.dumps([outcomes, faults]) + "\n")
                out.flush()


def _make(door: str, place: Path) -> Any:
    module, name, _ = DOORS[door]
    return getattr(importlib.import_module(module), name)(place)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let this process map a gibibyte more than it does now."""
    if sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GIBIBYTE, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def _name(error: Exception) -> str:
    """Name a fault by its kind and the function of imgindex that it came out of, so that the same is counted once."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}imgindex{os.sep}" in frame.filename]
    where = f"{Path(ours[-1].filename).name} {ours[-1].name}" if ours else "nowhere in imgindex"
    message = re.sub(r"\d+|'[^']*'|with text .*", "…", " ".join(str(error).split()))[:90]
    return f"{type(error).__name__} in {where}: {message}"


def again(door: str, number: str, seed: str = "0") -> None:
    """Run one case in this process, and show its faults."""
    with tempfile.TemporaryDirectory() as place:
        cases = _make(door, Path(place))
        signal.alarm(SECONDS)
        with _bounded_memory():
            for outcome, error in cases.case(random.Random(f"{seed}/{number}")):
                print(outcome)
                if error is not None:
                    traceback.print_exception(error)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        given = sys.argv[4:]
        triples = zip(given[::3], map(int, given[1::3]), map(int, given[2::3]), strict=True)
        child(int(sys.argv[2]), Path(sys.argv[3]), list(triples))
    elif sys.argv[1:2] == ["--again"]:
        again(*sys.argv[2:])
    else:
        main("fuzz", run)
