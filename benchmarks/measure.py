"""What every benchmark shares: the machine and versions, timed rounds, the peak memory of a child, the JSON file.

Import it before numpy: it unsets OPENBLAS_CORETYPE, which some machines set and which slows numpy.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.pop("OPENBLAS_CORETYPE", None)

PACKAGES = (
    "torch",
    "torchvision",
    "faiss-cpu",
    "numpy",
    "scikit-learn",
    "pillow",
    "sqlite-utils",
    "openvino",
    "hnswlib",
    "usearch",
    "pymilvus",
    "milvus",
    "ray",
)
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Row = dict[str, Any]


def machine() -> dict[str, Any]:
    """Describe this machine: CPU, cores that this process may use, vector instructions, memory, system, Python."""
    model, flags = platform.processor() or platform.machine(), []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        facts = {name.strip(): value.strip() for name, value in fields.items()}
        model = facts.get("model name", model)
        flags = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": cores,
        "flags": flags,
        "memory_gib": round(memory / 2**30, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of those PACKAGES that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def installed(module: str) -> bool:
    """Return whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def timed(task: Callable[[], Any]) -> tuple[float, Any]:
    """Run a task once; return its seconds by perf_counter, and its result."""
    started = time.perf_counter()
    result = task()
    return time.perf_counter() - started, result


def median_seconds(task: Callable[[], Any], rounds: int = 5, warm_up: int = 1) -> float:
    """Run a task `warm_up` times uncounted, then `rounds` times, and return the median in seconds."""
    for _ in range(warm_up):
        task()
    return statistics.median(timed(task)[0] for _ in range(rounds))


def in_child(arguments: list[str]) -> dict[str, Any]:
    """Run Python with these arguments in a process of its own, and return the JSON object that it prints last."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def processor_seconds() -> float:
    """Return the processor time of this process and of the decoder processes that have ended."""
    import resource

    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in of)


def peak_mib() -> float:
    """Return the largest resident size of this process so far, in MiB: VmHWM, or ru_maxrss on other systems than Linux.

    On Linux the ru_maxrss of a child starts at the size of its parent, so it would hide the memory of the child.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def report(benchmark: str, rows: list[Row], out: str | None, **facts: Any) -> None:
    """Print the rows as a table without their lists; write them to `out`, with machine and versions, if it is given."""
    columns = [name for name, value in rows[0].items() if not isinstance(value, list)]
    table = [columns] + [[_cell(row[name]) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if out:
        content = {"benchmark": benchmark, "machine": machine(), "versions": versions(), **facts, "rows": rows}
        Path(out).write_text(json.dumps(content, indent=2) + "\n")


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
