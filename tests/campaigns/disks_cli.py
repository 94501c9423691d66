"""The command `imgindex` with the encoder of the tests, which needs no network: python disks_cli.py ARGUMENTS."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from grid_mean import GridMean

from imgindex import ImageIndex
from imgindex.cli.app import main

if __name__ == "__main__":
    ImageIndex.encoder = property(lambda self: GridMean(batch_size=2))  # type: ignore[assignment,method-assign]
    main()
