"""`python -m imgindex` and the command `imgindex`."""

from __future__ import annotations

import os
import resource
import signal
import sys

from imgindex.errors import OUT_OF_MEMORY, is_out_of_memory

# A limit in bytes below which numpy cannot have a thread for each of many cores.
SMALL = 4 << 30
# How a process ends if a library does not check whether it got the memory that it asked for.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


def main() -> None:
    """Load the command line and run it."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    limit = min((one for one in limits if one != resource.RLIM_INFINITY), default=None)
    if limit is not None:
        _continue_in_child(limit)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line is loaded there is nothing to undo: Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    try:
        from imgindex.cli.app import main as run_command_line

        run_command_line()
    except Exception as error:
        # The command line reports every other error, and this one as far as it has memory for that.
        if not is_out_of_memory(error):
            raise
        _report()
        sys.exit(1)


def _continue_in_child(limit: int) -> None:
    """Return in a child process, whose exit code this process ends with: under a limit, libraries crash for memory."""
    if limit < SMALL:
        # OpenBLAS presses Ctrl-C if it cannot start a thread for each core.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    child = os.fork()
    if child == 0:
        return
    # The terminal sends Ctrl-C to the child too, which ends in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if -code in CRASHES:
        _report()
        code = 1
    if code < 0:
        # Ends as the child did, for the shell that waits for it.
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _report() -> None:
    os.write(2, f"imgindex: error: {OUT_OF_MEMORY}\n".encode())


if __name__ == "__main__":
    main()
