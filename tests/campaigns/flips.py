"""Corruption: an index with changed bytes, pages, rows or files gives its true answers, or reports the damage.

Every byte of every file takes other values, and the files are cut, swapped, exchanged and worse (flips_damage.py).
After each damage all that can be asked is asked: what comes out must be the truth or an error that was raised on
purpose, and where anything was refused `verify` must name it. A sample is repaired as well (flips_repair.py).

What a log left by a crash holds is the one exception, counted as "earlier": SQLite drops a damaged frame and all that
came after it, and every answer must then be that of one earlier commit. A whole log that belongs to another
catalogue is only counted: SQLite cannot detect it, and answers from it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from campaign import Figures, main
from flips_damage import FOREIGN_LOG, LOG, Copy, Damage, damages
from flips_index import Crashed, Hang, Refused, State, Truth, ask, build, remember_kmeans, spare_work
from flips_repair import repaired

from imgindex.errors import ImgindexError
from imgindex.storage.verify import check

PROCESSES = {"ci": 1, "full": 2}  # other tests have the other cores
FLIPS = {"ci": 200, "full": 1_000_000}
OTHERS = {"ci": 3, "full": 1}  # one of so many other damages
# How often a byte is flipped. A log's shared memory is made anew by whoever opens the index first; most of a segment is
# the empty end of its header, and whoever answers from a log takes longest to judge.
WEIGHTS = {"ci": {".vec": 0.6, "-wal": 1.0, "-shm": 0.02}, "full": {".vec": 0.2, "-wal": 0.2, "-shm": 0.02}}
VERIFIED = {"ci": 1, "full": 50}  # one flip of so many is shown to `verify` too
REPAIRS = {"ci": (24, 4), "full": (3_000, 2_000)}  # of the damages, of the flips
SECONDS, MEMORY = 60, 1 << 30  # that one damage may take
VERDICTS = ("right", "refused", "earlier", "wrong")


@dataclass(slots=True)
class Findings:
    """What one process found: verdicts by kind, flips by file, what became of repairs, and every promise broken."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    flips: Counter[str] = field(default_factory=Counter)
    positions: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    flip_seconds: float = 0.0

    def add(self, other: Findings) -> None:
        self.verdicts += other.verdicts
        self.flips += other.flips
        self.positions += other.positions
        self.repairs += other.repairs
        self.lost += other.lost
        self.flip_seconds = max(self.flip_seconds, other.flip_seconds)


class Judge:
    """Compares the answers of a damaged index with the true answers of every state."""

    def __init__(self, copy: Copy, states: dict[str, list[State]]) -> None:
        self.copy, self.truths = copy, {}
        for base in ("now", "old", "log"):
            self.truths[base] = []
            for state in states[base]:
                copy.become(state)
                self.truths[base].append(ask(str(copy.home)))

    def verdict(self, base: str, *, log: bool, verify: bool = True) -> tuple[str, list[str]]:
        """Return one of VERDICTS, and what was promised and is not so.

        log: whether the log is damaged. verify: whether `verify` runs too, which takes longer than everything else.
        """
        home = str(self.copy.home)
        with alarm():
            found, problems = ask(home), named(home) if verify else None
        refused = [answer for answer in found.values() if isinstance(answer, Refused)]
        crashed = [f"{name}: {answer.text}" for name, answer in found.items() if isinstance(answer, Crashed)]
        crashed += [f"verify: {problems.text}"] if isinstance(problems, Crashed) else []
        lost = crashed + [f"no way out is named: {one.text}" for one in refused if not one.hint]
        if refused and problems == 0:
            lost.append(f"verify finds nothing, yet: {refused[0].text}")
        given = {name: answer for name, answer in found.items() if not isinstance(answer, Refused | Crashed)}
        truths = self.truths[base]
        if any(given[name] != truths[-1][name] for name in given):
            earlier = log and any(all(given[name] == truth[name] for name in given) for truth in truths)
            if earlier:
                return "earlier", lost
            wrong = [name for name in given if given[name] != truths[-1][name]]
            return "wrong", [*lost, f"silently wrong: {', '.join(wrong)}"]
        return ("refused" if refused or crashed else "right"), lost


