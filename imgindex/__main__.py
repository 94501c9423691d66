"""`python -m imgindex` and the command `imgindex`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Load the command line and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line is loaded there is nothing to undo: Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    from imgindex.cli.app import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
