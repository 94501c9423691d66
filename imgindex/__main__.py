"""`python -m imgindex` and the command `imgindex`."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys

from imgindex.errors import OUT_OF_MEMORY, is_out_of_memory

# A limit in bytes below which numpy cannot have a thread for each of many cores.
SMALL = 4 << 30
# How a process ends if a library does not check whether it got the memory that it asked for.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


ENDED_BY_ITSELF = b"."


def main() -> None:
    """Load the command line and run it."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    limit = min((one for one in limits if one != resource.RLIM_INFINITY), default=None)
    if limit is None:
        _run()
        return
    to_parent = _continue_in_child(limit)
    _silence_libraries()
    try:
        _run()
    finally:
        os.write(to_parent, ENDED_BY_ITSELF)


def _run() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line is loaded there is nothing to undo: Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    try:
        from imgindex.cli.app import main as run_command_line

        run_command_line()
    except SystemExit:
        raise
    except BaseException as error:
        # The command line reports every other error, and this one as far as it has memory for that.
        if not is_out_of_memory(error):
            raise
        _report()
        sys.exit(1)


def _continue_in_child(limit: int) -> int:
    """Return in a child process, whose exit code this process ends with: under a limit, libraries crash for memory.

    Returns the descriptor of a pipe, to which the child writes ENDED_BY_ITSELF before it ends.
    """
    if limit < SMALL:
        # OpenBLAS presses Ctrl-C if it cannot start a thread for each core.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from_child, to_parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(from_child)
        return to_parent
    os.close(to_parent)
    # The terminal sends Ctrl-C to the child too, which ends in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.set_blocking(from_child, False)
    # OpenBLAS ends the process with 1.
    if -code in CRASHES or (code == 1 and not _has_ended_by_itself(from_child)):
        _report()
        code = 1
    if code < 0:
        # Ends as the child did, for the shell that waits for it.
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _has_ended_by_itself(from_child: int) -> bool:
    try:
        return os.read(from_child, 1) == ENDED_BY_ITSELF
    except BlockingIOError:  # a process that the child has started still holds the pipe
        return False


def _silence_libraries() -> None:
    """Give sys.stderr a descriptor of its own: libraries that get no memory print several lines on number 2."""
    with contextlib.suppress(OSError, AttributeError):
        own = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors)
        own.reconfigure(line_buffering=True)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stderr.fileno())
        os.close(null)
        sys.stderr = own


def _report() -> None:
    if sys.stderr is not None:
        os.write(sys.stderr.fileno(), f"imgindex: error: {OUT_OF_MEMORY}\n".encode())


if __name__ == "__main__":
    main()
