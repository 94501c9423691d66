"""Work for nodes in tests of what starts it: it doubles numbers, dies, and raises errors."""

from __future__ import annotations

import os
import signal

from imgindex.errors import SourceUnavailable, WeightsUnavailable


class Work:
    def __init__(self, word: str) -> None:
        if word == "missing":
            raise WeightsUnavailable("there is no word", hint="give one")
        self.word = word

    def describe(self) -> str:
        return self.word

    def double(self, number: int) -> int:
        return 2 * number

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse(self) -> None:
        raise SourceUnavailable("the server is away")

    def break_down(self) -> float:
        return 1 / 0
