"""`python -m imgindex` and the command `imgindex`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Load the command line and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C while the command line is loaded, when there is nothing to undo and nothing worth a traceback.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    from imgindex.cli.app import main as command

    command()


if __name__ == "__main__":
    main()
