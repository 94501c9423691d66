"""`imgindex export`: the vectors in each kind of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from forking import Run


@pytest.mark.parametrize("ending", ["npz", "npy", "parquet", "csv"])
def test_export_writes_what_python_sees(run: Run, added: Path, tmp_path: Path, ending: str) -> None:
    from imgindex import ImageIndex

    assert run("export", "--out", f"vectors.{ending}").returncode == 0
    with ImageIndex.open(tmp_path / ".imgindex") as index:
        ids, paths, vectors = index.ids(), index.paths(), index.vectors()
    path = tmp_path / f"vectors.{ending}"
    names = [str(Path(name).relative_to(tmp_path)) for name in paths]
    if ending == "npz":
        with np.load(path, allow_pickle=False) as file:
            assert file["vectors"].dtype == np.float32
            np.testing.assert_array_equal(file["vectors"], vectors)
            np.testing.assert_array_equal(file["ids"], ids)
            assert file["paths"].tolist() == names
    elif ending == "npy":
        np.testing.assert_array_equal(np.load(path, allow_pickle=False), vectors)
    else:
        import pandas as pd

        frame = pd.read_parquet(path) if ending == "parquet" else pd.read_csv(path)
        assert frame["path"].tolist() == names
        got = np.stack(frame["vector"]) if ending == "parquet" else frame.iloc[:, 2:].to_numpy(np.float32)
        np.testing.assert_array_equal(got, vectors)
