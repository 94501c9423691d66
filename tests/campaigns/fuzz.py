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
from pathlib import Path
from typing import Any

from campaign import Figures, main

# Cases of each door: a second or so each for ci, several minutes for full.
DOORS = {
    "pictures": ("fuzz_pictures", "Pictures", {"ci": 200, "full": 60_000}),
    "catalogue": ("fuzz_catalogue", "CatalogueBytes", {"ci": 6, "full": 1_000}),
    "tables": ("fuzz_catalogue", "CatalogueTables", {"ci": 10, "full": 2_000}),
    "segments": ("fuzz_catalogue", "SegmentBytes", {"ci": 6, "full": 1_000}),
    "weights": ("fuzz_files", "Weights", {"ci": 50, "full": 15_000}),
    "archives": ("fuzz_archives", "Archives", {"ci": 200, "full": 30_000}),
    "samples": ("fuzz_files", "Samples", {"ci": 100, "full": 15_000}),
}
GIBIBYTE = 1 << 30
SECONDS = 20  # for one case, on a busy machine
SHOWN = 40


def run(size: str, *, seed: int = 0, doors: dict[str, int] | None = None) -> Figures:
    """Try so many cases at each door, or those of `size`; each distinct fault stands in "lost" once."""
    figures: Figures = {}
    lost: list[str] = []
    for door, cases in (doors or {name: numbers[size] for name, (_, _, numbers) in DOORS.items()}).items():
        outcomes, faults = _at(door, seed, cases)
        figures[door] = {"cases": cases, "outcomes": dict(outcomes.most_common()), "faults": sum(faults.values())}
        lost += [f"{door}, {count} of {cases} cases: {fault}" for fault, count in faults.most_common(SHOWN)]
    return {**figures, "lost": lost}


def _at(door: str, seed: int, cases: int) -> tuple[Counter[str], Counter[str]]:
    """Run the cases of one door in child processes; after a death, the next child continues with the next case."""
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    first: dict[str, int] = {}
    start = 0
    while start < cases:
        for number, names, found in _child(door, seed, start, cases):
            outcomes.update(names)
            start = number + 1
            for fault in set(found):
                faults[fault] += 1
                first.setdefault(fault, number)
    return outcomes, Counter({f"{fault} (case {first[fault]})": count for fault, count in faults.items()})


def _child(door: str, seed: int, start: int, end: int) -> Any:
    """Yield (case, outcomes, faults) from a child until its last case, or the one it died or hung in."""
    number = start
    # Not a pipe, which the warnings of many thousand cases would fill.
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryFile("w+") as errors:
        arguments = ["--child", door, str(seed), str(start), str(end), place]
        with subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child:
            while number < end:
                # The first case waits for the child's imports.
                patience = SECONDS * 6 if number == start else SECONDS
                ready, _, _ = select.select([child.stdout], [], [], patience)
                line = child.stdout.readline() if ready else ""
                if line:
                    yield json.loads(line)
                    number += 1
                    continue
                if ready:
                    status = child.wait()
                    errors.seek(0)
                    fault = f"ended with {status} {errors.read()[-300:].strip()}"
                else:
                    child.kill()
                    fault = f"hung for {patience} s"
                yield number, [], [fault]
                return


def child(door: str, seed: int, start: int, end: int, place: str) -> None:
    """Run cases; write a line after each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries in C talk
    cases = _make(door, Path(place))
    _bound_memory()
    for number in range(start, end):
        outcomes, faults = [], []
        for outcome, error in cases.case(random.Random(f"{seed}/{number}")):
            outcomes.append(outcome)
            if error is not None:
                faults.append(_name(error))
        out.write(json.dumps([number, outcomes, faults]) + "\n")
        out.flush()


def _make(door: str, place: Path) -> Any:
    module, name, _ = DOORS[door]
    return getattr(importlib.import_module(module), name)(place)


def _bound_memory() -> None:
    """Let this process map a gibibyte more than it does now."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + GIBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


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
        _bound_memory()
        signal.alarm(SECONDS)
        for outcome, error in cases.case(random.Random(f"{seed}/{number}")):
            print(outcome)
            if error is not None:
                traceback.print_exception(error)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6])
    elif sys.argv[1:2] == ["--again"]:
        again(*sys.argv[2:])
    else:
        main("fuzz", run)
