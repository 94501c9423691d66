"""How the caller of a long run follows it and ends it early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imgindex.types import OnProgress


@dataclass(frozen=True, slots=True)
class RunControl:
    """The caller's functions for one run.

    on_progress: called with each Progress. stop: called after each batch; True ends the run. wait: whether to wait
    while another process writes to the index.
    """

    on_progress: OnProgress = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    wait: bool = False

    def go_on_waiting(self) -> bool:
        """Return whether to wait for the other writer. Raises KeyboardInterrupt if `stop` ends the wait."""
        if self.wait and self.stop():
            raise KeyboardInterrupt
        return self.wait
