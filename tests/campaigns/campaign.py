"""What every campaign shares: run it by hand, print its figures, keep them.

A campaign is a module with `run(size, seed) -> dict`: its figures, and under "lost" a line for each promise that did
not hold. `make test` runs the size `ci`, always with the seed 0: a tenth of a minute or so. The figures of the size
`full` stand in docs/reliability.md; it takes a new seed each time, prints it, and repeats a run with the seed given:

    python tests/campaigns/flips.py --size full --out tests/campaigns/results/flips.json
    python tests/campaigns/flips.py --size full --seed 1234
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))  # by hand as under pytest: `from grid_mean import GridMean`

from imgindex.ingest import store_recorder  # noqa: E402  the path is only now complete

# Each batch is committed when it is done: what a campaign counts as acknowledged is the progress of `add`, and the more
# commits there are, the more moments it tries.
store_recorder.COMMIT_SECONDS = 0.0

Figures = dict[str, Any]
SIZES = ("ci", "full")


def main(name: str, run: Callable[..., Figures]) -> None:
    """Run a campaign from the command line; exit with 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=f"The campaign {name}.")
    parser.add_argument("--size", choices=SIZES, default="ci")
    parser.add_argument("--seed", type=int, help="repeat the run with this seed (default: a new one; 0 for ci)")
    parser.add_argument("--out", type=Path, help="keep the figures in this JSON file")
    arguments = parser.parse_args()
    seed = arguments.seed
    if seed is None:
        seed = secrets.randbelow(10**6) if arguments.size == "full" else 0
    print(f"{name}: size {arguments.size}, seed {seed} (--seed {seed} repeats it)", file=sys.stderr, flush=True)
    started = time.perf_counter()
    figures = run(arguments.size, seed=seed)
    result = {
        "campaign": name,
        "size": arguments.size,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "date": date.today().isoformat(),
        "machine": machine(),
        "figures": figures,
    }
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    sys.exit(1 if figures["lost"] else 0)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import sqlite3

    packages = ("faiss-cpu", "numpy", "pillow", "torch")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in packages},
    }
