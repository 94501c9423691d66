"""`python -m imgindex` and the command `imgindex`."""

from __future__ import annotations

import os
import resource
import signal
import sys

OUT_OF_MEMORY = b"imgindex: error: out of memory\n"
# How a process ends if a library does not check whether it got the memory that it asked for.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


def main() -> None:
    """Load the command line and run it."""
    is_limited = any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in _limits())
    if is_limited:
        _continue_in_child()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line is loaded there is nothing to undo: Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    try:
        from imgindex.cli.app import main as run_command_line

        run_command_line()
    except Exception as error:
        from imgindex.errors import is_out_of_memory

        # The command line reports every error, but for lack of memory: then Python may raise a SystemError.
        if not is_out_of_memory(error) and not (is_limited and isinstance(error, SystemError)):
            raise
        os.write(2, OUT_OF_MEMORY)
        sys.exit(1)


def _limits() -> tuple[int, ...]:
    return resource.RLIMIT_AS, resource.RLIMIT_DATA


def _continue_in_child() -> None:
    """Return in a child process, whose exit code this process ends with: under a limit, libraries crash for memory."""
    child = os.fork()
    if child == 0:
        return
    # The terminal sends Ctrl-C to the child too, which ends in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if -code in CRASHES:
        os.write(2, OUT_OF_MEMORY)
        code = 1
    if code < 0:
        # Ends as the child did, for the shell that waits for it.
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
