"""Decoding in processes of their own, so that a decoder's hang, crash or hunger for memory costs one image.

Memory is bounded by workers × Limits.memory, however many the images are and whatever they contain, and by what waits
in queues here (see `pipeline.ahead`). Honest pictures come nowhere near: they take about 12 bytes a pixel, and of those
above LARGE_PIXELS one is decoded at a time.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from imgindex.embedding.decoder import Decoded, Decoder, Died, Limits
from imgindex.embedding.recipe import Recipe
from imgindex.errors import DecoderUnavailable, UnreadableImage

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Decoders:
    """Decodes for one recipe, in as many processes as there are threads that ask at the same time.

    Processes start when they are wanted, and end with `close`, or by themselves when this one dies.
    """

    def __init__(self, recipe: Recipe, limits: Limits | None = None) -> None:
        self._recipe = recipe
        self.picture_bytes = 3 * recipe.side**2
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._all: set[Decoder] = set()
        self._idle: list[Decoder] = []
        self._closed = 0  # how often
        self._home = os.getpid()

    def start(self) -> None:
        """Have a process start, unless one is there, without waiting for it. Raises DecoderUnavailable."""
        if not self._all:
            started = self._start(self._closed)
            with self._lock:
                self._idle.append(started)

    def decode(self, data: bytes) -> Decoded:
        """Return the picture that a file's bytes contain, as the recipe wants it.

        Raises UnreadableImage whatever the bytes do, DecoderUnavailable when no process can be had.
        """
        with self._lock:
            closed = self._closed
            chosen = self._idle.pop() if self._idle else None
        if chosen is not None and chosen.used:
            try:
                return self._ask(chosen, data, closed)
            except Died as death:
                if death.late:
                    raise UnreadableImage(str(death)) from death
            # It may have died of what earlier pictures had left in it: only a new one's death is this picture's.
            chosen = None
        try:
            return self._ask(chosen or self._start(closed), data, closed)
        except Died as death:
            raise UnreadableImage(str(death)) from death

    def close(self) -> None:
        """End all processes, those at work too; whoever waits for one is told DecoderUnavailable or UnreadableImage."""
        if os.getpid() != self._home:
            return  # a forked child's: they work for its parent
        with self._lock:
            self._closed += 1
            idle, self._idle = self._idle, []
            for decoder in self._all:
                decoder.kill()
        for decoder in idle:
            self._discard(decoder)

    def _start(self, closed: int) -> Decoder:
        started = Decoder(self._settings(), self._limits, self._recipe.side)
        with self._lock:
            self._all.add(started)
            wanted = closed == self._closed
        if not wanted:
            self._discard(started)
            raise DecoderUnavailable("decoding was ended")
        return started

    def _settings(self) -> bytes:
        settings = {
            "recipe": self._recipe.to_json(),
            "seconds": self._limits.seconds,
            "memory": self._limits.memory,
            # Not "": what lies in the current folder has no business there.
            "path": [os.path.abspath(entry) for entry in sys.path if entry],
            "package": PACKAGE,
        }
        return json.dumps(settings).encode()

    def _ask(self, decoder: Decoder, data: bytes, closed: int) -> Decoded:
        sound = False
        try:
            decoded = decoder.ask(data, self._turn)
            sound = True
            return decoded
        except UnreadableImage:
            sound = True
            raise
        finally:
            with self._lock:
                kept = sound and closed == self._closed
                if kept:
                    self._idle.append(decoder)
            if not kept:
                self._discard(decoder)

    def _discard(self, decoder: Decoder) -> None:
        with self._lock:
            self._all.discard(decoder)
        decoder.end()
