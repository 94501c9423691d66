"""The entry point under limits of memory: one line and exit code 1, whichever library fails for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import draw

KIB = 1 << 10  # of a MiB
# Where Python itself, numpy, FAISS and torch fail, in MiB of addresses.
LIMITS = (40, 60, 180, 300, 500, 900)


def limited(folder: Path, *arguments: str, mib: int) -> subprocess.CompletedProcess[str]:
    # By a shell: gRPC, which other tests use in this process, does not survive the fork that a function here needs.
    command = ["bash", "-c", 'ulimit -v "$0"; exec "$@"', str(mib * KIB), sys.executable, "-m", "imgindex", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("mib", LIMITS)
@pytest.mark.parametrize("command", [["similar", "new.png"], ["cluster", "-k", "2", "-q"]], ids=lambda words: words[0])
def test_too_little_memory_is_one_line(three: Path, command: list[str], mib: int) -> None:
    draw(three / "new.png", 99)
    done = limited(three, *command, mib=mib)
    if done.returncode == 0:
        assert done.stdout
        return
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("imgindex: error: out of memory")


def test_enough_memory_changes_nothing(three: Path) -> None:
    done = limited(three, "list", "--format", "paths", mib=4000)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    assert limited(three, "list", "--index", "absent", mib=4000).returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_reach_the_command_under_a_limit(three: Path, number: int, code: int) -> None:
    command = f"ulimit -v 4000000; exec {sys.executable} -m imgindex similar - --format jsonl"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(["bash", "-c", command], cwd=three, start_new_session=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"pictures/0.png\n" * 300)
        process.stdin.flush()
        assert process.stdout.read(1)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
