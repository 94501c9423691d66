"""Decodes in a pool of processes, so that a decoder that hangs, crashes or eats memory costs one image.

Memory is bounded, whatever the images contain: the processes take at most workers × DecodeLimits.memory, and what waits
in queues is bounded by `lookahead.map_ahead`. Ordinary images need far less: about 12 bytes a pixel. Images of more
than LARGE_PIXELS are decoded one at a time.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from imgindex.decoding.process import DecodedImage, DecodeLimits, DecoderDied, DecoderProcess
from imgindex.errors import DecoderUnavailable, UnreadableImage
from imgindex.recipe import Recipe

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class DecoderPool:
    """Decodes by one recipe, in as many processes as threads call `decode` at the same time.

    hashes: compute the perceptual hashes of each picture too. draft_factor: that of `decode`; None for its default.
    Processes start when they are needed. They end with `close`, or by themselves when this process dies.
    """

    def __init__(
        self,
        recipe: Recipe,
        limits: DecodeLimits | None = None,
        *,
        hashes: bool = False,
        draft_factor: int | None = None,
    ) -> None:
        self._recipe, self._hashes, self._draft_factor = recipe, hashes, draft_factor
        self.picture_bytes = 3 * recipe.side**2
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
        with self._lock:
            times_closed = self._times_closed
            process = self._idle.pop() if self._idle else None
        if process is not None and process.used:
            try:
                return self._decode_in(process, data, times_closed)
            except DecoderDied as death:
                if death.timed_out:
                    raise UnreadableImage(str(death)) from death
            # An earlier image may have corrupted that process: only a new process's death is this image's fault.
            process = None
        try:
            return self._decode_in(process or self._start(times_closed), data, times_closed)
        except DecoderDied as death:
            raise UnreadableImage(str(death)) from death

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

    def _start(self, times_closed: int) -> DecoderProcess:
        started = DecoderProcess(self._settings(), self._limits, self._recipe.side)
        with self._lock:
            self._processes.add(started)
            closed_meanwhile = times_closed != self._times_closed
        if closed_meanwhile:
            self._discard(started)
            raise DecoderUnavailable("decoding was ended")
        return started

    def _settings(self) -> bytes:
        settings = {
            "recipe": self._recipe.to_json(),
            "hashes": self._hashes,
            "draft_factor": self._draft_factor,
            "seconds": self._limits.seconds,
            "memory": self._limits.memory,
            # Not "": a worker must not import modules from the current folder.
            "path": [os.path.abspath(entry) for entry in sys.path if entry],
            "package": PACKAGE_FOLDER,
        }
        return json.dumps(settings).encode()

    def _decode_in(self, process: DecoderProcess, data: bytes, times_closed: int) -> DecodedImage:
        """Decode in one process, and keep it for the next image if it survived and the pool was not closed."""
        survived = False
        try:
            decoded = process.decode(data, self._large_image_lock)
            survived = True
            return decoded
        except UnreadableImage:
            survived = True
            raise
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