def named(home: str) -> int | Crashed:
    """How many problems `verify` names; an error that it raises on purpose is one."""
    try:
        return len(check(home, full=True).problems)
    except ImgindexError:
        return 1
    except (Hang, Exception) as error:  # noqa: BLE001  which one it was is what is asked
        return Crashed(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    """Interrupt calls that hang."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def flips(
    states: dict[str, list[State]], wanted: int, size: str, seed: int
) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
    """Every byte position of every file, with so many other values that `wanted` flips come out: index, file, flips.

    Where there are more positions than flips are wanted, a sample of them.
    """
    rng = random.Random(seed)
    files = [(base, name, len(content)) for base in ("now", "log") for name, content in states[base][-1].items()]
    weights = [
        WEIGHTS[size].get(name[-4:], 1.0) * (0.125 if base == "log" and name[-4:] != "-shm" else 1.0) * length
        for base, name, length in files
    ]
    for (base, name, length), weight in zip(files, weights, strict=True):
        if not length:
            continue
        share = max(1, round(wanted * weight / sum(weights)))
        content = states[base][-1][name]
        if share >= length:
            values = -(-share // length)
            yield (
                base,
                name,
                [
                    (position, content[position] ^ change)
                    for position in range(length)
                    for change in rng.sample(range(1, 256), values)
                ],
            )
        else:
            positions = sorted(rng.sample(range(length), share))
            yield base, name, [(position, content[position] ^ rng.randrange(1, 256)) for position in positions]


def flip(judge: Judge, states: dict[str, list[State]], part: tuple[int, int], work: tuple[str, int]) -> Findings:
    """Do one part of the flips: write one byte, ask, write it back."""
    found, (size, seed), (first, step) = Findings(), work, part
    started = time.perf_counter()
    for base, name, changes in flips(states, FLIPS[size], size, seed):
        state = states[base][-1]
        judge.copy.become(state)
        mine = changes[first::step]
        found.positions[f"{base}: {name}"] += len({position for position, _ in mine})
        for count, (position, value) in enumerate(mine):
            if name in LOG or count % 500 == 0:
                judge.copy.become(state)  # SQLite may have written to the files of the log
            _watch(count)
            with open(judge.copy.home / name, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), bytes([value]), position)
                verdict, lost = judge.verdict(base, log=name in LOG, verify=count % VERIFIED[size] == 0)
                os.pwrite(file.fileno(), state[name][position : position + 1], position)
            judge.copy.tidy(state)
            found.flips[f"{base}: {name}"] += 1
            found.verdicts["flip", verdict] += 1
            found.lost += [f"{base}: {name}, byte {position} → {value}: {line}" for line in lost]
        if judge.copy.differs(state, but=LOG):
            found.lost.append(f"{base}: {name}: reading has changed the index")
    found.flip_seconds = time.perf_counter() - started
    return found


def other_damages(
    judge: Judge, states: dict[str, list[State]], part: tuple[int, int], work: tuple[str, int]
) -> Findings:
    """Do one part of all other damages."""
    found, (first, step) = Findings(), part
    for count, damage in enumerate(itertools.islice(_others(states, *work), first, None, step)):
        _watch(count)
        judge.copy.become(states[damage.base][-1])
        judge.copy.apply(damage)
        verdict, lost = judge.verdict(damage.base, log=damage.of_the_log)
        found.verdicts[damage.kind, verdict] += 1
        if damage.kind != FOREIGN_LOG:
            found.lost += [f"{damage.base}: {damage.kind}: {damage.label}: {line}" for line in lost]
    return found


def _others(states: dict[str, list[State]], size: str, seed: int) -> Iterator[Damage]:
    """Every damage of the size "full"; in the size "ci" a sample, with each kind in it."""
    rng, kinds = random.Random(seed), set()
    for damage in damages(states, size, seed):
        if rng.randrange(OTHERS[size]) == 0 or damage.kind not in kinds:
            kinds.add(damage.kind)
            yield damage


def repairs(
    judge: Judge, states: dict[str, list[State]], truths: dict[str, Truth], part: tuple[int, int], work: tuple[str, int]
) -> Findings:
    """Do one part of the repairs, after a sample of the damages and of the flips."""
    found, (size, seed), (first, step) = Findings(), work, part
    every, some = REPAIRS[size]
    sample = [damage for damage in damages(states, size, seed) if damage.kind != FOREIGN_LOG]
    if len(sample) > every:
        sample = random.Random(seed).sample(sample, every)
    changes = [
        Damage(
            base, "flip", f"{name}, byte {position} → {value}", {name: _flipped(states, base, name, position, value)}
        )
        for base, name, all_of_them in flips(states, some, size, seed + 1)
        for position, value in all_of_them
    ]
    for number, damage in enumerate([*sample, *changes][first::step]):
        _watch(number)
        judge.copy.become(states[damage.base][-1])
        judge.copy.apply(damage)
        with alarm():
            outcome, lost = repaired(judge.copy, damage, judge.truths, truths, change=number % 4 == 0)
        found.repairs.update(outcome)
        found.lost += [f"repair: {damage.base}: {damage.kind}: {damage.label}: {line}" for line in lost]
    return found


def _flipped(states: dict[str, list[State]], base: str, name: str, position: int, value: int) -> bytes:
    content = bytearray(states[base][-1][name])
    content[position] = value
    return bytes(content)


def process(
    pipe: Connection, source: Path, states: dict[str, list[State]], truths: dict[str, Truth], task: tuple[Any, ...]
) -> None:
    """What one process does, in a copy of its own."""
    part, work = task
    import faiss

    faiss.omp_set_num_threads(1)
    remember_kmeans()
    signal.signal(signal.SIGALRM, _hang)
    folder = source.with_name(f"part{part[0]}")
    shutil.copytree(source / "pictures", folder / "pictures")
    os.chdir(folder)
    with spare_work():
        judge = Judge(Copy(folder), states)
        _limit_memory()
        found = flip(judge, states, part, work)
        found.add(other_damages(judge, states, part, work))
        found.add(repairs(judge, states, truths, part, work))
    pipe.send(found)
    pipe.close()


def _watch(count: int) -> None:
    """End the process, which its parent notices, where a call cannot be interrupted: asked once in 100 damages."""
    if count % 100 == 0:
        faulthandler.dump_traceback_later(100 * SECONDS, exit=True)


def _hang(number: int, frame: object) -> None:
    raise Hang(f"nothing came back within {SECONDS} seconds")


def _limit_memory() -> None:
    """Raise MemoryError where a call takes 1 GB more than now; without /proc there is no limit."""
    with contextlib.suppress(OSError):
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run(size: str, *, seed: int = 0) -> Figures:
    """Hurt two small indexes, one of them with a log that a crash left, in every way that is known."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="flips-", dir=memory) as temporary:
        source = Path(temporary) / "source"
        source.mkdir()
        with spare_work():
            states, truths = build(source)
        found = Findings()
        context = multiprocessing.get_context("spawn")
        children = []
        for number in range(PROCESSES[size]):
            ours, theirs = context.Pipe(duplex=False)
            task = ((number, PROCESSES[size]), (size, seed))
            child = context.Process(target=process, args=(theirs, source, states, truths, task))
            child.start()
            theirs.close()
            children.append((child, ours))
        for child, ours in children:
            try:
                found.add(ours.recv())
            except EOFError:
                found.lost.append("a process ended: something crashed, or hung where nothing could interrupt it")
            child.join()
    return _figures(found, states, size)


def _figures(found: Findings, states: dict[str, list[State]], size: str) -> Figures:
    kinds = sorted({kind for kind, _ in found.verdicts})
    table = {
        kind: {verdict: found.verdicts[kind, verdict] for verdict in VERDICTS if found.verdicts[kind, verdict]}
        for kind in kinds
    }
    flips = sum(found.flips.values())
    return {
        "files": {base: {name: len(content) for name, content in states[base][-1].items()} for base in ("now", "log")},
        "flips": flips,
        "flips_that_verify_looked_at": flips // VERIFIED[size],
        "flips_per_second": round(flips / found.flip_seconds) if found.flip_seconds else 0,
        "flips_by_file": dict(found.flips),
        "positions_by_file": dict(found.positions),
        "other_damages": sum(found.verdicts.values()) - flips,
        "verdicts": table,
        "repairs": dict(found.repairs),
        "lost": found.lost if len(found.lost) < 200 else [*found.lost[:200], f"and {len(found.lost) - 200} more"],
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main("flips", run)
