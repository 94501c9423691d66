"""Full disks, read-only disks, folders of other users, and limits on the size of files; real disks, real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import campaign
from campaign import Figures, main
from disks_index import Bench, Commands, nothing
from disks_reading import look_only

MOUNTED = Path(__file__).with_name("disks_mounted.py")
NOBODY = 65534
TRY = "mount -t tmpfs -o size=1m tmpfs {0} && mount -o remount,size=2m {0} && mount -o remount,ro {0}"
LIMITS = {"ci": 2, "full": 24}
TOO_LARGE = ("File too large", "disk I/O error", "No space left on device")


def unshare() -> list[str]:
    """Return how to start a process that may mount disks that only it sees; an empty list where that is forbidden."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        with tempfile.TemporaryDirectory() as folder:
            if shutil.which("unshare") is None:
                return []
            tried = subprocess.run([*command, "sh", "-c", TRY.format(folder)], capture_output=True, check=False)
            if tried.returncode == 0:
                return command
    return []


def mounted(folder: Path, size: str, seed: int) -> Figures:
    """Run what needs disks of its own. Raises CalledProcessError where that itself breaks."""
    command = [*unshare(), sys.executable, str(MOUNTED), str(folder), size, str(seed)]
    environment = os.environ | {"PYTHONPATH": str(campaign.TESTS.parent)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def limits(bench: Bench, size: str, chance: random.Random) -> None:
    """No file may grow beyond a limit, as with quotas: most limits make a command fail halfway."""
    for most in sorted(chance.sample(range(500, 60_500, 500), LIMITS[size])):
        for name in ("add",) if size == "ci" else ("add", "remove", "export"):
            bench.trial("limit on files", name, nothing, nothing, reasons=TOO_LARGE, limit=most)


def other_people(bench: Bench) -> None:
    """An index in a folder of another user: it can be read, but not written to."""
    bench.lay_out()
    everything = [bench.place, bench.index, *bench.index.rglob("*")]
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        # Root without its capabilities is like any other user; a real other user may not be able to run this Python.
        options["unprivileged"] = True
        for path in everything:
            os.chown(path, NOBODY, NOBODY)
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    bench.lost += [f"other people's folder: {line}" for line in look_only(bench, "other people's", **options)]
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o644)


def run(size: str, *, seed: int = 0) -> Figures:
    tried: Counter[str] = Counter()
    lost: list[str] = []
    with tempfile.TemporaryDirectory(prefix="imgindex-disks-") as folder:
        home = Path(folder).resolve()
        home.chmod(0o755)
        for part in ("here", "mounted"):
            (home / part).mkdir()
        with contextlib.closing(Commands()) as imgindex:
            bench = Bench(home / "here", home / "here" / "place", imgindex)
            bench.place.mkdir()
            bench.prepare()
            limits(bench, size, random.Random(seed))
            other_people(bench)
        tried += bench.tried
        lost += bench.lost
        disks = bool(unshare())
        if disks:
            figures = mounted(home / "mounted", size, seed)
            tried.update(figures["tried"])
            lost += figures["lost"]
    return {"disks mounted": disks, "tried": dict(sorted(tried.items())), "lost": lost}


if __name__ == "__main__":
    main("disks", run)
