"""Decodes in a pool of processes, so that a decoder that hangs, crashes or eats memory costs one image.

Memory is bounded, whatever the images contain: the processes take at most workers × DecodeLimits.memory, and what waits
in queues is bounded by `lookahead.map_ahead`. Ordinary images need far less: about 12 bytes a pixel. Images of more
than LARGE_PIXELS are decoded one at a time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from imgindex.decoding.process import (
    DecodedImage,
    DecodeLimits,
    DecoderDied,
    DecoderProcess,
    Outcome,
    Task,
)
from imgindex.errors import DecoderUnavailable, UnreadableImage
from imgindex.recipe import Recipe

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


# Images that a process is given at once, and the bytes of their pixels, unless one alone has more.
LOT, LOT_BYTES = 32, 10 << 20


class DecoderPool:
    """Decodes by one recipe, in as many processes as threads call `work` or `decode` at the same time.

    hashes: compute the perceptual hashes of each picture too. Processes start when they are needed. They end with
    `close`, or by themselves when this process dies.
    """

    def __init__(self, recipe: Recipe, limits: DecodeLimits | None = None, *, hashes: bool = False) -> None:
        self._recipe, self._hashes = recipe, hashes
        self.picture_bytes = 3 * recipe.side**2
        # How many tasks `work` takes at once.
        self.lot = max(1, min(LOT, LOT_BYTES // self.picture_bytes))
        self._limits = limits or DecodeLimits()
        self._lock = threading.Lock()
        self._large_image_lock = threading.Lock()
        self._processes: set[DecoderProcess] = set()
        self._idle: list[DecoderProcess] = []
        self._times_closed = 0
        self._owner_pid = os.getpid()

    def start(self) -> None:
        """Start a process, unless one is running, without waiting for it. Raises DecoderUnavailable."""
        if not self._processes:
            started = self._start(self._times_closed)
            with self._lock:
                self._idle.append(started)

    def decode(self, data: bytes) -> DecodedImage:
        """Return the picture in a file's bytes, prepared by the recipe. Any thread may call this.

        Raises UnreadableImage, whatever the bytes do to the decoder; DecoderUnavailable if no process can be started.
        """
        (outcome,) = self.work([Task(data=data)])
        if isinstance(outcome, UnreadableImage):
            raise outcome
        assert outcome.picture is not None
        return outcome.picture

    def work(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Return what came of each of at most `lot` tasks, whatever one of them does to the decoder.

        Any thread may call this. Raises DecoderUnavailable if no process can be started.
        """
        with self._lock:
            times_closed = self._times_closed
        outcomes: list[Outcome | None] = [None] * len(tasks)
        # Lots that are still to be done, as numbers of tasks, and whether a new process has to do them.
        lots = [(list(range(len(tasks))), False)]
        while lots:
            numbers, is_fresh = lots.pop()
            process = self._take(times_closed, is_fresh=is_fresh)
            was_used = process.used
            try:
                found = self._work_in(process, [tasks[number] for number in numbers], times_closed)
            except DecoderDied as death:
                if death.outcomes is None and len(numbers) > 1:
                    lots += [([number], False) for number in reversed(numbers)]
                    continue
                found = death.outcomes or []
                rest = numbers[len(found) + 1 :]
                if rest:
                    lots.append((rest, False))
                if death.timed_out or not (was_used or found):
                    found = [*found, UnreadableImage(str(death))]
                else:
                    # An earlier image may have corrupted the process: only a new one's death is this image's fault.
                    lots.append(([numbers[len(found)]], True))
            for number, outcome in zip(numbers, found, strict=False):
                outcomes[number] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self) -> None:
        """End all processes, busy ones too; a waiting `decode` raises DecoderUnavailable or UnreadableImage."""
        if os.getpid() != self._owner_pid:
            return  # in a forked child: the processes belong to its parent
        with self._lock:
            self._times_closed += 1
            idle, self._idle = self._idle, []
            for process in self._processes:
                process.kill()
        for process in idle:
            self._discard(process)

    def _take(self, times_closed: int, *, is_fresh: bool) -> DecoderProcess:
        """Return an idle process, or start one."""
        with self._lock:
            if self._idle and not is_fresh and times_closed == self._times_closed:
                return self._idle.pop()
        return self._start(times_closed)

    def _start(self, times_closed: int) -> DecoderProcess:
        started = DecoderProcess(self._settings(), self._limits, self._recipe, self.lot)
        with self._lock:
            self._processes.add(started)
            closed_meanwhile = times_closed != self._times_closed
        if closed_meanwhile:
            self._discard(started)
            raise DecoderUnavailable("decoding was ended")
        return started

    def _settings(self) -> dict[str, Any]:
        return {
            "recipe": self._recipe.to_json(),
            "hashes": self._hashes,
            "seconds": self._limits.seconds,
            "memory": self._limits.memory,
            # Not "": a worker must not import modules from the current folder.
            "path": [os.path.abspath(entry) for entry in sys.path if entry],
            "package": PACKAGE_FOLDER,
        }

    def _work_in(self, process: DecoderProcess, tasks: Sequence[Task], times_closed: int) -> list[Outcome]:
        """Let one process work, and keep it for the next lot if it survived and the pool was not closed."""
        survived = False
        try:
            outcomes = process.work(tasks, self._large_image_lock)
            survived = True
            return outcomes
        finally:
            with self._lock:
                kept = survived and times_closed == self._times_closed
                if kept:
                    self._idle.append(process)
            if not kept:
                self._discard(process)

    def _discard(self, process: DecoderProcess) -> None:
        with self._lock:
            self._processes.discard(process)
        process.end()
