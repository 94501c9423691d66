"""What reading and writing commands do where nothing may be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disks_index import Bench, commands, failed_badly

REFUSED = ("Read-only file system", "Permission denied", "readonly database", "read-only")
UNREAD = "unable to open database file"  # SQLite, of a log that it would have to write beside


def look_only(bench: Bench, kind: str, *, log: str = "no log", **options: Any) -> Iterator[str]:
    """Run every command; yield what is wrong. options: for the processes."""
    before = bytes_below(bench.index)
    picture = bench.pictures / "2.png"
    readers = [
        ["status"],
        ["list"],
        ["failures"],
        ["verify", "--full"],
        ["similar", str(picture)],
        ["cluster", "-k", "2"],
        ["export", "--out", str(bench.folder / "elsewhere" / "vectors.csv")],
        ["add", "--dry-run", str(bench.pictures)],
    ]
    (bench.folder / "elsewhere").mkdir(exist_ok=True)
    (bench.folder / "elsewhere").chmod(0o777)
    for arguments in readers:
        done = bench.imgindex(*arguments, "--index", bench.index, **options)
        bench.tried[f"{kind}: read"] += 1
        wrong = [f"exit code {done.returncode}, {done.stderr.strip()}"] if done.returncode else []
        # If the last commit is in a log that cannot be read here, there has to be an error and never an old answer.
        if log == "a log" and done.returncode:
            wrong = list(failed_badly(done))
            bench.tried[f"{kind}: no answer, as the log cannot be read"] += 1
        elif log == "a log" and "1.png" in done.stdout and arguments[0] == "list":
            wrong = ["an answer from before the last commit"]
        yield from (f"{arguments[0]}: {line}" for line in wrong)
    for name in [name for name in ("add", "remove", "compact", "repair") if name in commands()]:
        done = bench.imgindex(*bench.command(name), **options)
        bench.tried[f"{kind}: write"] += 1
        yield from (f"{name}: {line}" for line in failed_badly(done, *REFUSED, *((UNREAD,) if log == "a log" else ())))
    after = bytes_below(bench.index)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if changed:
        yield f"changed: {changed}"


def bytes_below(folder: Path) -> dict[str, bytes | None]:
    return {os.path.relpath(path, folder): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
