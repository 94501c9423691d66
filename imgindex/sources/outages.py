"""Remembers for a few seconds which servers did not answer, so that not every image waits for each of them."""

from __future__ import annotations

import time

from imgindex.errors import SourceUnavailable

# Seconds: longer than the pauses between images of one command, shorter than a person takes to repair something.
REMEMBERED = 10.0


class Outages:
    """The servers of one source that did not answer a moment ago."""

    def __init__(self) -> None:
        self._errors: dict[str, tuple[float, str, str]] = {}

    def check(self, place: str) -> None:
        """Raise the SourceUnavailable again that a place had a moment ago."""
        if place in self._errors:
            until, reason, hint = self._errors[place]
            if time.monotonic() < until:
                raise SourceUnavailable(reason, hint=hint)
            self._errors.pop(place, None)

    def note(self, place: str, error: SourceUnavailable) -> None:
        """Remember an error of a place."""
        self._errors[place] = (time.monotonic() + REMEMBERED, str(error), error.hint)

    def forget(self) -> None:
        """Let every server be asked again: a new command begins."""
        self._errors.clear()
